#!/usr/bin/env python3
"""Make a full-size BART in KoBART's shape with random weights, to try the real job without a network.

    python scripts/make_kobart_like.py --out DIR          # a plain folder, for model.checkpoint=DIR
    python scripts/make_kobart_like.py --hub-cache DIR    # as the hub's own cache, for HF_HUB_CACHE=DIR

The model knows nothing. Sizes, ids, file layout and the tokenizer's make are KoBART's, so loading, memory and
speed are those of the real job; scores are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BartConfig, BartForConditionalGeneration
from transformers.utils.logging import disable_progress_bar

from dlgsum.config.schema import Data
from dlgsum.core.files import new_folder, write_text_atomic
from dlgsum.data.sources import load_splits, resolve_files
from dlgsum.models.choice import KOBART
from dlgsum.models.tokenizer import TAG

# The order is KoBART's, so that every id means the same.
CONTROL: Final = ("<s>", "</s>", "<usr>", "<pad>", "<sys>", "<unk>", "<mask>")
UNUSED: Final = tuple(f"<unused{number}>" for number in range(100))
NAMED: Final = {
    "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
# Set explicitly and written out: they are BART's own defaults, so that transformers would leave them unsaid.
LEGACY: Final[dict[str, Any]] = {"decoder_start_token_id": 2, "forced_eos_token_id": 2}
FULL: Final = {"vocab_size": 30_000, "d_model": 768, "layers": 6, "heads": 16, "ffn": 3072}
TINY: Final = {"vocab_size": 3000, "d_model": 64, "layers": 2, "heads": 4, "ffn": 256}
# Minutes on two cores; without these settings the job is as long as with the real weights.
TRIAL: Final = (
    "data=sample training.max_steps=3 training.per_device_train_batch_size=4 data.max_train_samples=64 "
    "data.max_eval_samples=8 generation.num_beams=2"
)
MARK: Final = "random_weights"  # a key in config.json that tells these folders from a real checkpoint
README: Final = """# A model that knows nothing

BART in the shape of {name}, with random weights, made by `scripts/make_kobart_like.py`.
Its summaries are noise. It exists to try loading, memory and speed without a network; do not fine-tune it for
use, publish it, or compare its scores with anything.

{parameters:.1f}M parameters. {vocab_size} tokens: {learned} control tokens and pieces learned from the dialogues that
come with dlgsum, and {filler} fillers that no text ever becomes.
"""


def main() -> int:
    """Write what the command line asks for and say how to use it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="DIR", help="write a plain checkpoint folder")
    where.add_argument("--hub-cache", type=Path, metavar="DIR", help=f"write {KOBART} into a hub cache of its own")
    parser.add_argument("--tiny", action="store_true", help="2+2 layers of width 64, for tests")
    options = parser.parse_args()
    sizes = TINY if options.tiny else FULL
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        if options.hub_cache is not None:
            folder, command = write_hub_cache(options.hub_cache, sizes)
        else:
            folder, command = write_folder(options.out, sizes)
    except (FileExistsError, ValueError) as error:
        print(f"make_kobart_like.py: {error}", file=sys.stderr)
        return 2
    print(f"wrote {folder}")
    for file in sorted(folder.iterdir()):
        print(f"  {file.stat().st_size / 1e6:8.2f} MB  {file.name}")
    print(f"random weights: good for trying the job, useless as a model\n\n{command}")
    return 0


def write_folder(folder: Path, sizes: dict[str, int]) -> tuple[Path, str]:
    """Write a plain checkpoint folder; return it and a command that uses it.

    Raises:
        FileExistsError: something that this script did not make is there.
    """
    folder = folder.expanduser().resolve()
    _refuse_to_replace(folder, folder)
    with new_folder(folder) as temporary:
        write_checkpoint(temporary, sizes)
    return folder, f"dlgsum train model=kobart {shlex.quote(f'model.checkpoint={folder}')} {TRIAL}"


def write_hub_cache(cache: Path, sizes: dict[str, int]) -> tuple[Path, str]:
    """Write the checkpoint as the hub's client would have stored it; return its snapshot and a command.

    Raises:
        FileExistsError: the real checkpoint, or something else, is there.
        ValueError: the cache is the one that every other program uses.
    """
    from huggingface_hub import constants

    cache = cache.expanduser().resolve()
    if cache == (Path(constants.HF_HOME) / "hub").expanduser().resolve():
        raise ValueError(
            f"{cache} is the cache that every program uses, and model=auto would take the random weights for the "
            "real ones; choose another folder"
        )
    folder = cache / f"models--{KOBART.replace('/', '--')}"
    refs = folder / "refs" / "main"
    if folder.exists():
        known = refs.read_text(encoding="utf-8").strip() if refs.is_file() else ""
        _refuse_to_replace(folder, folder / "snapshots" / known)
    # A name in the form of a commit, always the same for the same sizes.
    commit = hashlib.sha1(json.dumps([MARK, sizes], sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    with new_folder(folder) as temporary:
        # Files instead of links into blobs/: the client itself stores them so where links are not to be had.
        snapshot = temporary / "snapshots" / commit
        snapshot.mkdir(parents=True)
        write_checkpoint(snapshot, sizes)
        write_text_atomic(temporary / "refs" / "main", commit)
    where = f"HF_HUB_CACHE={shlex.quote(str(cache))} HF_HUB_OFFLINE=1"
    return folder / "snapshots" / commit, f"{where} dlgsum train model=kobart {TRIAL}"


def write_checkpoint(folder: Path, sizes: dict[str, int]) -> None:
    """Write configuration, weights, tokenizer and README into an existing folder."""
    tokenizer, learned = make_tokenizer(sizes["vocab_size"])
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", dict(NAMED))
    config = BartConfig(
        vocab_size=sizes["vocab_size"],
        d_model=sizes["d_model"],
        encoder_layers=sizes["layers"],
        decoder_layers=sizes["layers"],
        encoder_attention_heads=sizes["heads"],
        decoder_attention_heads=sizes["heads"],
        encoder_ffn_dim=sizes["ffn"],
        decoder_ffn_dim=sizes["ffn"],
        activation_function="gelu",
        dropout=0.1,
        max_position_embeddings=1026,
        # The published configuration names the end mark for both.
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=3,
        **LEGACY,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BartForConditionalGeneration(config)
    model.save_pretrained(folder)
    # Checkpoints of 2021 keep their decoding settings in config.json; transformers 5 writes a file of its own.
    (folder / "generation_config.json").unlink(missing_ok=True)
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _write_json(folder / "config.json", {**saved, **LEGACY, MARK: True})
    readme = README.format(
        name=KOBART,
        parameters=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        vocab_size=sizes["vocab_size"],
        learned=learned,
        filler=sizes["vocab_size"] - learned,
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")


def make_tokenizer(vocab_size: int) -> tuple[str, int]:
    """Return a tokenizer.json of KoBART's make with exactly ``vocab_size`` entries, and how many are no fillers.

    Raises:
        ValueError: the control tokens and single characters alone are more than ``vocab_size``.
    """
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[*CONTROL, *UNUSED],
        initial_alphabet=["\n", *map(chr, range(0x21, 0x7F))],
        show_progress=False,
    )
    backend.train_from_iterator(_pieces(), trainer)
    state: dict[str, Any] = json.loads(backend.to_str())
    # The published tokenizer.json lists neither <usr> nor <sys> as special; both are ordinary entries.
    special = {*CONTROL, *UNUSED} - {"<usr>", "<sys>"}
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in special]
    vocabulary: dict[str, int] = state["model"]["vocab"]
    learned = len(vocabulary)
    if learned > vocab_size:
        raise ValueError(f"the dialogues have {learned} single characters and control tokens, over {vocab_size}")
    # Entries without a merge that leads to them: they take up ids, and no text becomes one.
    vocabulary |= {f"<filler{index}>": index for index in range(learned, vocab_size)}
    return json.dumps(state, ensure_ascii=False), learned


def _pieces() -> Iterator[str]:
    """Yield the bundled training text cut at newlines and tags: no token grows across either."""
    data = Data(source="sample")
    for row in load_splits(resolve_files(data, folder=Path()), data).train.rows:
        for text in (row.dialogue, *row.references):
            for piece in TAG.split(text):
                yield from filter(None, piece.split("\n"))


def _refuse_to_replace(folder: Path, checkpoint: Path) -> None:
    """Let only an empty folder and a checkpoint of this script's own be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    config = checkpoint / "config.json"
    try:
        ours = json.loads(config.read_text(encoding="utf-8")).get(MARK) is True
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise FileExistsError(f"{folder} exists and was not made by this script; it is left alone")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
