"""Rows of different lengths into one padded batch of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.utils.data import Dataset


@dataclass(frozen=True, slots=True)
class SummaryCollator:
    """Pads a batch on the right to its longest source and its longest target.

    Attributes:
        pad_id: fills sources and decoder inputs.
        decoder_start_id: first token the decoder sees.
        label_pad: fills labels; the loss passes over it.
        pad_to_multiple_of: source and target lengths are rounded up to a multiple of this.
    """

    pad_id: int
    decoder_start_id: int
    label_pad: int = -100
    pad_to_multiple_of: int = 1

    def __post_init__(self) -> None:
        if self.pad_to_multiple_of < 1:
            raise ValueError(f"pad_to_multiple_of={self.pad_to_multiple_of} must be 1 or more")

    def __call__(self, features: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
        """Return int64 tensors of shape (rows, length).

        Always ``input_ids`` and ``attention_mask``; ``labels`` and ``decoder_input_ids`` (the labels one place
        to the right, after the start token) as well, unless no row has labels. An empty source is all padding.

        Raises:
            ValueError: no rows, or labels on some rows only.
        """
        if not features:
            raise ValueError("a batch needs at least one row")
        sources = [feature["input_ids"] for feature in features]
        targets = [feature.get("labels") or [] for feature in features]
        batch = {
            "input_ids": self._pad(sources, self.pad_id),
            "attention_mask": self._pad([[1] * len(source) for source in sources], 0),
        }
        without = sum(not target for target in targets)
        if without == len(targets):
            return batch
        if without:
            raise ValueError(f"{without} of {len(targets)} rows in a batch have no labels; all or none must")
        labels = self._pad(targets, self.label_pad)
        shifted = labels.roll(1, dims=1)
        shifted[:, 0] = self.decoder_start_id
        # Only padding may be replaced, so it is found by place: -100 is no token, but another label_pad may be.
        lengths = torch.tensor([len(target) for target in targets])
        padding = torch.arange(labels.shape[1]) > lengths[:, None]
        batch["labels"] = labels
        batch["decoder_input_ids"] = shifted.masked_fill(padding, self.pad_id)
        return batch

    def _pad(self, rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
        multiple = self.pad_to_multiple_of
        longest = max(1, *(len(row) for row in rows))  # tensors of width 0 break attention
        width = -(-longest // multiple) * multiple
        padded = torch.full((len(rows), width), fill, dtype=torch.int64)
        for index, row in enumerate(rows):
            if row:
                padded[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
        return padded


PLACES = "places"


class EncodedRows(Protocol):
    """Rows by place, as the collator takes them."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Mapping[str, Sequence[int]]: ...


@dataclass(frozen=True)
class Placed(Dataset[tuple[int, Mapping[str, Sequence[int]]]]):
    """A dataset and a collator whose batches say which rows they hold.

    Attributes:
        rows: the dataset.
        collate: makes a batch of such rows.
    """

    rows: EncodedRows
    collate: SummaryCollator

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[int, Mapping[str, Sequence[int]]]:
        return place, self.rows[place]

    def batch(self, features: Sequence[tuple[int, Mapping[str, Sequence[int]]]]) -> dict[str, torch.Tensor]:
        """Return the collator's batch, and ``places``: int64 of shape (rows,)."""
        batch = self.collate([row for _, row in features])
        return {**batch, PLACES: torch.tensor([place for place, _ in features])}
