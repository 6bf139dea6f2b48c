"""Experiments side by side: nothing is ranked across scales, and no difference is claimed that may be luck."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import UsageError
from dlgsum.core.files import dumps, write_json
from dlgsum.metrics.significance import paired_bootstrap
from dlgsum.recipes.compare import ComparisonReport, compare, compare_records
from dlgsum.recipes.compare_pairs import Bootstrap, Pair, holm
from dlgsum.tracking.record import read_record
from dlgsum.tracking.run import RunFolder

ROUGE = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_combined_f1")
SIGNATURE = "rouge_combined_f1|scorer:char|refs:mean|nrefs:1|dlgsum:1"
FAST = Bootstrap(samples=500)


def predictions(scores: Sequence[float], *, prefix: str = "r", reference: str = "참조") -> list[dict[str, Any]]:
    return [
        {"fname": f"{prefix}_{i}", "prediction": f"요약 {score}", "references": [f"{reference} {i}"]}
        | dict.fromkeys(ROUGE, score)
        for i, score in enumerate(scores)
    ]


@cache
def composed(*settings: str) -> str:
    return to_yaml(compose(Request(overrides=settings, environ={})).config)


def make_run(
    folder: Path,
    rows: Sequence[Mapping[str, Any]] | None,
    *,
    config: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    signature: str = SIGNATURE,
    validation: str = "v" * 64,
    train: str = "t" * 64,
    metrics: Mapping[str, Any] | None = None,
    test: Sequence[Mapping[str, Any]] | None = None,
    status: str = "completed",
) -> RunFolder:
    """Make the folder of a finished run as training leaves it."""
    run = RunFolder.create(folder)
    run.write_config(composed(*settings) if config is None else yaml.safe_dump(dict(config)))
    run.status(status)  # type: ignore[arg-type]
    splits = [{"name": "train", "fingerprint": train, "rows": 10}, {"name": "validation", "fingerprint": validation}]
    if test is not None:
        splits.append({"name": "test", "fingerprint": "e" * 64, "rows": len(test)})
        write_rows(run, "test-step-7.jsonl", test)
    write_json(run.path / "data.json", {"splits": [{"rows": len(rows or []), **split} for split in splits]})
    packages = {"torch": "2.13.0"}
    write_json(run.path / "environment.json", {"dlgsum": "0.1.0", "python": "3.11", "packages": packages, "gpus": []})
    write_json(
        run.results,
        {
            "run_id": run.id, "run_dir": str(run.path), "best_metrics": dict(metrics or {"rouge_combined_f1": 0.3}),
            "best_step": 5, "signature": signature, "validation_fingerprint": validation, "steps": 7,
            "test_metrics": {"rouge_combined_f1": 0.2} if test is not None else {}, "seconds": 1.0,
            "test_signature": signature if test is not None else "",
        },
    )  # fmt: skip
    if rows is not None:
        write_rows(run, "eval-step-5.jsonl", rows)
    return run


def write_rows(run: RunFolder, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    (run.predictions / name).write_text("".join(dumps(dict(row)) + "\n" for row in rows), encoding="utf-8")


def compared(*runs: RunFolder, bootstrap: Bootstrap = FAST) -> ComparisonReport:
    report = compare_records([read_record(run) for run in runs], runs, bootstrap)
    json.loads(dumps(dataclasses.asdict(report)))  # whatever is found can be printed for machines
    return report


def pair(*runs: RunFolder) -> Pair:
    [found] = compared(*runs).pairs
    return found


BASE = [random.Random(7).random() * 0.5 for _ in range(60)]
BETTER = [score + 0.1 + 0.05 * (i % 3 - 1) for i, score in enumerate(BASE)]


def test_a_clear_difference_is_shown_with_its_rows(tmp_path: Path):
    first, second = make_run(tmp_path, predictions(BASE)), make_run(tmp_path, predictions(BETTER))
    found = pair(first, second)
    assert (found.rows, found.wins, found.losses, found.ties, found.notes) == (60, 60, 0, 0, [])
    direct = paired_bootstrap(BETTER, BASE, samples=500)
    gap = found.metrics["rouge_combined_f1"]
    assert (gap.difference, gap.low, gap.high, gap.p) == (direct.difference, direct.low, direct.high, direct.p)
    assert gap.p_adjusted == gap.p, "one comparison: nothing to adjust"
    assert found.verdict == "better"
    assert found.sentence == (
        f"B is better than A by 10.00 points (95 % {100 * gap.low:.2f} to {100 * gap.high:.2f}, p 0.004)."
    )
    assert [row.second_score - row.first_score for row in found.extremes] == pytest.approx([0.15] * 3)
    assert found.extremes[0].reference == "참조 2" and found.extremes[0].second_prediction == f"요약 {BETTER[2]}"
    back = pair(second, first)
    assert back.verdict == "worse" and back.sentence.startswith(
        "B is worse than A by 10.00 points (95 % 8.96 to 11.08,"
    )


def test_the_same_predictions_show_no_difference(tmp_path: Path):
    found = pair(*(make_run(tmp_path, predictions(BASE)) for _ in range(2)))
    assert found.verdict == "no difference shown" and found.metrics["rouge1_f1"].p == 1
    assert (found.ties, found.extremes) == (60, [])
    assert found.sentence.startswith("no difference shown: B has +0.00 points beside A")


def test_a_small_difference_on_noisy_rows_is_not_called_one(tmp_path: Path):
    noise = random.Random(1)
    other = [score + noise.uniform(-0.2, 0.21) for score in BASE]
    found = pair(make_run(tmp_path, predictions(BASE)), make_run(tmp_path, predictions(other)))
    assert found.verdict == "no difference shown" and found.metrics["rouge_combined_f1"].p > 0.05


def test_several_comparisons_are_paid_for(tmp_path: Path):
    runs = [make_run(tmp_path, predictions(scores)) for scores in (BASE, BETTER, BASE, BETTER)]
    gaps = [it.metrics["rouge_combined_f1"] for it in compared(*runs).pairs]
    assert [gap.p_adjusted for gap in gaps] == holm([gap.p for gap in gaps])
    assert gaps[0].p_adjusted == pytest.approx(3 * gaps[0].p) and gaps[1].p_adjusted == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []


def test_numbers_of_two_scales_are_never_ranked_together(tmp_path: Path):
    other = SIGNATURE.replace("char", "kiwi")
    runs = [
        make_run(tmp_path, predictions(BASE), metrics={"rouge1_f1": 0.3, "loss": 2.0}, settings=["metrics=char"]),
        make_run(tmp_path, predictions(BETTER), metrics={"rouge1_f1": 0.9, "loss": 1.0}, signature=other),
        make_run(tmp_path, predictions(BASE), metrics={"rouge1_f1": 0.4, "loss": 3.0}),
    ]
    report = compared(*runs)
    assert [block.runs for block in report.blocks] == [["A", "C"], ["B"]]
    assert {row.name: row.best for row in report.blocks[0].metrics} == {"rouge1_f1": ["C"], "loss": ["A"]}
    assert all(row.best == [] for row in report.blocks[1].metrics)
    assert report.scales == ["validation of B is not on the scale of A, C: scored in another way (scorer char / kiwi)"]
    refused, done = report.pairs
    assert refused.metrics == {} and "scorer char / kiwi" in refused.reason and done.metrics
    commands = [shlex.split(line) for line in refused.hint.splitlines()]
    assert commands == [
        ["dlgsum", "evaluate", runs[0].id], ["dlgsum", "evaluate", runs[1].id, "metrics.scorer=char"],
    ]  # fmt: skip
    compose(Request(overrides=commands[1][3:], environ={}))


def test_runs_whose_scale_is_not_known_are_not_ranked(tmp_path: Path):
    runs = [make_run(tmp_path, predictions(s), signature="", metrics={"rouge1_f1": s[0]}) for s in (BASE, BETTER)]
    report = compared(*runs)
    [block] = report.blocks
    assert not block.known and block.metrics[0].best == [] and block.metrics[0].values == [BASE[0], BETTER[0]]
    assert "not recorded how" in report.scales[0]
    assert report.pairs[0].reason == "it is not known how the scores of A and B were computed"


def test_who_has_the_best_value(tmp_path: Path):
    names = ["rouge1_f1", "empty_share", "bleu", "pred_chars", "mine", "rouge2_f1", "distinct_share"]
    values = [
        [0.5, 0.0, math.nan, 50.0, 1.0, 0.2, 1.0], [0.5, 0.1, 3.0, 60.0, 2.0, 0.1, 1.0],
        [0.4, 0.0, 4.0, 70.0, 3.0, math.nan, 1.0],
    ]  # fmt: skip
    settings = ["metrics.extra=[mine]", "metrics.best=mine", "metrics.greater_is_better=false"]
    runs = [make_run(tmp_path, None, metrics=dict(zip(names, v, strict=True)), settings=settings) for v in values]
    [block] = compared(*runs).blocks
    assert {row.name: row.best for row in block.metrics} == {
        "rouge1_f1": ["A", "B"], "empty_share": ["A", "C"], "bleu": ["C"], "pred_chars": [], "mine": ["A"],
        "rouge2_f1": ["A"], "distinct_share": [],
    }  # fmt: skip


def test_the_loss_of_other_tokens_is_not_ranked(tmp_path: Path):
    def losses(**other: Any) -> tuple[list[str], list[str]]:
        runs = [make_run(tmp_path, None, metrics={"loss": 2.0}, settings=["model=kobart_mini"])]
        runs.append(make_run(tmp_path, None, metrics={"loss": 1.0}, **{"settings": ["model=kobart_mini"], **other}))
        [block] = compared(*runs).blocks
        return block.metrics[0].best, block.notes

    assert losses() == (["B"], [])
    wider = ["model=kobart_mini", "model.mini.d_model=64", "training.learning_rate=0.1"]
    assert losses(settings=wider) == (["B"], []), "a better model on the same tokens"
    for other, name in (
        ({"train": "u" * 64}, "train rows"),  # its tokenizer was made from them
        ({"settings": ["model=kobart_mini", "training.label_smoothing_factor=0.1"]}, "label_smoothing_factor"),
        ({"settings": ["model=kobart_mini", "model.mini.vocab_size=3000"]}, "vocab_size"),
    ):
        best, [note] = losses(**other)
        assert best == [] and name in note


def test_other_rows_are_compared_where_they_are_the_same(tmp_path: Path):
    rows = predictions(BETTER)
    theirs = [*rows[:30], *predictions(BETTER[:5], prefix="new"), {**rows[31], "references": ["eine andere"]}]
    first = make_run(tmp_path, predictions(BASE))
    found = pair(first, make_run(tmp_path, theirs, validation="w" * 64))
    assert found.rows == 30 and found.verdict == "better"
    assert found.notes == [
        "NOT ALL ROWS: these are other rows; compared on the 30 with the same name and references (A has 60, B has 36)"
    ]


def test_names_that_occur_twice(tmp_path: Path):
    def twice(scores: Sequence[float]) -> list[dict[str, Any]]:
        rows = predictions(scores[:10])
        return [*rows, {**rows[0], **dict.fromkeys(ROUGE, scores[11])}]

    same = pair(make_run(tmp_path, twice(BASE)), make_run(tmp_path, twice(BETTER)))
    assert same.rows == 11 and same.notes == [], "of the same rows the order tells which is which"
    other = pair(make_run(tmp_path, twice(BASE)), make_run(tmp_path, twice(BETTER), validation="w" * 64))
    assert other.rows == 9 and other.notes[0] == "A: 2 rows left out, whose name occurs more than once"


def test_rows_without_a_finite_score_are_left_out_of_all_metrics(tmp_path: Path):
    rows = predictions(BETTER)
    rows[3]["rouge1_f1"] = math.nan  # as "NaN" in the file
    del rows[4]["rouge2_f1"]
    found = pair(make_run(tmp_path, predictions(BASE)), make_run(tmp_path, rows))
    assert found.rows == 58 and found.notes == ["2 rows without a finite score left out"]


def test_files_that_lost_rows_are_told(tmp_path: Path):
    runs = [make_run(tmp_path, predictions(BASE)), make_run(tmp_path, predictions(BETTER))]
    path = runs[1].predictions / "eval-step-5.jsonl"
    path.write_bytes(path.read_bytes()[:-40])  # torn in the last row
    found = pair(*runs)
    assert found.rows == 59 and "do not hold the same rows although the data are the same" in found.notes[0]


@pytest.mark.parametrize(
    ("rows", "settings", "reason"),
    [
        (None, [], "B has no predictions: eval-step-5.jsonl is not in "),
        (None, ["tracking.save_predictions=false"], "B has no predictions: tracking.save_predictions is false"),
        (predictions(BETTER[:1]), [], "1 row in common; at least 2 are needed"),
        ([], [], "0 rows in common; at least 2 are needed"),
    ],
)
def test_what_cannot_be_compared_has_a_reason(
    tmp_path: Path, rows: list[dict[str, Any]] | None, settings: list[str], reason: str
):
    found = pair(make_run(tmp_path, predictions(BASE)), make_run(tmp_path, rows, settings=settings))
    assert found.reason.startswith(reason) and found.metrics == {} and found.verdict == ""
    assert found.sentence.startswith(f"B and A were not compared: {reason}")


def test_test_rows_are_compared_where_both_have_them(tmp_path: Path):
    with_test = [make_run(tmp_path, predictions(BASE), test=predictions(scores)) for scores in (BASE, BETTER)]
    write_rows(with_test[1], "test-step-3.jsonl", predictions(BASE))  # of a part of the run before it was resumed
    without = make_run(tmp_path, predictions(BASE))
    report = compared(*with_test, without)
    assert [(it.second, it.split, it.verdict) for it in report.pairs] == [
        ("B", "validation", "no difference shown"), ("B", "test", "better"), ("C", "validation", "no difference shown"),
    ]  # fmt: skip
    assert [(block.split, block.runs) for block in report.blocks] == [
        ("validation", ["A", "B", "C"]),
        ("test", ["A", "B"]),
    ]


def test_only_settings_that_differ_are_listed(tmp_path: Path):
    settings = ["training.learning_rate=0.001", "monitoring.alerts.urls=['json://user:geheim@host/x']"]
    runs = [make_run(tmp_path, None), make_run(tmp_path, None, settings=settings)]
    report = compared(*runs)
    default = Config().training.learning_rate
    found = {it.key: it.values for it in report.settings}
    assert found.pop("monitoring.alerts.urls") == [[], ["***"]]
    assert found == {"training.learning_rate": [default, 0.001]}
    assert "geheim" not in dumps(dataclasses.asdict(report))
    assert [it.key for it in report.others] == []
    assert compared(runs[0], make_run(tmp_path, None)).settings == []


def test_settings_that_are_younger_than_a_run_count_as_their_defaults(tmp_path: Path):
    old = yaml.safe_load(composed())
    del old["monitoring"], old["training"]["keep_best"]
    report = compared(make_run(tmp_path, None), make_run(tmp_path, None, config=old))
    assert report.settings == []


def test_a_run_of_a_notebook_is_compared_as_far_as_it_goes(tmp_path: Path):
    notebook = {"lr": 0.1, "layers": {"first": 3}, 5: [1, {"a": None}]}
    runs = [make_run(tmp_path, predictions(BASE)), make_run(tmp_path, None, config=notebook, train="u" * 64)]
    (runs[1].path / "environment.json").unlink()
    report = compared(*runs)
    found = {it.key: (it.values, it.given) for it in report.settings}
    assert found["lr"] == ([None, 0.1], [False, True]) and found["layers.first"][0] == [None, 3]
    assert not any(key.startswith("general.") for key in found), "what it does not say of our settings is not known"
    others = {it.key: it.values for it in report.others}
    assert others["train rows"] == ["tttttttt (10)", "uuuuuuuu (10)"]
    assert "torch" not in others
    assert report.notes == [
        "B was not trained by dlgsum: settings that it does not record are not compared",
        "B does not record versions and hardware",
    ]  # fmt: skip
    newer = make_run(tmp_path, None)
    write_json(newer.path / "environment.json", {"python": "3.12", "packages": {"torch": "2.14.0"}})
    assert {it.key: it.values for it in compared(*runs, newer).others}["torch"] == ["2.13.0", None, "2.14.0"]


def test_runs_that_are_not_complete_are_marked(tmp_path: Path):
    runs = [make_run(tmp_path, predictions(BASE)), make_run(tmp_path, predictions(BETTER), status="failed")]
    assert compared(*runs).notes == ["B is failed: its best so far is compared"]


def test_too_few_resamples_for_so_many_runs_are_told(tmp_path: Path):
    runs = [make_run(tmp_path, predictions(scores)) for scores in (BASE, BETTER, BETTER, BETTER)]
    report = compared(*runs, bootstrap=Bootstrap(samples=100))
    assert "100 resamples are too few to show any difference in 3 comparisons at 95 %" in report.notes[0]
    assert {it.verdict for it in report.pairs} == {"no difference shown"}
    wanted = int(report.notes[0].rpartition(" ")[2])
    assert {it.verdict for it in compared(*runs, bootstrap=Bootstrap(samples=wanted)).pairs} == {"better"}


def test_what_is_refused(tmp_path: Path):
    run = make_run(tmp_path, None)
    request = Request(overrides=[f"general.output_dir='{tmp_path}'"], environ={})
    with pytest.raises(UsageError, match="nothing to compare with"):
        compare([run.id], request)
    with pytest.raises(UsageError, match="are the same run"):
        compare([run.id, str(run.path)], request)
    with pytest.raises(UsageError, match="no run 'nothing'"):
        compare([run.id, "nothing"], request)
    for bootstrap, word in (
        (Bootstrap(samples=10), "samples"), (Bootstrap(level=1.0), "level"), (Bootstrap(seed=-1), "seed"),
        (Bootstrap(level=math.nan), "level"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=f"--{word}"):
            compare([run.id, run.id], request, bootstrap)
