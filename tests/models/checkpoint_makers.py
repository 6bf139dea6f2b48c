"""Make small checkpoints on the spot, in the hub's own layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

NAMES = [f"#Person{i}#" for i in range(1, 8)] + ["#Person#"]
PII = [
    "#PhoneNumber#",
    "#Address#",
    "#DateOfBirth#",
    "#PassportNumber#",
    "#SSN#",
    "#CardNumber#",
    "#CarNumber#",
    "#Email#",
]
TAGS = NAMES + PII
_JOSA = "은 는 이 가 을 를 와 과 의 에게 에게서 으로 로 도 만 께 께서 한테 보다 처럼 까지 부터 이라고 라고 이나 나"
JOSA = _JOSA.split()
MARKS = ["", ".", ",", "?", "!", ":", " ", "\n", "...", "'s", ")", '"']
CORPUS = [
    "#Person1#: 안녕하세요, 오늘은 무엇을 도와드릴까요?\n#Person2#: 배가 아파서 왔어요.",
    "#Person1#은 #Person2#에게 약을 먹으라고 말한다. 께서 한테 보다 처럼 까지 부터 이라고 라고 이나 나 으로 과 만",
    "나는 밥을 먹었다. 철수는 학교에 갔다. 영희와 민수가 도서관에서 공부를 한다!",
    "전화번호는 #PhoneNumber#이고 (주소는 #Address#로) \"확인\" 's a b c... 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "abcdefghijklmnopqrstuvwxyz #<>/usrpadyunkmask의를도께",
]  # fmt: skip
LEGACY_GENERATION = {"decoder_start_token_id": 2, "forced_eos_token_id": 2}


def kobart_backend() -> Tokenizer:
    """KoBART's make as published: Metaspace before every piece, NFKC, no post-processor."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    control = ["<s>", "</s>", "<usr>", "<pad>", "<sys>", "<unk>", "<mask>", *[f"<unused{i}>" for i in range(10)]]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=control, show_progress=False, initial_alphabet=["\n"])
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def save_tokenizer(backend: Tokenizer, folder: Path, **settings: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def make_kobart(folder: Path, *, weights: str = "safetensors", tokenizer_class: str | None = None) -> Path:
    """A KoBART-like checkpoint, with the ids, the start token and the legacy keys of the published one."""
    backend = kobart_backend()
    # The published tokenizer.json is from 2021 and lists neither <usr> nor <sys> as special.
    state = json.loads(backend.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in ("<usr>", "<sys>")]
    for part in ("pre_tokenizer", "decoder"):
        state[part] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    named = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    if tokenizer_class is not None:
        named["tokenizer_class"] = tokenizer_class
    save_tokenizer(backend, folder, **named)
    (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
    config = BartConfig(
        vocab_size=backend.get_vocab_size(), d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
        max_position_embeddings=130, bos_token_id=1, eos_token_id=1, pad_token_id=3,
        **LEGACY_GENERATION,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BartForConditionalGeneration(config)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    saved |= LEGACY_GENERATION | {
        "kobart_version": 2.0, "normalize_before": False, "normalize_embedding": True, "extra_pos_embeddings": 2,
        "force_bos_token_to_be_generated": False, "classif_dropout": 0.1, "author": "someone", "num_beams": 4,
        "task_specific_params": {"summarization": {"max_length": 142}}, "static_position_embeddings": False,
        "add_bias_logits": False, "add_final_layer_norm": False, "gradient_checkpointing": False,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(saved), encoding="utf-8")
    if weights == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def make_t5(folder: Path, *, own_output_layer: bool = False) -> Path:
    """A T5-like checkpoint: Unigram, an end mark from the post-processor, words split at white space."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    backend.add_special_tokens([AddedToken("<extra_id_0>", special=True)])
    save_tokenizer(
        backend, folder, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", extra_ids=1,
        additional_special_tokens=["<extra_id_0>"], tokenizer_class="T5Tokenizer",
    )  # fmt: skip
    config = T5Config(
        vocab_size=backend.get_vocab_size(), d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    if own_output_layer:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
        model.all_tied_weights_keys.pop("lm_head.weight", None)
        model.config.tie_word_embeddings = False
    model.save_pretrained(folder)
    if own_output_layer:  # as published: only `tie_word_embeddings=false` says so
        saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        del saved["scale_decoder_outputs"]
        (folder / "config.json").write_text(json.dumps(saved), encoding="utf-8")
    return folder
