"""The loss is the mean over target tokens, however the rows are cut into micro-batches."""

import pytest
import torch

from dlgsum.training.loss import SummaryLoss, token_loss


def logits_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, 11, generator=generator)
    labels = torch.randint(0, 11, (4, 5), generator=generator)
    labels[0, 1:] = -100  # rows of very different length: a mean of means would differ
    labels[2, 3:] = -100
    return logits, labels


class Output:
    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_parts_of_a_batch_add_up_to_the_whole(smoothing: float) -> None:
    logits, labels = logits_and_labels()
    loss = SummaryLoss(smoothing)
    whole = loss(Output(logits), labels)
    items = labels.ne(-100).sum()
    parts = sum(loss(Output(logits[i : i + 2]), labels[i : i + 2], num_items_in_batch=items) for i in (0, 2))
    torch.testing.assert_close(parts, whole)
    means = sum(loss(Output(logits[i : i + 2]), labels[i : i + 2]) for i in (0, 2)) / 2
    assert not torch.allclose(means, whole), "the rows must be uneven enough for this test to mean something"


def test_masked_positions_do_not_count() -> None:
    logits, labels = logits_and_labels()
    total, count = token_loss(logits, labels)
    changed = logits.clone()
    changed[labels == -100] = 1e4
    torch.testing.assert_close(token_loss(changed, labels)[0], total)
    assert count.item() == int((labels != -100).sum())


def test_no_target_tokens_give_zero_and_not_nan() -> None:
    loss = SummaryLoss(0.0)(Output(torch.randn(1, 3, 7)), torch.full((1, 3), -100))
    assert loss.item() == 0.0


def test_nan_stays_nan() -> None:
    logits, labels = logits_and_labels()
    logits[1, 0, 0] = float("nan")
    assert torch.isnan(SummaryLoss(0.0)(Output(logits), labels))
