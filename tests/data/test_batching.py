"""Batch plans: each row once, budgets kept, little padding, and one length for every epoch."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from dlgsum.data.batching import WINDOW, PlannedBatchSampler, oversized, plan_batches, waste

DEFAULTS = {"seed": 42, "epoch": 0, "mode": "samples", "batch_size": 16, "tokens_per_batch": 8192}
rows_strategy = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=80)
modes = st.sampled_from(["samples", "tokens", "random"])


def plan(sources, targets, **changes):
    return plan_batches(sources, targets, **{**DEFAULTS, **changes})


def korean_lengths(rows: int = 12_457, likeness: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Lengths distributed like the Korean DialogSum's in KoBART tokens.

    ``likeness`` is how far long dialogues have long summaries: the correlation of the logarithms.
    """
    normal = np.random.default_rng(0).normal(size=(rows, 2))
    second = likeness * normal[:, 0] + np.sqrt(1 - likeness**2) * normal[:, 1]
    sources = np.clip(np.exp(np.log(128) + 0.61 * normal[:, 0]), 15, 512).astype(int)
    targets = np.clip(np.exp(np.log(26.8) + 0.42 * second), 5, 100).astype(int)
    return sources, targets


def as_lists(batches):
    return [batch.tolist() for batch in batches]


def test_the_synthetic_lengths_are_like_the_real_ones():
    sources, targets = korean_lengths()
    assert 145 <= sources.mean() <= 158 and 340 <= np.percentile(sources, 95) <= 372
    assert 28 <= targets.mean() <= 30


@pytest.mark.parametrize(
    "changes",
    [{"mode": "tokens"}, {"mode": "samples", "batch_size": 16}, {"mode": "samples", "batch_size": 32}],
    ids=["tokens-8192", "samples-16", "samples-32"],
)
def test_little_padding_at_realistic_lengths(changes, record_property):
    sources, targets = korean_lengths()
    ratios = [waste(plan(sources, targets, epoch=epoch, **changes), sources, targets) for epoch in range(3)]
    record_property("computed_over_real_tokens", [round(ratio, 3) for ratio in ratios])
    assert max(ratios) <= 1.10
    rows_in_window = WINDOW * (8192 / (sources + targets).mean() if changes["mode"] == "tokens" else 32)
    assert rows_in_window < len(sources) / 2, "sorting everything at once would leave no randomness"


def test_random_batches_for_comparison():
    sources, targets = korean_lengths()
    assert waste(plan(sources, targets, mode="random"), sources, targets) > 1.5


def test_a_hundred_thousand_rows_are_fast():
    sources, targets = korean_lengths(100_000)
    for mode in ("samples", "tokens"):
        begun = time.perf_counter()
        plan(sources, targets, mode=mode)
        assert time.perf_counter() - begun < 2.0  # 0.1 s measured; machines differ


@given(rows_strategy, modes, st.integers(1, 9), st.integers(1, 200), st.integers(1, 4), st.booleans())
def test_every_row_once(rows, mode, batch_size, budget, pad_to, shuffle):
    sources, targets = [a for a, _ in rows], [b for _, b in rows]
    batches = plan(
        sources, targets, mode=mode, batch_size=batch_size, tokens_per_batch=budget, pad_to=pad_to,
        window=3, shuffle=shuffle,
    )  # fmt: skip
    assert sorted(index for batch in batches for index in batch.tolist()) == list(range(len(rows)))
    assert all(len(batch) for batch in batches)
    if mode == "tokens":
        for batch in batches:
            widest = max(-(-sources[i] // pad_to) * pad_to for i in batch)
            longest = max(-(-targets[i] // pad_to) * pad_to for i in batch)
            assert len(batch) == 1 or len(batch) * (widest + longest) <= budget
    else:
        assert sorted(map(len, batches), reverse=True)[:-1] == [batch_size] * (len(batches) - 1 if batches else 0)


@pytest.mark.parametrize("mode", ["samples", "tokens", "random"])
def test_seed_and_epoch_decide(mode):
    sources, targets = korean_lengths(500)
    first = as_lists(plan(sources, targets, mode=mode))
    assert as_lists(plan(sources, targets, mode=mode)) == first
    assert as_lists(plan(sources, targets, mode=mode, epoch=1)) != first
    assert as_lists(plan(sources, targets, mode=mode, seed=1)) != first
    still = as_lists(plan(sources, targets, mode=mode, shuffle=False))
    assert as_lists(plan(sources, targets, mode=mode, shuffle=False, seed=7, epoch=3)) == still


def test_neighbours_change_from_epoch_to_epoch():
    sources, targets = korean_lengths()
    together = [{tuple(sorted(batch)) for batch in as_lists(plan(sources, targets, epoch=epoch))} for epoch in (0, 1)]
    assert len(together[0] & together[1]) < 5


def test_batches_are_not_in_order_of_length():
    sources, targets = korean_lengths(4000)
    longest = [int(sources[batch].max()) for batch in plan(sources, targets)]
    assert longest != sorted(longest) and abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.3


def test_random_without_shuffling_is_the_files_order():
    assert as_lists(plan([3, 2, 1], [1, 1, 1], mode="random", batch_size=2, shuffle=False)) == [[0, 1], [2]]


def test_a_row_over_the_budget_is_alone():
    batches = as_lists(plan([90, 5, 5, 5], [20, 5, 5, 5], mode="tokens", tokens_per_batch=64))
    assert [0] in batches and sorted(map(len, batches)) == [1, 3]
    assert oversized([90, 5, 5, 5], [20, 5, 5, 5], 64) == 1
    assert oversized([60], [4], 64) == 0 and oversized([60], [4], 64, pad_to=8) == 1
    assert oversized([], [], 64) == 0


def test_max_rows():
    batches = plan([1] * 50, [1] * 50, mode="tokens", max_rows=8)
    assert max(map(len, batches)) == 8


def test_nothing_to_plan():
    assert plan([], []) == [] and waste([], [], []) == 1.0
    assert waste(plan([0, 0], [0, 0]), [0, 0], [0, 0]) == 1.0


def test_waste():
    batches = [np.array([0, 1]), np.array([2])]
    assert waste(batches, [10, 6, 4], [2, 2, 4]) == pytest.approx((2 * 12 + 8) / 28)
    assert waste(batches, [10, 6, 4], [2, 2, 4], pad_to=8) == pytest.approx((2 * 24 + 16) / 28)


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"tokens_per_batch": 0}, {"window": 0}, {"pad_to": 0}])
def test_wrong_sizes(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))}=0 must be 1 or more"):
        plan([1], [1], **changes)
    with pytest.raises(ValueError, match="must be alike"):
        plan([1, 2], [1])
    with pytest.raises(ValueError, match="max_rows=0"):
        plan([1], [1], max_rows=0)


def make_sampler(sources, targets, **changes):
    settings = {"seed": 42, "epochs": 4, "mode": "tokens", "batch_size": 16, "tokens_per_batch": 2048, **changes}
    return PlannedBatchSampler(sources, targets, **settings)


def draw(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


class TestSampler:
    def test_every_planned_epoch_has_the_announced_length(self):
        sources, targets = korean_lengths(1500)
        sampler = make_sampler(sources, targets, epochs=6)
        drawn = [len(plan_batches(sources, targets, seed=42, epoch=epoch, mode="tokens", batch_size=1,
                                  tokens_per_batch=2048)) for epoch in range(6)]  # fmt: skip
        assert len(set(drawn)) > 1, "the test needs epochs of different length"
        assert len(sampler) == max(drawn)
        for epoch in range(6):
            batches = draw(sampler, epoch)
            assert len(batches) == len(sampler)
            assert sorted(index for batch in batches for index in batch) == list(range(1500))
            for batch in batches:
                assert len(batch) == 1 or len(batch) * (sources[batch].max() + targets[batch].max()) <= 2048

    def test_a_later_and_longer_epoch_yields_everything(self):
        sources, targets = korean_lengths(1500)
        shortest = min(range(12), key=lambda seed: len(make_sampler(sources, targets, epochs=1, seed=seed)))
        sampler = make_sampler(sources, targets, epochs=1, seed=shortest)
        lengths = [len(draw(sampler, epoch)) for epoch in range(12)]
        assert lengths[0] == len(sampler) == min(lengths) < max(lengths)
        for epoch in range(12):
            assert sorted(index for batch in draw(sampler, epoch) for index in batch) == list(range(1500))

    @given(rows_strategy.filter(bool), modes, st.integers(1, 5), st.integers(1, 6), st.integers(1, 120))
    @settings(max_examples=60)
    def test_processes_share_the_rows(self, rows, mode, world_size, batch_size, budget):
        sources, targets = [a for a, _ in rows], [b for _, b in rows]
        samplers = [
            make_sampler(
                sources, targets, mode=mode, epochs=2, batch_size=batch_size, tokens_per_batch=budget,
                world_size=world_size, rank=rank,
            )
            for rank in range(world_size)
        ]  # fmt: skip
        for epoch in range(3):
            parts = [draw(sampler, epoch) for sampler in samplers]
            assert len({len(part) for part in parts}) == 1, "every process takes as many steps"
            if epoch < 2:
                assert len(parts[0]) == len(samplers[0])
            counts = Counter(index for part in parts for batch in part for index in batch)
            assert set(counts) == set(range(len(rows)))
            if len(parts[0]) * world_size <= len(rows):
                assert set(counts.values()) == {1}

    def test_ranks_interleave(self):
        sources, targets = korean_lengths(300)
        whole = as_lists(make_sampler(sources, targets, world_size=2).plan(1))
        for rank in (0, 1):
            assert draw(make_sampler(sources, targets, world_size=2, rank=rank), 1) == whole[rank::2]

    def test_fewer_rows_than_processes(self):
        parts = [draw(make_sampler([5, 6], [1, 1], world_size=4, rank=rank), 0) for rank in range(4)]
        assert [len(part) for part in parts] == [1, 1, 1, 1]
        assert {index for part in parts for batch in part for index in batch} == {0, 1}

    def test_no_rows(self):
        sampler = make_sampler([], [], world_size=2)
        assert len(sampler) == 0 and list(sampler) == []

    def test_ranks_outside_are_refused(self):
        with pytest.raises(ValueError, match="rank=2 must be from 0 to 1"):
            make_sampler([1], [1], world_size=2, rank=2)

    @pytest.mark.parametrize("mode", ["samples", "tokens", "random"])
    def test_accelerate_passes_every_batch_on(self, mode):
        """Its shard must not judge batches by their size; the trainer tells it that there is nothing to divide."""
        sources, targets = korean_lengths(203)
        sampler = make_sampler(sources, targets, mode=mode, world_size=2, rank=1)
        for epoch in range(4):
            sampler.set_epoch(epoch)
            assert list(BatchSamplerShard(sampler, num_processes=1, process_index=0)) == list(sampler)

    def test_in_a_data_loader(self):
        sources, targets = korean_lengths(200)
        sampler = make_sampler(sources, targets, mode="samples", batch_size=8)
        loader = DataLoader(range(200), batch_sampler=sampler, collate_fn=list)  # type: ignore[arg-type]
        assert len(loader) == 25
        assert sorted(row for batch in loader for row in batch) == list(range(200))
        assert all(type(index) is int for batch in sampler for index in batch)
