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

    source: Literal["auto", "sample", "csv"] = option(
        "auto", "auto: ./data/train.csv and dev.csv where they exist, else the bundled dialogues."
    )
    train: str | None = option(None, "Training file (.csv, .tsv or .jsonl).")
    validation: str | None = option(None, "Validation file; it chooses the best model.")
    test: str | None = option(None, "Test file; scored at the end when it has summaries, else only predicted.")
    encoding: str = option("utf-8", "Text encoding of the files; a byte-order mark is understood.")
    columns: Columns = nested(Columns, "Names of the columns.")
    cleaning: list[CleaningStep] = option(
        ["nfc", "newlines", "tags", "blanks"],
        "Cleaning steps, in order: nfc (Unicode), newlines (literal \\n and <br>), tags (Person1 to #Person1#), "
        "blanks (repeated and trailing).",
    )
    max_train_samples: int | None = option(None, "Use only the first N training rows.", ge=1)
    max_eval_samples: int | None = option(None, "Use only the first N rows of validation and test.", ge=1)
    cache: bool = option(True, "Keep tokenized rows on disk, keyed by content, and reuse them.")
    cache_dir: str | None = option(None, "Folder of the cache; null: `cache` inside general.output_dir.")
