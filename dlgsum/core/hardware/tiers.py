"""Tiers of graphics cards by memory, and the batch sizes that are a rule of thumb for them."""

from __future__ import annotations

from dataclasses import dataclass

_GIB = 2**30
SOURCE_TOKENS, TARGET_TOKENS = 512, 128  # the lengths that the table is for


@dataclass(frozen=True)
class Tier:
    """One line of the table.

    Attributes:
        memory: in words, as cards are sold.
        least: GiB that a card must report to belong here.
        batch: rows in a batch, smallest and largest.
        accumulation: batches in an optimizer step, fewest and most.
    """

    name: str
    memory: str
    least: float
    batch: tuple[int, int]
    accumulation: tuple[int, int]


# Cards report less than they are sold with: the driver keeps some, and memory with error correction loses a sixteenth.
# An A10 or L4 of "24 GB" reports 22.5 GiB and offers torch about 22, so that tier begins 10 % below its name. The
# others begin 7.5 % below theirs: a card of 11 GB must not pass for one of 12. There are no gaps: what is sold with
# more than 16 and less than 24 GB is mid-range.
TIERS = (
    Tier("High-End", "24 GB and more", 21.6, (96, 256), (1, 1)),
    Tier("Mid-Range", "12 to 16 GB", 11.1, (64, 128), (2, 2)),
    Tier("Budget", "8 to 12 GB", 7.4, (32, 64), (3, 4)),
    Tier("Low-End", "6 to 8 GB", 5.55, (16, 32), (6, 8)),
)


@dataclass(frozen=True)
class ModelSize:
    """What memory depends on, as far as it is known without loading the model."""

    checkpoint: str
    is_mini: bool
    is_kobart: bool
    source_tokens: int
    target_tokens: int


@dataclass(frozen=True)
class Suggestion:
    """Where to start; nothing of it was measured.

    Attributes:
        batch_size: rows for each card; the small end of the tier's range, which is the safe one. None where the table
            has nothing for the model or the card.
        accumulation: the large end, which goes with the small batch.
        notes: what the figures stand on, and where they do not fit.
    """

    tier: str | None
    batch_size: int | None
    batch_range: tuple[int, int] | None
    accumulation: int | None
    accumulation_range: tuple[int, int] | None
    measured: bool
    notes: tuple[str, ...]


def tier_of(memory: int) -> Tier | None:
    """Return the tier of a card that reports this many bytes; None below the smallest."""
    return next((tier for tier in TIERS if memory >= tier.least * _GIB), None)


def suggest(memory: int, free: int | None, model: ModelSize) -> Suggestion:
    """Return what the table says for a card and a model, and where it does not fit.

    Args:
        memory: bytes of the card.
        free: bytes that nobody uses now; None when not known.
        model: the configured one.
    """
    tier = tier_of(memory)
    notes = _notes(tier, memory, free, model)
    if tier is None:
        return Suggestion(None, None, None, None, None, False, notes)
    if model.is_mini:
        return Suggestion(tier.name, None, tier.batch, None, tier.accumulation, False, notes)
    return Suggestion(
        tier.name, tier.batch[0], tier.batch, tier.accumulation[1], tier.accumulation, False, notes
    )  # fmt: skip


def _notes(tier: Tier | None, memory: int, free: int | None, model: ModelSize) -> tuple[str, ...]:
    size = memory / _GIB
    notes = []
    if tier is None:
        notes.append(
            f"{size:.1f} GiB is below the smallest tier (6 GB): KoBART needs small batches, accumulation and perhaps "
            "training.activation_checkpointing=true here"
        )
    else:
        notes.append(f"rule of thumb of the tier for KoBART at {SOURCE_TOKENS} + {TARGET_TOKENS} tokens, not measured")
        if tier is TIERS[0] and size > 26:
            notes.append(f"the tier begins at 24 GB; with {size:.0f} GiB more than its figures may fit")
        if tier is TIERS[1] and size > 16.5:
            notes.append(f"{size:.1f} GiB lies between the table's 16 and 24 GB, so more than its figures may fit")
    if model.is_mini:
        notes.append(
            "kobart_mini is far smaller than KoBART: memory hardly limits its batches, so keep the configured size"
        )
    elif not model.is_kobart:
        notes.append(f"{model.checkpoint} is not known to be of KoBART's size, so the figures may not fit it")
    if (model.source_tokens, model.target_tokens) != (SOURCE_TOKENS, TARGET_TOKENS):
        notes.append(
            f"{model.source_tokens} + {model.target_tokens} tokens are configured, so a batch takes another amount"
        )
    if free is not None and free < 0.9 * memory:
        notes.append(f"only {free / _GIB:.1f} of {size:.1f} GiB are free now; the tier counts all of it")
    notes.append("`dlgsum find-batch-size` measures what fits")
    return tuple(notes)
