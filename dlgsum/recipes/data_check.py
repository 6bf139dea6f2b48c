"""Check the data of a run, or any files, before time is spent on training."""

from __future__ import annotations

import dataclasses
import logging
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import DataError, UsageError
from dlgsum.core.files import write_json
from dlgsum.data.check import inspect_splits
from dlgsum.data.check_report import DataReport, Limits, TokenizerNote, TokenLengths
from dlgsum.data.rows import Dialogue, Split
from dlgsum.data.sources import load_file
from dlgsum.data.text_files import check_file
from dlgsum.recipes import wiring
from dlgsum.recipes.settle import Settled, compose_checked, settle

if TYPE_CHECKING:
    from dlgsum.models.choice import ModelChoice
    from dlgsum.models.encoding import SummaryTokenizer

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
_CHUNK = 1000  # rows tokenized at once
# Split to how words of file names begin: English ones, and Korean ones, unless they name a person (학습자) …
# although 학습자료 is none.
_ROLES = (
    ("train", r"train", r"(학습|훈련)(?!자(?!료))"),
    ("validation", r"dev|val", r"(개발|검증)(?!자(?!료))"),
    ("test", r"test", r"(평가|시험|테스트)(?!자(?!료))"),
)


def check_files(
    files: Sequence[Path], request: Request, *, tokens: bool = True, progress: Progress | None = None
) -> DataReport:
    """Check files, or without any those of the configuration.

    A file whose name has a word that begins with ``train``, ``dev``, ``val`` or ``test``, or with a Korean word for one
    of them, stands for that split, and they are reported in this order; a second one of a kind, and any other file,
    goes by its own name. All are compared with each other. A tokenizer that is trained, as kobart_mini's, is trained on
    the first of them.

    Args:
        tokens: also measure token lengths and look for unknown characters, which needs the tokenizer.
        progress: called with the steps done and all steps; a row is a step for each time it is read.

    Raises:
        ConfigError: the configuration is wrong.
        DataError: a file cannot be read or has no usable row.
        UsageError: a file is named twice.
        EnvironmentProblem: the tokenizer cannot be had; ``tokens=False`` does without.
    """
    # Files named here take the place of the configuration's, which need not even exist.
    asked = dataclasses.replace(request, overrides=[*request.overrides, "data.source=sample"]) if files else request
    for number, file in enumerate(files):
        check_file(file)
        if any(file.samefile(other) for other in files[:number]):
            raise UsageError(f"{file} is named twice", "Name each file once.")
    if not tokens:
        config = compose_checked(asked).config
        return inspect_splits(_load(files, config), progress=progress)
    settled = settle(asked)
    splits = _load(files, settled.config)
    start = _start(settled.config, settled.model, splits[0])
    tokenizer = start.tokenizer
    rows = sum(len(split.rows) for split in splits)
    done = 0
    lengths = {}
    for split in splits:
        lengths[split.name] = _lengths(tokenizer, split, _later(progress, done, 2 * rows))
        done += len(split.rows)
    return inspect_splits(
        splits,
        tokens=lengths,
        limits=limits(settled.config),
        unknown=UnknownCharacters(tokenizer),
        tokenizer=tokenizer_note(settled, start, splits[0]),
        progress=_later(progress, done, 2 * rows),
    )


def limits(config: Config) -> Limits:
    """Return the token lengths at which a configuration cuts."""
    return Limits(config.tokenizer.encoder_max_len, config.tokenizer.decoder_max_len)


def tokenizer_note(settled: Settled, start: wiring.Start, train: Split) -> TokenizerNote:
    """Return whose tokens a report counts.

    Args:
        start: as made of ``settled`` and ``train``.
        train: the rows whose tags became tokens, and on which kobart_mini's tokenizer is trained.
    """
    choice, size = settled.model, len(start.tokenizer.hf)
    if choice.kind != "mini":
        return TokenizerNote(choice.checkpoint, size)
    numbers, cautions = "token lengths, shares that are cut and unknown characters", []
    if choice.reason != "as asked":
        cautions.append(
            f"model=auto became {choice.checkpoint} ({choice.reason}): {numbers} are its own, not KoBART's. "
            "Check again where KoBART can be had, with model=kobart."
        )
    if train.name != "train":
        cautions.append(
            f"{choice.checkpoint}'s tokenizer was trained on {train.name}, but a run trains it on its training rows, "
            f"so {'all this' if cautions else numbers} can differ there: name the training file as well (train.csv)."
        )
    return TokenizerNote(choice.checkpoint, size, train.name, train.source, len(train.rows), caution=" ".join(cautions))


def save_report(report: DataReport, path: Path) -> None:
    """Write a report as JSON, atomically; the folder is made where it is missing."""
    write_json(path, dataclasses.asdict(report))


def refuse_errors(report: DataReport, config: Config) -> None:
    """Stop a run whose data would make it worthless; with ``data.allow_leak`` a leak is only warned of.

    Raises:
        DataError: the report has errors.
    """
    errors = report.errors
    if config.data.allow_leak:
        for finding in errors:
            if finding.kind == "leak":
                logger.warning("%s: %s (data.allow_leak=true)", finding.split, finding.message)
        errors = [finding for finding in errors if finding.kind != "leak"]
    if errors:
        found = [f"{finding.split}: {finding.message}\n  {', '.join(finding.examples)}" for finding in errors]
        raise DataError("\n".join(found), "`dlgsum data check` shows more. A leak that is meant: data.allow_leak=true.")


def role(file: Path) -> str:
    """Return the split that a file's name speaks of: train, validation, test, or "" for none.

    The first word that fits decides: ``dev_of_test_users.csv`` is a validation file, ``latest.csv`` none. Korean words
    decide where no English one does: ``학습.csv`` is a training file, ``개발_train.csv`` as well.
    """
    # macOS stores Hangul names as separate letters.
    stem = unicodedata.normalize("NFC", file.stem).lower()
    for place, words in ((1, r"[a-z]+"), (2, r"[가-힣]+")):
        for word in re.findall(words, stem):
            for beginnings in _ROLES:
                if re.match(beginnings[place], word):
                    return beginnings[0]
    return ""


class UnknownCharacters:
    """Finds the characters that a tokenizer has no token for; each distinct one is tried once.

    A character is tried by itself, as the tokenizer normalises it; tags that are tokens of their own are left out.
    A tokenizer without an unknown token, such as a byte-level one, knows every character.
    """

    def __init__(self, tokenizer: SummaryTokenizer) -> None:
        self._normalise = tokenizer.normalise
        self._backend = tokenizer.hf.backend_tokenizer
        self._unknown_id: int | None = tokenizer.hf.unk_token_id
        self._tried: set[str] = set()
        self._unknown: set[str] = set()
        self._met: set[str] = set()
        self._harmless: set[str] = set()

    def __call__(self, text: str) -> Mapping[str, int]:
        """Return the unknown characters of a text with their counts; {} for an empty text."""
        if self._unknown_id is None or self._is_harmless(text):
            return {}
        from dlgsum.models.tokenizer import TAG

        text = TAG.sub(lambda tag: tag[0] if self._backend.token_to_id(tag[0]) is None else "", self._normalise(text))
        letters = set(text)
        new = letters - self._tried
        if new:
            self._tried |= new
            self._unknown |= {letter for letter in new if self._is_unknown(letter)}
        return {letter: text.count(letter) for letter in letters & self._unknown}

    def _is_harmless(self, text: str) -> bool:
        """Say whether all of a text's characters are known whatever stands beside them, which nearly every text's are.

        That saves normalising the text, which takes four times as long as everything else that is counted.
        """
        letters = set(text)
        if not letters <= self._harmless:
            new = letters - self._met
            self._met |= new
            self._harmless |= {letter for letter in new if _stands_alone(letter) and not self._is_unknown(letter)}
        return letters <= self._harmless

    def _is_unknown(self, letter: str) -> bool:
        return self._unknown_id in self._backend.encode(letter, add_special_tokens=False).ids


def _stands_alone(letter: str) -> bool:
    """Say whether no normalisation joins a character to its neighbours, as it does with accents and Hangul letters."""
    apart = unicodedata.normalize("NFKC", letter)
    return not any(unicodedata.category(part)[0] == "M" or "\u1100" <= part <= "\u11ff" for part in apart)


def _load(files: Sequence[Path], config: Config) -> list[Split]:
    if not files:
        return wiring.build_splits(config).all
    splits: list[Split] = []
    names: set[str] = set()
    # In the order of a run, however the shell listed them.
    order = [*(name for name, *_ in _ROLES), ""]
    for meant, file in sorted(((role(file), file) for file in files), key=lambda pair: order.index(pair[0])):
        name = next(name for name in (meant, file.name, str(file)) if name and name not in names)
        names.add(name)
        splits.append(_load_one(file, config, name, meant))
    return splits


def _load_one(file: Path, config: Config, name: str, meant: str) -> Split:
    if meant in ("train", "validation"):
        return load_file(file, config.data, name=name, need_summary=True)
    try:
        return load_file(file, config.data, name=name, need_summary=None)
    except DataError:
        # Every row of a test file is needed. One that is for training may hold bad rows, and they are counted.
        if meant == "test":
            raise
        return load_file(file, config.data, name=name, need_summary=True)


def _start(config: Config, choice: ModelChoice, split: Split) -> wiring.Start:
    """Return what a run on these training rows would start from, with its tokenizer; no weight is loaded."""
    from dlgsum.core.log import route_transformers

    route_transformers()
    return wiring.build_start(config, choice, split)


def _lengths(tokenizer: SummaryTokenizer, split: Split, progress: Progress | None) -> TokenLengths:
    """Return the tokens of each row before anything is cut; no token is kept."""
    sources, targets = array("i"), array("i")
    for rows in _chunks(split.rows):
        sources.extend(tokenizer.measure_sources([row.dialogue for row in rows])[1])
        measured = iter(tokenizer.measure_targets([row.references[0] for row in rows if row.references])[1])
        targets.extend(next(measured) if row.references else 0 for row in rows)
        if progress is not None:
            progress(len(sources), len(split.rows))
    return TokenLengths(np.array(sources, dtype=np.int32), np.array(targets, dtype=np.int32))


def _chunks(rows: Iterable[Dialogue]) -> Iterator[list[Dialogue]]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk


def _later(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return a progress function for one part of a longer job."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


__all__ = [
    "UnknownCharacters", "check_files", "inspect_splits", "limits", "refuse_errors", "role", "save_report",
    "tokenizer_note",
]  # fmt: skip
