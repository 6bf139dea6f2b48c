"""Where dialogues come from and how they are cleaned."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from dlgsum.config.schema.options import RULES, nested, option

CleaningStep = Literal["newlines", "tags", "blanks", "nfc"]


@dataclass(frozen=True, kw_only=True, config=RULES)
class Columns:
    """The names of the columns in the user's files."""

    id: str = option("fname", "Identifier of a row; it is carried through to the submission.")
    dialogue: str = option("dialogue", "The dialogue: turns separated by newlines.")
    summary: str = option("summary", "The reference summary.")
    extra_summaries: list[str] = option(["summary2", "summary3"], "Further references, used where they exist.")
    topic: str = option("topic", "Topic of a row, used to break scores down; may be absent.")


@dataclass(frozen=True, kw_only=True, config=RULES)
class Data:
    """Files, columns, cleaning and caching."""

    source: Literal["auto", "sample", "csv", "hub"] = option(
        "auto", "auto: ./data/train.csv and dev.csv where they exist, else the bundled dialogues; hub: data.dataset."
    )
    train: str | None = option(None, "Training file (.csv, .tsv, .jsonl or .parquet).")
    validation: str | None = option(None, "Validation file; it chooses the best model.")
    test: str | None = option(None, "Test file; scored at the end when it has summaries, else only predicted.")
    dataset: str | None = option(
        None, "Data set of the hub, or a folder: saved by save_to_disk, or of data files named like their splits."
    )
    dataset_config: str | None = option(None, "Which configuration of the data set, where it has several.")
    dataset_revision: str | None = option(None, "Branch, tag or commit of the data set on the hub; null: the newest.")
    encoding: str = option("auto", "Text encoding of the files; auto finds UTF-8, UTF-16 and cp949.")
    columns: Columns = nested(Columns, "Names of the columns.")
    cleaning: list[CleaningStep] = option(
        ["nfc", "newlines", "tags", "blanks"],
        "Cleaning steps, in order: nfc (Unicode), newlines (literal \\n and <br>), tags (Person1 to #Person1#), "
        "blanks (repeated and trailing).",
    )
    max_train_samples: int | None = option(None, "Use only the first N training rows.", ge=1)
    max_eval_samples: int | None = option(None, "Use only the first N rows of validation and test.", ge=1)
    allow_leak: bool = option(False, "Train although most validation dialogues are training dialogues too.")
    processes: int | None = option(
        None, "Processes that tokenize; null: one for a small split, else one for each processor core.", ge=1, le=256
    )
    cache: bool = option(True, "Keep tokenized rows on disk, keyed by content, and reuse them.")
    cache_dir: str | None = option(None, "Folder of the cache; null: `cache` inside general.output_dir.")
