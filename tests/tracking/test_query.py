"""Experiments are filtered, sorted and put on scales; NaN, missing values and ties have a rule each."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dlgsum.core.errors import UsageError
from dlgsum.tracking.query import Answer, scales, select
from dlgsum.tracking.record import ExperimentRecord

NOW = datetime(2026, 11, 21, 11, tzinfo=UTC)
SIGNATURE = "rouge_combined_f1|scorer:kiwi|refs:mean"


def run(number: int, score: float | None = None, **given: Any) -> ExperimentRecord:
    values: dict[str, Any] = {
        "id": f"20261121_00000{number}_{number}{number}aaaa{number}{number}", "folder": "/runs",
        "name": f"run {number}", "status": "completed", "started": NOW - timedelta(days=10 - number),
        "seconds": 3600.0 * number,
        "config": {"training": {"learning_rate": 10.0**-number, "optim": "adamw_torch"}}, "seed": 42,
        "best_metrics": {} if score is None else {"rouge_combined_f1": score, "loss": 2.0},
        "signature": SIGNATURE, "validation_fingerprint": "f00d",
    }  # fmt: skip
    return ExperimentRecord(**(values | given))


RUNS = [
    run(1, 0.1, tags=["baseline", "old"], notes="첫 실험"),
    run(2, 0.3, tags=["baseline"], host="gpu-1", git_commit="abcdef123", parent="20261121_000001_11aaaa11"),
    run(3, math.nan, status="failed", reason="loss is NaN"),
    run(4, None, status="running", seconds=None, started=None),
    run(5, 0.3, test_metrics={"rouge1_f1": 0.25}, config={"training": {"learning_rate": "auto", "optim": None}}),
]


def ask(*filters: str, records: list[ExperimentRecord] = RUNS, **given: Any) -> Answer:
    return select(records, filters, now=NOW, **given)


def found(*filters: str, **given: Any) -> list[int]:
    return [int(record.id[-1]) for record in ask(*filters, **{"sort": "id", **given}).records]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], [1, 2, 3, 4, 5]),
        (["status=completed"], [1, 2, 5]),
        (["status!=completed"], [3, 4]),
        (["rouge_combined_f1>0.1"], [2, 5]),
        (["rouge_combined_f1>=0.1"], [1, 2, 5]),
        (["rouge_combined_f1<0.3"], [1]),
        ([" rouge_combined_f1 <= .3 "], [1, 2, 5]),
        (["rouge_combined_f1==0.3", "tag=baseline"], [2]),
        (["best.rouge_combined_f1>0.2", "status=completed"], [2, 5]),
        (["test.rouge1_f1>0.2"], [5]),
        (["loss<3"], [1, 2, 3, 5]),
        (["tag=baseline"], [1, 2]),
        (["tag!=old"], [2, 3, 4, 5]),
        (["tags~BASE", "tag!~ol"], [2]),
        (["tag="], [3, 4, 5]),
        (["notes!="], [1]),
        (["notes~실험"], [1]),
        (["name~RUN 2"], [2]),
        (["name=run 2"], [2]),
        (["reason~nan"], [3]),
        (["seed=42", "seed>=42"], [1, 2, 3, 4, 5]),
        (["host=gpu-1"], [2]),
        (["git_commit=ABC"], [2]),
        (["commit=bcd"], []),
        (["parent=11aa"], [2]),
        (["id=33"], [3]),
        (["id~00004"], [4]),
        (["training.learning_rate>=1e-3"], [1, 2, 3]),
        (["training.learning_rate=0.01"], [2]),
        (["training.learning_rate=auto"], [5]),
        (["training.optim=adamw_torch"], [1, 2, 3, 4]),
        (["training.optim="], [5]),
        (["started>7d"], [5]),
        (["started<=9d"], [1]),
        (["started>2026-11-15"], [5]),
        (["started=2026-11-14"], [3]),
        (["started!=2026-11-14"], [1, 2, 4, 5]),
        (["started>2026-11-15T13:00+00:00"], [5]),
        (["seconds>2h"], [3, 5]),
        (["duration<=1h30m"], [1]),
        (["seconds=3600"], [1]),
        (["missing=true"], [2]),
        (["missing=no"], [1, 3, 4, 5]),
        (["rouge_combined_f1~nan"], [3]),
    ],
)
def test_filters(filters: list[str], expected: list[int]):
    assert found(*filters, missing={RUNS[1].id}) == expected


def test_a_date_counts_from_its_midnight_and_equals_its_day():
    local = [
        run(n, started=datetime(2026, 11, 1, hour).astimezone()) for n, hour in ((1, 0), (2, 23))
    ]  # fmt: skip
    local.append(run(3, started=datetime(2026, 11, 2).astimezone()))
    assert found("started>=2026-11-01", records=local) == [1, 2, 3]
    assert found("started>2026-11-01", records=local) == [2, 3]
    assert found("started<=2026-11-01", records=local) == [1, 2]
    assert found("started=2026-11-01", records=local) == [1, 2]
    assert found("started<2026-11-01", records=local) == []


def test_nan_satisfies_no_comparison():
    for op in ("=", "!=", ">", ">=", "<", "<="):
        assert 3 not in found(f"rouge_combined_f1{op}0.2"), op


def test_what_lacks_a_value_is_counted_where_nothing_else_left_it_out():
    assert ask("rouge_combined_f1>0.2").notes == [
        "1 run left out: it has a rouge_combined_f1 that is NaN",
        "1 run left out: it has no rouge_combined_f1",
    ]
    assert ask("rouge_combined_f1>0.2", "status=completed").notes == []
    assert ask("test.rouge1_f1>0").notes == ["4 runs left out: they have no test.rouge1_f1"]
    assert ask("rouge_combined_f1!=0.3").notes == ["1 run left out: it has a rouge_combined_f1 that is NaN"]
    assert ask("tag=baseline").notes == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rouge_combinedf1>0.3", "rouge_combined_f1"),
        ("learning_rat>0.3", "training.learning_rate"),
        ("stats=completed", "status"),
        ("status=complete", "completed"),
        ("best.rouge_f1=1", "best.rouge"),
        ("rouge_combined_f1>high", "is a number; 'high'"),
        ("rouge_combined_f1>nan", "~nan"),
        ("rouge_combined_f1", "'rouge_combined_f1>0.3'"),
        ("rouge_combined_f1>", "has no value"),
        ("=3", "no filter"),
        ("", "no filter"),
        ("started>soon", "is a time; 'soon'"),
        ("started>99999999999d", "is a time"),
        ("started=9999-12-31", "is a time"),
        ("seconds>long", "a time span"),
        ("name>b", "Use = != ~ or !~"),
        ("training.optim>adam", "compares numbers"),
        ("missing=perhaps", "true or false"),
        ("training>1", "no field"),
    ],
)
def test_what_cannot_be_understood_is_told(word: str, said: str):
    with pytest.raises(UsageError) as error:
        ask(word)
    assert said in str(error.value)


def test_a_metric_nobody_got_to_and_an_unset_setting_are_no_typos():
    unscored = [run(1), run(2)]
    assert found("rouge_combined_f1>0.3", records=unscored) == []
    assert found("generation.num_beams=4", records=unscored) == []
    assert found("anything>1", records=[]) == []


def test_test_scores_never_stand_in_for_validation_scores():
    only_test = [run(1, test_metrics={"bleu": 30.0}), run(2, best_metrics={"bleu": 10.0})]
    assert found("bleu>0", records=only_test) == [2]
    final = [run(1, final_metrics={"bleu": 20.0})]
    assert found("bleu>0", records=final) == [1]


def test_missing_and_nan_come_last_in_both_directions_and_ties_go_by_id():
    assert found(sort="rouge_combined_f1") == [1, 2, 5, 3, 4]
    assert found(sort="-rouge_combined_f1") == [2, 5, 1, 3, 4]
    assert found(sort="started") == [1, 2, 3, 5, 4]
    assert found(sort="-started") == [5, 3, 2, 1, 4]
    assert found(sort="training.learning_rate") == [4, 3, 2, 1, 5]  # numbers before words
    assert found(sort="-tags") == [1, 2, 3, 4, 5]
    assert found(sort="seed") == [1, 2, 3, 4, 5]
    infinite = [run(1, -math.inf), run(2, math.inf), run(3, 0.0), run(4, math.nan)]
    assert found(sort="-rouge_combined_f1", records=infinite) == [2, 3, 1, 4]
    with pytest.raises(UsageError, match="started"):
        found(sort="-startd")


def test_the_limit_comes_after_sorting_and_is_told():
    answer = ask(sort="-rouge_combined_f1", limit=2, columns=["id", "tag", "training.learning_rate"])
    assert [record.id[-1] for record in answer.records] == ["2", "5"] and answer.fitting == 5
    assert [it.name for it in answer.columns] == ["id", "tags", "training.learning_rate"]


def test_scores_of_other_signatures_and_rows_are_on_other_scales():
    runs = [run(1, 0.1), run(2, 0.2), replace(run(3, 0.3), signature=SIGNATURE.replace("kiwi", "mecab")),
            replace(run(4, 0.4), validation_fingerprint="beef"), run(5)]  # fmt: skip
    found_scales = scales(runs, "validation")
    assert list(found_scales.letters.values()) == ["A", "A", "B", "C"]
    assert runs[4].id not in found_scales.letters
    assert found_scales.meaning["B"] == "scorer:mecab, validation rows f00d, 1 run"
    assert found_scales and not scales(runs[:2], "validation") and not scales([], "validation")
    assert not scales(runs, "test")


def test_letters_do_not_run_out():
    many = [replace(run(1, 0.1), id=str(n), validation_fingerprint=str(n)) for n in range(60)]
    letters = list(scales(many, "validation").letters.values())
    assert len(set(letters)) == 60 and letters[25:28] == ["Z", "AA", "AB"]
