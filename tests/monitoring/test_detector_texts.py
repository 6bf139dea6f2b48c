"""What a detector says goes to others: it holds none of the user's texts."""

from __future__ import annotations

from dlgsum.config.schema.detectors import RougeCollapse as Options
from dlgsum.monitoring.detectors.rouge_collapse import RougeCollapse
from dlgsum.monitoring.readings import EvaluationReading


def test_equal_predictions_are_not_repeated() -> None:
    detector = RougeCollapse(Options(patience=1))
    found = detector.evaluation(EvaluationReading(step=1, predictions=["민수는 병원에 갑니다."] * 10))
    assert found is not None and "100% are the same" in found.message
    assert "민수" not in repr(found)
