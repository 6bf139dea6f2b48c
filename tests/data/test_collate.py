"""Padding, masks and decoder inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.bart.modeling_bart import shift_tokens_right

from dlgsum.data.collate import SummaryCollator

COLLATE = SummaryCollator(pad_id=3, decoder_start_id=2)
tokens = st.lists(st.integers(0, 50), min_size=1, max_size=9)


def row(source: list[int], labels: list[int]) -> dict[str, list[int]]:
    return {"input_ids": source, "labels": labels}


def test_pads_on_the_right():
    batch = COLLATE([row([5, 6, 7], [8, 1]), row([9], [4, 5, 6, 1])])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7], [9, 3, 3]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "labels": [[8, 1, -100, -100], [4, 5, 6, 1]],
        "decoder_input_ids": [[2, 8, 1, 3], [2, 4, 5, 6]],
    }
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_a_pad_token_inside_a_source_is_attended_to():
    assert COLLATE([row([3, 3], [1])])["attention_mask"].tolist() == [[1, 1]]


def test_lengths_are_rounded_up():
    batch = SummaryCollator(3, 2, pad_to_multiple_of=8)([row([5] * 9, [1])])
    assert {tensor.shape for tensor in batch.values()} == {(1, 16), (1, 8)}
    assert batch["attention_mask"].sum() == 9
    assert batch["decoder_input_ids"].tolist() == [[2, 1, 3, 3, 3, 3, 3, 3]]


def test_another_label_pad():
    batch = SummaryCollator(3, 2, label_pad=0)([row([5], [0, 1]), row([5], [4, 0, 1])])
    assert batch["labels"].tolist() == [[0, 1, 0], [4, 0, 1]]
    assert batch["decoder_input_ids"].tolist() == [[2, 0, 1], [2, 4, 0]]


def test_no_summaries_no_labels():
    for features in ([row([5], []), row([6], [])], [{"input_ids": [5]}]):
        assert set(COLLATE(features)) == {"input_ids", "attention_mask"}


def test_an_empty_source_is_all_padding():
    batch = COLLATE([row([], [1])])
    assert batch["input_ids"].tolist() == [[3]] and batch["attention_mask"].tolist() == [[0]]


def test_errors():
    with pytest.raises(ValueError, match="at least one row"):
        COLLATE([])
    with pytest.raises(ValueError, match="1 of 2 rows"):
        COLLATE([row([5], [1]), row([5], [])])
    with pytest.raises(ValueError, match="pad_to_multiple_of=0"):
        SummaryCollator(3, 2, pad_to_multiple_of=0)


@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=6), st.sampled_from([1, 4]))
def test_agrees_with_bart(pairs, multiple):
    batch = SummaryCollator(3, 2, pad_to_multiple_of=multiple)([row(*pair) for pair in pairs])
    expected = shift_tokens_right(batch["labels"], 3, 2)
    assert torch.equal(batch["decoder_input_ids"], expected)
    assert (batch["decoder_input_ids"] >= 0).all()
    for index, (source, target) in enumerate(pairs):
        assert batch["input_ids"][index][batch["attention_mask"][index].bool()].tolist() == source
        assert batch["labels"][index][batch["labels"][index] != -100].tolist() == target
