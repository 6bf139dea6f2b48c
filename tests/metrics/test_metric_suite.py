"""The suite: which metrics it gives, how rows become means, and what it refuses."""

from __future__ import annotations

import math

import pytest

from dlgsum.config.schema import Metrics, Weights
from dlgsum.core.errors import ConfigError, UsageError
from dlgsum.metrics.extras import ExtraMetric, extra_name
from dlgsum.metrics.suite import COMBINED, ROUGE, MetricSuite, known_metric_names, settings_problems

PREDICTIONS = ["수아는 병원에 간다", "준호는 집에서 쉰다", ""]
REFERENCES = [["수아는 병원에 갔다"], ["준호는 오늘 집에서 쉰다"], ["둘은 점심을 먹는다"]]

# Summaries that say different things about the same two speakers, and what a broken model might always say.
KOREAN = [
    "#Person1#은 #Person2#에게 이사할 집을 같이 보러 가자고 합니다.",
    "#Person1#은 #Person2#에게 면접에서 떨어진 이유를 묻습니다.",
    "#Person1#은 늦잠을 잔 #Person2#에게 서두르라고 재촉합니다.",
    "#Person1#은 #Person2#에게 강아지 사료를 추천해 줍니다.",
]
CONSTANT = "#Person1#은 #Person2#에게"


def suite(scorer: str = "whitespace", **settings: object) -> MetricSuite:
    return MetricSuite(Metrics(scorer=scorer, **settings))  # type: ignore[arg-type]


def test_it_gives_what_it_names() -> None:
    made = suite()
    result = made.score(PREDICTIONS, REFERENCES)
    assert tuple(result.metrics) == made.names == known_metric_names(made.settings)
    assert tuple(result.rows) == (*ROUGE, COMBINED)
    assert all(column.shape == (3,) for column in result.rows.values())
    assert all(isinstance(value, float) and math.isfinite(value) for value in result.metrics.values())


def test_a_metric_is_the_mean_of_its_rows() -> None:
    result = suite().score(PREDICTIONS, REFERENCES)
    assert result.rows["rouge1_f1"] == pytest.approx([2 / 3, 6 / 7, 0])
    for name, column in result.rows.items():
        assert result.metrics[name] == pytest.approx(column.mean())


def test_health_numbers() -> None:
    metrics = suite().score(["가나", "가나 ", "", " 다"], [["가"]] * 4).metrics
    assert metrics["pred_chars"] == pytest.approx(5 / 4)
    assert metrics["empty_share"] == pytest.approx(1 / 4)
    assert metrics["distinct_share"] == pytest.approx(3 / 4)


@pytest.mark.parametrize("scorer", ["kiwi", "char", "whitespace", "multilingual"])
def test_a_perfect_prediction_scores_exactly_1(scorer: str) -> None:
    texts = [row[0] for row in REFERENCES]
    uneven = Weights(rouge1=0.33, rouge2=0.33, rougeL=0.34)
    metrics = suite(scorer, weights=uneven).score(texts, REFERENCES).metrics
    assert [metrics[name] for name in (*ROUGE, COMBINED)] == [1, 1, 1, 1]
    assert metrics["bleu"] == pytest.approx(100)


def test_combined_is_the_weighted_mean_by_row_and_over_all() -> None:
    result = suite(weights=Weights(rouge1=2, rouge2=0, rougeL=6)).score(PREDICTIONS, REFERENCES)
    by_row = result.rows["rouge1_f1"] / 4 + result.rows["rougeL_f1"] * 3 / 4
    assert result.rows[COMBINED] == pytest.approx(by_row)
    of_means = result.metrics["rouge1_f1"] / 4 + result.metrics["rougeL_f1"] * 3 / 4
    assert result.metrics[COMBINED] == pytest.approx(of_means)


def test_several_references_are_averaged_or_the_best_is_taken_by_rouge_type() -> None:
    # The first reference shares all words in another order, the second shares one run of two.
    references = [["나 다 가", "가 나 라"]]
    mean = suite(references="mean").score(["가 나 다"], references).metrics
    best = suite(references="max").score(["가 나 다"], references).metrics
    one = [suite().score(["가 나 다"], [[text]]).metrics for text in references[0]]
    assert [one[0]["rouge1_f1"], one[1]["rouge1_f1"]] == pytest.approx([1, 2 / 3])
    for name in ROUGE:
        assert mean[name] == pytest.approx((one[0][name] + one[1][name]) / 2)
        assert best[name] == pytest.approx(max(one[0][name], one[1][name]))
    assert best[COMBINED] == pytest.approx(sum(best[name] for name in ROUGE) / 3)


def test_rows_may_have_different_numbers_of_references() -> None:
    references = [["가 나 다 라", "가 나"], ["마 바 사 아"]]
    result = suite().score(["가 나 다 라", "마 바 사 아"], references)
    assert result.metrics["bleu"] == pytest.approx(100)
    assert result.rows["rouge1_f1"] == pytest.approx([(1 + 2 / 3) / 2, 1])
    assert "|nrefs:var|" in result.signature


def test_bleu_of_useless_predictions_is_0_and_several_references_help() -> None:
    assert suite().score(["", ""], [["가 나"], ["다 라"]]).metrics["bleu"] == 0
    assert suite().score(["가 나"], [[""]]).metrics["bleu"] == 0
    given = ["오늘 저녁은 집에서 먹는다"]
    one = suite().score(given, [["오늘 저녁은 밖에서 먹는다"]]).metrics["bleu"]
    two = suite().score(given, [["오늘 저녁은 밖에서 먹는다", "오늘 저녁은 집에서 먹자"]]).metrics["bleu"]
    assert 0 < one < two < 100


def test_bleu_equals_sacrebleu_on_texts_cut_by_hand() -> None:
    import sacrebleu

    given, expected = "오늘 은 비 가 많이 온다", "오늘 은 눈 이 많이 온다"
    direct = sacrebleu.corpus_bleu([given], [[expected]], tokenize="none", force=True).score
    assert suite().score([given], [[expected]]).metrics["bleu"] == pytest.approx(direct)


def test_bleu_can_be_left_out() -> None:
    made = suite(bleu=False)
    assert "bleu" not in made.names
    assert "bleu" not in made.score(PREDICTIONS, REFERENCES).metrics


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "nothing to score"),
        (["가"], [], "1 predictions but 0 rows"),
        (["가", "나"], [["가"], []], r"references\[1\] is empty"),
        (["가"], ["가"], "must be a list"),
    ],
)
def test_rows_that_do_not_fit_are_refused(predictions: list[str], references: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suite().score(predictions, references)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scorer": "kiwii"}, "did you mean kiwi"),
        ({"best": "rouge_combined"}, "did you mean rouge_combined_f1"),
        ({"best": "eval_bleu"}, "did you mean bleu"),
        ({"best": "bleu", "bleu": False}, "no such metric"),
        ({"weights": Weights(rouge1=0, rouge2=0, rougeL=0)}, "weights are all 0"),
        ({"extra": ["chrf", "./metrics/chrf.py"]}, "'chrf' more than once"),
        ({"best": "meteor_score"}, "no such metric"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_scored(settings: dict[str, object], message: str) -> None:
    chosen = Metrics(**settings)  # type: ignore[arg-type]
    assert any(message in problem for problem in settings_problems(chosen))
    with pytest.raises(ConfigError, match=message):
        MetricSuite(chosen)


def test_all_wrong_settings_are_reported_together() -> None:
    chosen = Metrics(scorer="x", best="y", weights=Weights(rouge1=0, rouge2=0, rougeL=0))
    assert len(settings_problems(chosen)) == 3


@pytest.mark.parametrize("best", ["meteor", "meteor_score", "bleu", "empty_share"])
def test_the_best_metric_may_come_from_an_extra(best: str) -> None:
    assert settings_problems(Metrics(extra=["meteor"], best=best)) == []


def test_the_best_metric_may_come_from_elsewhere() -> None:
    assert settings_problems(Metrics(best="loss")) != []
    assert settings_problems(Metrics(best="loss"), other_names=["loss"]) == []
    MetricSuite(Metrics(best="loss"), other_names=["loss"])


def test_subword_is_given_the_tokenizer() -> None:
    with pytest.raises(UsageError, match="tokenizer"):
        suite("subword")
    made = MetricSuite(Metrics(scorer="subword"), subword_tokenize=list)
    assert made.score(["가나다"], [["가나라"]]).metrics["rouge1_f1"] == pytest.approx(2 / 3)


def test_google_praises_a_constant_korean_output() -> None:
    constant = [CONSTANT] * len(KOREAN)
    references = [[text] for text in KOREAN]
    fooled = suite("google").score(constant, references).metrics
    honest = suite("kiwi").score(constant, references).metrics
    assert fooled["rouge1_f1"] == 1
    assert honest["rouge1_f1"] < 0.6
    assert honest["distinct_share"] == 0.25
    # Two summaries that have nothing in common but the speakers are equal in its eyes.
    assert suite("google").scorer.score(KOREAN[0], KOREAN[1]).rougeL == 1


def test_a_scorer_that_drops_most_of_the_text_is_warned_about() -> None:
    plain = ["내일 아침에 역 앞에서 보자고 약속한다.", "주문한 책이 3일째 오지 않아 항의한다."]
    warning = suite("google").coverage_warning(plain)
    assert warning is not None
    assert "'google'" in warning
    assert "97%" in warning
    assert suite("google").coverage_warning(KOREAN) is not None
    assert suite("google").coverage_warning(["They agree to meet at the station."]) is None


@pytest.mark.parametrize("scorer", ["kiwi", "char", "whitespace", "multilingual", "pltrdy"])
def test_scorers_for_korean_need_no_warning(scorer: str) -> None:
    assert suite(scorer).coverage_warning(KOREAN) is None


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_there_is_no_warning_about_nothing(texts: list[str]) -> None:
    assert suite("google").coverage_warning(texts) is None


@pytest.mark.parametrize("path", ["chrf", "./my/chrf", "./my/chrf.py", "someone/chrf", r"C:\my\chrf", "my/chrf/"])
def test_an_extra_is_known_by_its_short_name(path: str) -> None:
    assert extra_name(path) == "chrf"


class FakeModule:
    """What `evaluate` would load."""

    features: object = None

    def __init__(self, result: dict[str, object]) -> None:
        self.result = result

    def compute(self, **_: object) -> dict[str, object]:
        return self.result


def fake(name: str, result: dict[str, object], features: object, reserved: tuple[str, ...] = ()) -> ExtraMetric:
    made = ExtraMetric(name, reserved=reserved)
    made._module = FakeModule(result)
    made._module.features = features
    return made


def test_values_of_an_extra_are_flattened() -> None:
    from datasets import Value

    result = {"wer": 0.5, "n": 2, "by_row": [1, 2.0], "why": "text", "ok": True, "other": [1], "none": None}
    made = fake("wer", result, {"references": Value("string")})
    assert made.compute(["가", "나"], [["가"], ["나"]]) == {"wer": 0.5, "wer_n": 2.0, "wer_by_row": 1.5}


def test_an_extra_never_takes_the_name_of_our_own_metric() -> None:
    from datasets import Value

    made = fake("bleu", {"bleu": 0.3}, {"references": Value("string")}, reserved=("bleu",))
    assert made.compute(["가"], [["가"]]) == {"bleu_bleu": 0.3}


def test_an_extra_for_single_references_refuses_several() -> None:
    from datasets import List, Value

    text = Value("string")
    with pytest.raises(UsageError, match="takes one reference a row"):
        fake("wer", {}, {"references": text}).compute(["가"], [["가", "나"]])
    both = [{"references": List(text)}, {"references": text}]
    assert fake("wer", {"wer": 1}, both).compute(["가"], [["가", "나"]]) == {"wer": 1}
