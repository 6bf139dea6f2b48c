"""The check of data: what it counts, what it makes of that, and that no text is kept."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest

from dlgsum.core.files import dumps
from dlgsum.data.check import inspect_splits
from dlgsum.data.check_findings import percent
from dlgsum.data.check_report import Limits, Noted, TokenizerNote, TokenLengths, bin_starts, describe, histogram
from dlgsum.data.check_tally import KINDS
from dlgsum.data.keys import NONE, text_key
from dlgsum.data.rows import Dialogue, Skipped, Split

TALK = "#Person1#: 안녕하세요.\n#Person2#: 네, 안녕하세요."
SUMMARY = "#Person1#과 #Person2#는 인사합니다."


def row(name: str, dialogue: str = "", *summaries: str, topic: str = "인사") -> Dialogue:
    return Dialogue(
        name, dialogue or f"{TALK}\n#Person1#: {name}번 손님이신가요?", summaries or (f"{SUMMARY} {name}",), topic
    )


def split(name: str, *rows: Dialogue, skipped: tuple[Skipped, ...] = ()) -> Split:
    return Split(name, f"{name}.csv", rows, skipped, {"blanks": 2}, "")


def counted(*rows: Dialogue) -> dict[str, Noted]:
    return inspect_splits([split("train", *rows)]).splits[0].counts


def findings(report, kind):
    return [finding for finding in report.findings if finding.kind == kind]


def test_sound_rows_give_no_finding():
    report = inspect_splits([split("train", row("a"), row("b")), split("validation", row("c"))])
    assert report.findings == [] and report.leaks == []
    assert [part.rows for part in report.splits] == [2, 1]
    assert report.splits[0].cleaning == {"blanks": 2}
    assert report.splits[0].speaker_counts == {"2": 2}
    assert report.splits[0].turns.p50 == 3


@pytest.mark.parametrize(
    "kind, odd, example",
    [
        ("empty_dialogue", Dialogue("x", "", (SUMMARY,), "t"), "x"),
        ("no_summary", Dialogue("x", TALK, (), "t"), "x"),
        ("no_topic", row("x", topic=""), "x"),
        ("no_speaker", row("x", "안녕하세요.\n네, 안녕하세요. 반갑습니다, #Person2# 님."), "x"),
        ("one_turn", row("x", "#Person1#: 안녕하세요. 여기는 서울에 있는 은행입니다."), "x"),
        ("one_speaker", row("x", "#Person1#: 안녕하세요.\n#Person1#: 여기는 은행입니다, #Person2# 님."), "x"),
        ("line_without_speaker", row("x", TALK + "\n그럼 이만."), "x"),
        ("turns_on_one_line", row("x", "#Person1#: 네. #Person2#: 아니요.\n#Person1#: 그렇군요, 그럼 이만."), "x"),
        ("foreign_tag", row("x", TALK, "#Person1#과 #Person3#는 인사합니다."), "x (#Person3#)"),
        ("foreign_tag", row("x", TALK, SUMMARY, "#Email#로 인사합니다."), "x (#Email#)"),
        ("long_summary", row("x", TALK, SUMMARY * 9), "x"),
    ],
)
def test_an_odd_row_is_counted_and_named(kind, odd, example):
    found = counted(row("a"), odd, row("b"), row("c"))
    assert found[kind] == Noted(1, 0.25, [example])
    assert set(found) == set(KINDS)


@pytest.mark.parametrize(
    "dialogue, speakers",
    [
        (TALK, 2),
        ("#Person1# 안녕\n#Person2# : 네\n#Person3#： 네", 3),
        ("민수: 안녕\n영희: 안녕\n민수: 그래", 2),
        ("#Person1#: 안녕\n참고: 이것은 줄입니다", 1),
        ("https://a.kr 보세요\n네", 0),
        ("#Address#로 가세요\n네", 0),
        ("3:30에 만나요\n네", 0),
    ],
)
def test_speakers_are_marks_at_the_start_of_lines(dialogue, speakers):
    assert inspect_splits([split("train", row("a", dialogue))]).splits[0].speakers.max == speakers


def test_copies_and_other_summaries_are_told_apart():
    rows = [
        row("a", TALK, "하나"), row("b", TALK.replace(" ", "  "), "하나"), row("c", TALK, "둘"), row("d", TALK, "둘"),
        row("e"),
    ]  # fmt: skip
    found = counted(*rows)
    assert found["duplicate"] == Noted(2, 0.4, ["a = b", "c = d"])
    assert found["other_summary"] == Noted(1, 0.2, ["a = c"])
    # Rows are different dialogues, further summaries and copies, each once.
    assert len(rows) == 2 + 1 + 2


def test_rows_without_a_dialogue_are_no_copies_and_no_leak():
    empty = [Dialogue(name, "", (), "") for name in "ab"]
    report = inspect_splits([split("train", *empty), split("test", *empty)])
    assert report.splits[0].counts["duplicate"].count == 0
    assert report.leaks == []


def test_an_id_used_twice_is_named_once_more():
    assert counted(row("a"), row("b"), Dialogue("a", TALK, (SUMMARY,), "t"))["same_id"] == Noted(1, 1 / 3, ["a"])


def test_a_summary_used_by_many_rows_is_found_but_not_by_their_copies():
    rows = [row(name, "", "같은 요약") for name in "abc"]
    report = inspect_splits([split("train", *rows, row("d"))])
    assert report.splits[0].counts["shared_summary"] == Noted(3, 0.75, ["a", "b", "c"])
    assert report.splits[0].most_used_summary == 3
    copies = inspect_splits([split("train", *[row("a", TALK, "요약")] * 4)])
    assert copies.splits[0].counts["shared_summary"].count == 0
    assert copies.splits[0].counts["duplicate"].count == 3


def test_skipped_rows_are_grouped_by_reason_and_those_kept_are_not_skipped():
    skipped = (
        Skipped("a", 3, "2 fields where the header has 4"),
        Skipped("", 9, "1 field where the header has 4"),
        Skipped("b", 5, "no summary"),
        Skipped("c", 7, "the id is also on line 2", kept=True),
    )
    report = inspect_splits([split("train", row("x"), skipped=skipped)])
    assert report.splits[0].skipped == {
        "another number of fields than the header's 4": Noted(2, 0.5, ["a (line 3)", "no id (line 9)"]),
        "no summary": Noted(1, 0.25, ["b (line 5)"]),
    }
    assert [finding.level for finding in findings(report, "skipped")] == ["warning", "warning"]


def test_at_most_five_rows_are_named():
    noted = counted(*[row(str(number), topic="") for number in range(9)])["no_topic"]
    assert noted.count == 9 and noted.examples == ["0", "1", "2", "3", "4"]


def test_a_dialogue_in_two_splits_is_a_leak_with_both_ids():
    same = "#Person1#: 비밀입니다.\n#Person2#: 네."
    train = split("train", row("a"), row("t1", same), row("b"), row("c"))
    other = split("validation", row("v1", same.replace("\n", " \n ")), row("d"), row("e"))
    report = inspect_splits([train, other])
    assert report.leaks == [dataclasses.replace(report.leaks[0], rows_first=1, rows_second=1, examples=["t1 = v1"])]
    assert (report.leaks[0].share_first, report.leaks[0].share_second) == (0.25, 1 / 3)
    assert [(found.level, found.split) for found in findings(report, "leak")] == [("warning", "train/validation")]
    assert report.errors == []


@pytest.mark.parametrize("shared, level", [(2, "warning"), (3, "error")])
@pytest.mark.parametrize("reverse", [False, True])
def test_more_than_half_of_validation_in_train_is_an_error(shared, level, reverse):
    train = split("train", *[row(str(number)) for number in range(20)])
    other = split(
        "validation", *[row(str(number)) for number in range(shared)], *[row(name) for name in "wxyz"[shared:]]
    )
    parts = [other, train] if reverse else [train, other]
    report = inspect_splits(parts)
    assert len(other) == 4
    assert report.findings[0].level == level and report.findings[0].share == shared / 4
    assert bool(report.errors) == (level == "error")


def test_test_rows_in_train_only_warn():
    rows = [row(name) for name in "abc"]
    report = inspect_splits([split("train", *rows), split("test", *rows)])
    assert [finding.level for finding in findings(report, "leak")] == ["warning"]


def test_missing_summaries_are_a_note_in_test_and_a_warning_elsewhere():
    bare = Dialogue("x", TALK, (), "t")
    levels = {name: findings(inspect_splits([split(name, bare)]), "no_summary")[0].level for name in ("test", "other")}
    assert levels == {"test": "note", "other": "warning"}
    partly = inspect_splits([split("test", bare, row("a"))])
    assert findings(partly, "no_summary")[0].level == "warning"


def test_errors_come_first():
    rows = [row(name) for name in "ab"]
    bare = Dialogue("x", TALK, (), "")
    report = inspect_splits([split("train", *rows, bare), split("validation", *rows), split("test", bare, bare)])
    levels = [finding.level for finding in report.findings]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert levels[0] == "error" and "note" in levels


def lengths(source: list[int], target: list[int]) -> TokenLengths:
    return TokenLengths(np.array(source, dtype=np.int32), np.array(target, dtype=np.int32))


def test_what_a_limit_cuts_is_counted_in_rows_and_tokens():
    part = split("train", row("a"), row("b"), Dialogue("c", TALK, (), "t"), row("d"))
    report = inspect_splits([part], tokens={"train": lengths([10, 30, 20, 40], [5, 0, 0, 15])}, limits=Limits(20, 10))
    source, target = report.splits[0].source_tokens, report.splits[0].target_tokens
    assert source is not None and target is not None
    assert source.cut == Noted(2, 0.5, ["d (40 tokens)", "b (30 tokens)"])
    assert (source.lost_tokens, source.lost_share, source.lost_share_of_cut) == (30, 0.3, 30 / 70)
    # A row without a summary has no target to count, and its place must not shift the names.
    assert target.lengths.count == 2 and target.cut == Noted(1, 0.5, ["d (15 tokens)"])
    assert sum(source.histogram.counts) == 4
    assert {found.kind: found.level for found in report.findings if "cut" in found.kind} == {
        "cut_source": "warning", "cut_target": "warning",
    }  # fmt: skip
    assert "tokenizer.encoder_max_len=20" in findings(report, "cut_source")[0].message


def test_a_length_equal_to_the_limit_is_not_cut():
    report = inspect_splits([split("train", row("a"))], tokens={"train": lengths([20], [10])}, limits=Limits(20, 10))
    assert not [found for found in report.findings if "cut" in found.kind]


def test_few_cut_rows_are_only_a_note():
    part = split("train", *[row(str(number)) for number in range(200)])
    tokens = {"train": lengths([10] * 199 + [99], [5] * 200)}
    assert findings(inspect_splits([part], tokens=tokens, limits=Limits(20, 10)), "cut_source")[0].level == "note"


def test_unknown_characters_are_counted_with_code_and_rows():
    def unknown(text: str) -> dict[str, int]:
        return {letter: text.count(letter) for letter in "뷁\t" if letter in text}

    rows = [row("a", TALK + "뷁뷁", "뷁"), row("b"), row("c", TALK + "\t뷁")]
    report = inspect_splits([split("train", *rows)], unknown=unknown)
    first, second = report.splits[0].unknown or []
    assert (first.character, first.code, first.count, first.rows, first.examples) == ("뷁", "U+BDC1", 4, 2, ["a", "c"])
    assert (second.code, second.count) == ("U+0009", 1)
    assert report.splits[0].unknown_share == 5 / sum(len(r.dialogue) + len(r.references[0]) for r in rows)
    assert "'뷁' U+BDC1 4×, unprintable U+0009" in findings(report, "unknown_character")[0].message


def test_not_asked_is_not_none_found():
    asked = inspect_splits([split("train", row("a"))], unknown=lambda text: {})
    assert asked.splits[0].unknown == [] and asked.splits[0].unknown_share == 0
    assert inspect_splits([split("train", row("a"))]).splits[0].unknown is None


def test_nothing_at_all_has_a_report():
    assert inspect_splits([]).splits == []
    report = inspect_splits(
        [split("train")], tokens={"train": lengths([], [])}, limits=Limits(8, 8), unknown=lambda _: {}
    )
    part = report.splits[0]
    assert part.rows == 0 and part.turns.mean is None and part.turns.count == 0
    assert part.source_tokens is not None and part.source_tokens.lost_share == 0
    assert all(noted == Noted() for noted in part.counts.values())


@pytest.mark.parametrize(
    "tokens, limits, words",
    [
        ({"train": lengths([1, 2], [1, 2])}, Limits(8, 8), "2 sources and 2 targets for 1 row$"),
        ({"train": lengths([1], [1])}, None, "limits"),
    ],
)
def test_what_does_not_fit_is_refused(tokens, limits, words):
    with pytest.raises(ValueError, match=words):
        inspect_splits([split("train", row("a"))], tokens=tokens, limits=limits)
    with pytest.raises(ValueError, match="different names"):
        inspect_splits([split("train"), split("train")])


def test_the_report_is_json_without_loss():
    report = inspect_splits(
        [split("train", row("a"), row("b", TALK)), split("test", Dialogue("c", TALK, (), ""))],
        tokens={"train": lengths([10, 99], [5, 5])}, limits=Limits(20, 10), unknown=lambda _: {"뷁": 1},
    )  # fmt: skip
    content = dataclasses.asdict(report)
    assert json.loads(dumps(content)) == content
    assert set(content) == {"splits", "leaks", "findings", "tokenizer"}


def test_one_row_is_spoken_of_as_one():
    odd = Dialogue("x", TALK + "\n#Person1#: 네. #Person2#: 네.", ("#Email#입니다.",), "t")
    skipped = (Skipped("z", 9, "no summary"),)
    train = split("train", row("a"), row("b"), row("b"), odd, skipped=skipped)
    tokens = {"train": lengths([10, 10, 10, 30], [5, 5, 5, 15]), "validation": lengths([1], [1])}
    report = inspect_splits([train, split("validation", row("a"))], tokens=tokens, limits=Limits(20, 10))
    texts = {finding.kind: finding.message for finding in report.findings if finding.split != "validation"}
    assert texts["leak"].startswith("1 of the dialogues in validation (100.0 %) is in train too")
    assert texts["skipped"].startswith("1 row of the file")
    assert texts["duplicate"].startswith("1 of 4 rows (25.0 %) is a copy of another row")
    assert texts["foreign_tag"].startswith("1 of 4 rows (25.0 %) has a tag in the summary")
    assert texts["cut_source"].startswith("1 dialogue (25.0 %) is longer than tokenizer.encoder_max_len=20 and loses ")
    assert texts["cut_target"].startswith("1 summary (25.0 %) is longer than tokenizer.decoder_max_len=10 and loses ")
    several = inspect_splits([split("train", odd, row("a"), odd, row("b"), row("b"), row("b"))]).findings
    found = {finding.kind: finding.message for finding in several}
    assert found["foreign_tag"].startswith("2 of 6 rows (33.3 %) have a tag")
    assert found["duplicate"].startswith("3 of 6 rows (50.0 %) are copies of")
    single = inspect_splits([split("train", row("x", topic=" "), Dialogue("y", TALK, (), "t"))]).findings
    assert all("1 of 2 rows (50.0 %) has" in finding.message for finding in single)


def test_the_tokenizer_is_named_in_the_report():
    note = TokenizerNote("kobart_mini", 500, "train", "train.csv", 1, "a caution")
    assert inspect_splits([split("train", row("a"))], tokenizer=note).tokenizer == note
    assert inspect_splits([split("train", row("a"))]).tokenizer is None


def test_progress_ends_with_all_rows():
    seen = []
    parts = [split("train", *[row(str(number)) for number in range(1500)]), split("test", row("x"))]
    inspect_splits(parts, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1000, 1501), (1500, 1501), (1501, 1501)]


class Endless:
    """Rows that are made when they are asked for, as those on disk are."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.passes = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Dialogue:
        return row(str(index), f"#Person1#: {index}번 손님.\n#Person2#: " + "네, 그렇습니다. " * 100)

    def __iter__(self):
        self.passes += 1
        return (self[index] for index in range(self.count))


def test_texts_are_read_once_and_not_kept():
    rows = Endless(4000)
    tracemalloc.start()
    try:
        report = inspect_splits([Split("train", "", rows, (), {}, "")])  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.splits[0].rows == 4000 and rows.passes == 1
    # The texts would be 6 MB; keys and counts take some 60 bytes a row, and sorting them several times that.
    assert peak < 1_500_000


def test_keys_ignore_blanks_and_nothing_else():
    assert text_key("가  나\n다 ") == text_key("가 나 다") == text_key("\u1100\u1161 나 다")
    assert text_key("가나") != text_key("가 나")
    assert text_key("가 나", "다") != text_key("가", "나 다")
    assert text_key(" \n") == text_key() == NONE != text_key("가")


def test_statistics_of_nothing_are_none_and_of_one_number_that_number():
    assert describe([]).mean is None and describe([]).count == 0
    one = describe([7])
    assert (one.min, one.mean, one.p50, one.p99, one.max) == (7, 7, 7, 7, 7)


@pytest.mark.parametrize("values", [[5], [0, 0, 0], list(range(1000)), [1] * 99 + [10**6], [3, 4]])
def test_a_histogram_counts_every_value_in_few_bins(values):
    starts = bin_starts([values])
    found = histogram(values, starts)
    assert sum(found.counts) == len(values)
    assert 1 <= len(starts) <= 14 and starts == sorted(set(starts)) and starts[0] <= min(values)


def test_no_values_have_no_bins():
    assert bin_starts([]) == bin_starts([[]]) == []
    assert histogram([], []).counts == []


@pytest.mark.parametrize(
    "part, text", [(0, "0.0 %"), (1e-5, "<0.1 %"), (0.5, "50.0 %"), (0.99999, ">99.9 %"), (1, "100.0 %")]
)
def test_a_share_never_looks_like_none_or_all_when_it_is_not(part, text):
    assert percent(part) == text
