"""Dividing rows: a partition, no dialogue in two parts, the wanted sizes, alike parts, the same for a seed."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlgsum.core.errors import UsageError
from dlgsum.data.split import check_shares, divide, stratified_topics, summarise

rows = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(["쇼핑", "여행", "", "면접"]), st.integers(1, 900)),
    min_size=1,
    max_size=120,
)
share = st.floats(0.02, 0.6)


def arrays(found):
    keys = np.array([key for key, _, _ in found], dtype=np.uint64)
    return keys, [topic for _, topic, _ in found], np.array([length for _, _, length in found])


@given(rows, share, st.none() | st.floats(0.02, 0.35), st.integers(0, 2**40))
def test_parts_are_a_partition_of_whole_groups_in_the_wanted_sizes(found, validation, test, seed):
    keys, topics, lengths = arrays(found)
    shares = check_shares(validation, test)
    try:
        parts = divide(keys, topics, lengths, shares, seed=seed)
    except UsageError:
        sizes = Counter(keys.tolist())
        smallest = len(sizes) * min(shares.values())
        # Only for a reason: too few groups, or one so large that a part may go without.
        assert smallest < 1 or max(sizes.values()) > 1
        return
    assert len(parts) == len(found) and set(parts.tolist()) == set(range(len(shares)))
    for key in set(keys.tolist()):
        assert len(set(parts[keys == key].tolist())) == 1
    largest = max(Counter(keys.tolist()).values())
    for number, wanted in enumerate(shares.values()):
        assert abs((parts == number).sum() - wanted * len(found)) <= largest + 1e-6
    assert np.array_equal(parts, divide(keys, topics, lengths, shares, seed=seed))


@given(rows.filter(lambda found: len(found) > 3), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    shares = {"train": 0.7, "dev": 0.3}

    def by_key(these):
        keys, topics, lengths = arrays(these)
        try:
            parts = divide(keys, topics, lengths, shares, seed=1)
        except UsageError:
            return None
        return dict(zip(keys.tolist(), parts.tolist(), strict=True))

    assert by_key(found) == by_key(shuffled)


def many(count: int = 1000):
    random = np.random.default_rng(0)
    keys = random.permutation(count).astype(np.uint64) * np.uint64(977)
    topics = random.choice(["쇼핑", "여행", "면접", "병원"], size=count, p=[0.6, 0.25, 0.1, 0.05]).tolist()
    return keys, topics, random.integers(50, 2000, size=count)


def test_every_topic_and_length_has_its_share():
    keys, topics, lengths = many()
    parts = divide(keys, topics, lengths, check_shares(0.1, 0.2), seed=3)
    names = np.array(topics)
    for topic in set(topics):
        counts = np.bincount(parts[names == topic], minlength=3)
        # Walks through one topic begin and end wherever the last one left off: a row each way, for two cuts.
        assert np.abs(counts - np.array([0.7, 0.1, 0.2]) * counts.sum()).max() <= 2, topic
    quarters = np.searchsorted(np.quantile(lengths, [0.25, 0.5, 0.75]), lengths, side="left")
    for quarter in range(4):
        counts = np.bincount(parts[quarters == quarter], minlength=3)
        assert np.abs(counts / counts.sum() - np.array([0.7, 0.1, 0.2])).max() < 0.03


def test_random_division_would_fail_that_test():
    _, topics, _ = many()
    parts = np.random.default_rng(0).choice(3, size=1000, p=[0.7, 0.1, 0.2])
    counts = np.bincount(parts[np.array(topics) == "쇼핑"], minlength=3)
    assert np.abs(counts - np.array([0.7, 0.1, 0.2]) * counts.sum()).max() > 2


def test_another_seed_gives_another_division():
    keys, topics, lengths = many()
    parts = [divide(keys, topics, lengths, check_shares(0.1, None), seed=seed) for seed in (1, 2)]
    both = ((parts[0] == 1) & (parts[1] == 1)).sum()
    assert both < 30  # by chance about 10 of 100


def test_rare_topics_are_taken_together():
    topics = ["쇼핑"] * 10 + ["여행"] * 9
    assert stratified_topics(topics, {"train": 0.9, "dev": 0.1}) == ["쇼핑"]
    assert stratified_topics([], {"train": 0.9, "dev": 0.1}) == []


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, math.nan, math.inf])
def test_a_share_must_lie_between_nothing_and_all(value):
    with pytest.raises(UsageError, match=r"--val=.* must be more than 0 and less than 1"):
        check_shares(value, None)
    with pytest.raises(UsageError, match=r"--test="):
        check_shares(0.1, value)


def test_something_must_be_left_to_train_on():
    with pytest.raises(UsageError, match="leave nothing to train on"):
        check_shares(0.5, 0.5)
    assert check_shares(0.1, None) == {"train": 0.9, "dev": 0.1}
    assert list(check_shares(0.1, 0.2)) == ["train", "dev", "test"]


def test_too_few_rows_are_refused_with_how_many_it_takes():
    keys, topics, lengths = many(9)
    with pytest.raises(UsageError, match="9 different dialogues") as error:
        divide(keys, topics, lengths, check_shares(0.1, None), seed=1)
    assert "10" in error.value.hint and "0.11" in error.value.hint
    parts = divide(*many(10), check_shares(0.1, None), seed=1)
    assert np.bincount(parts).tolist() == [9, 1]
    with pytest.raises(UsageError, match="0 different"):
        divide(np.empty(0, dtype=np.uint64), [], [], check_shares(0.1, None), seed=1)


def test_one_dialogue_that_fills_the_file_is_refused():
    keys = np.array([1] * 100 + list(range(2, 12)), dtype=np.uint64)
    topics = ["가"] * 100 + ["나"] * 10
    with pytest.raises(UsageError, match="dev would get no row: many of the 110 rows share a dialogue"):
        divide(keys, topics, [5] * 110, check_shares(0.1, 0.1), seed=1)


def test_the_summary_counts_what_is_in_each_part():
    keys = np.array([1, 1, 2, 3], dtype=np.uint64)
    parts = np.array([0, 0, 1, 1], dtype=np.int8)
    first, second = summarise(parts, keys, ["가", "가", "가", "나"], [10, 10, 20, 30], {"train": 0.5, "dev": 0.5})
    assert (first.rows, first.dialogues, first.topics, first.length_p50, first.share) == (2, 1, 1, 10, 0.5)
    assert (second.rows, second.dialogues, second.topics, second.length_p50) == (2, 2, 2, 25)
    assert first.topic_gap == second.topic_gap == 0.25


def test_a_single_dialogue_is_spoken_of_as_one():
    with pytest.raises(UsageError, match="of 1 different dialogue, which"):
        divide(np.array([5], dtype=np.uint64), ["t"], [3], {"train": 0.9, "dev": 0.1}, seed=1)
