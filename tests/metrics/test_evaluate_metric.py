"""Our scorer inside `evaluate`, and metrics of `evaluate` inside our suite, for real and without the hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dlgsum.config.schema import Metrics
from dlgsum.metrics.evaluate_metric import evaluate_metric_path
from dlgsum.metrics.suite import MetricSuite

pytestmark = pytest.mark.slow  # importing `evaluate` takes 5 to 12 s on two cores

PREDICTIONS = ["#Person1#은 표를 예매합니다.", "둘은 저녁을 먹기로 한다."]
REFERENCES = [["#Person1#은 #Person2#에게 표를 예매해 줍니다."], ["두 사람은 저녁을 먹기로 한다."]]

SCRIPT = """
import datasets
import evaluate

class LengthGap(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        gaps = [len(a) - len(b) for a, b in zip(predictions, references)]
        return {"length_gap": sum(gaps), "each": gaps, "note": "text"}
"""

# In a process of its own: the cache folder is read at import, and tests must not write into the user's.
PROGRAM = """
import json, sys
import evaluate
from dlgsum.config.schema import Metrics
from dlgsum.core.errors import DlgsumError
from dlgsum.metrics.evaluate_metric import evaluate_metric_path
from dlgsum.metrics.suite import MetricSuite

predictions, references, script, output = json.loads(sys.argv[1])
report = {}

def attempt(**settings):
    try:
        return MetricSuite(Metrics(scorer="char", **settings)).score(predictions, references).metrics
    except DlgsumError as error:
        return {"type": type(error).__name__, "message": str(error)}

ours = evaluate.load(str(evaluate_metric_path()))
report["nested"] = ours.compute(predictions=predictions, references=references)
report["flat"] = ours.compute(predictions=predictions, references=[row[0] for row in references])
report["max"] = ours.compute(
    predictions=predictions, references=[row + ["저녁을 먹는다."] for row in references],
    scorer="char", multiple="max", weights=(1, 0, 0), bleu=False,
)
report["extra"] = attempt(extra=[script], best="length_gap_each")
report["extra_typo"] = attempt(extra=[script], best="length_gap_eech")
report["extra_ours"] = attempt(extra=[str(evaluate_metric_path())])
report["unreachable"] = attempt(extra=["frugalscore"])
report["missing_path"] = attempt(extra=["/nowhere/at_all.py"])
open(output, "w").write(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("evaluate")
    script = folder / "length_gap" / "length_gap.py"
    script.parent.mkdir()
    script.write_text(SCRIPT, encoding="utf-8")
    output = folder / "report.json"
    arguments = json.dumps([PREDICTIONS, REFERENCES, str(script.parent), str(output)])
    environment = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", PROGRAM, arguments], check=True, env=environment, cwd=folder, timeout=240)
    content: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return content


def test_the_metric_gives_the_numbers_of_the_suite(report: dict[str, Any]) -> None:
    result = MetricSuite(Metrics()).score(PREDICTIONS, REFERENCES)
    assert report["nested"] == {**result.metrics, "signature": result.signature}
    assert report["flat"] == report["nested"]


def test_the_metric_takes_the_settings_of_the_suite(report: dict[str, Any]) -> None:
    settings = Metrics(scorer="char", references="max", weights={"rouge2": 0, "rougeL": 0}, bleu=False)  # type: ignore[arg-type]
    result = MetricSuite(settings).score(PREDICTIONS, [[*row, "저녁을 먹는다."] for row in REFERENCES])
    assert report["max"] == {**result.metrics, "signature": result.signature}


def test_a_local_extra_adds_its_numbers(report: dict[str, Any]) -> None:
    gaps = [len(a) - len(b[0]) for a, b in zip(PREDICTIONS, REFERENCES, strict=True)]
    assert report["extra"]["length_gap"] == sum(gaps)
    assert report["extra"]["length_gap_each"] == pytest.approx(sum(gaps) / 2)
    assert "length_gap_note" not in report["extra"]
    assert report["extra"]["rouge1_f1"] > 0


def test_a_best_metric_that_an_extra_does_not_give_is_reported(report: dict[str, Any]) -> None:
    assert report["extra_typo"]["type"] == "ConfigError"
    assert "did you mean length_gap_each" in report["extra_typo"]["message"]


def test_our_metric_can_itself_be_an_extra(report: dict[str, Any]) -> None:
    expected = MetricSuite(Metrics()).score(PREDICTIONS, REFERENCES).metrics
    assert report["extra_ours"]["korean_rouge_rouge1_f1"] == pytest.approx(expected["rouge1_f1"])


@pytest.mark.parametrize(("case", "name"), [("unreachable", "frugalscore"), ("missing_path", "at_all.py")])
def test_an_extra_that_cannot_be_loaded_is_named(report: dict[str, Any], case: str, name: str) -> None:
    assert report[case]["type"] == "EnvironmentProblem"
    assert name in report[case]["message"]
    assert "path of a local metric" in report[case]["message"]


def test_the_script_lies_where_evaluate_looks() -> None:
    folder = evaluate_metric_path()
    assert (folder / f"{Path(folder).name}.py").is_file()
