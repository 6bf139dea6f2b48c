"""Scores against values recorded from the original implementations."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from dlgsum.core import plugins
from dlgsum.metrics.scorer import RougeScores, Scorer

PAIRS = {
    "A": ("안녕하세요 반가워요 오늘 뭐 먹을래요?", "안녕 ㅋ 반가워 오늘 뭐 할래?"),
    "B": (
        "#Person1#은 #Person2#에게 내일 오후 2시 회의를 제안합니다.",
        "#Person2#는 #Person1#에게 내일 2시에 회의하자고 제안합니다.",
    ),
    "C": ("나는 학교에 간다. 나는 공부한다.", "나는 학교에 간다. 나는 집에 간다."),
}
CHECK_TABLE = {
    "google": {"A": (0, 0, 0), "B": (1, 0, 0.6667), "C": (0, 0, 0)},
    "whitespace": {"A": (0.3636, 0.2222, 0.3636), "B": (0.3077, 0, 0.3077), "C": (0.7273, 0.6667, 0.7273)},
    "pltrdy": {"A": (0.3636, 0.2222, 0.3636), "B": (0.3077, 0, 0.3077), "C": (0.75, 0.6667, 0.75)},
    "multilingual": {"A": (0.3636, 0.2222, 0.3636), "B": (0.5882, 0.1333, 0.4706), "C": (0.7273, 0.6667, 0.7273)},
    "char": {"A": (0.6897, 0.3704, 0.6897), "B": (0.8767, 0.7606, 0.8219), "C": (0.8, 0.7143, 0.8)},
}
# Recorded with protect_tags=False. Only B holds tags, and its protected scores happen to be the same numbers:
# either way each tag with its josa is two units, of which the tag matches and the josa 은/는 does not.
KIWI_TABLE = {"A": (0.6, 0.1111, 0.5), "B": (0.7586, 0.3704, 0.6897), "C": (0.8148, 0.72, 0.8148)}
KIWI_VERSIONS = ("0.24.1", "0.24.0")


def make(name: str, *, protect_tags: bool = True) -> Scorer:
    scorer: Scorer = plugins.load("scorers", name)(protect_tags=protect_tags)
    return scorer


def as_tuple(scores: RougeScores) -> tuple[float, float, float]:
    return scores.rouge1, scores.rouge2, scores.rougeL


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", CHECK_TABLE)
def test_check_table(name: str, pair: str) -> None:
    assert as_tuple(make(name).score(*PAIRS[pair])) == pytest.approx(CHECK_TABLE[name][pair], abs=5e-5)


@pytest.mark.skipif(
    (version("kiwipiepy"), version("kiwipiepy_model")) != KIWI_VERSIONS,
    reason="the values were recorded with kiwipiepy 0.24.1 and its model 0.24.0",
)
@pytest.mark.parametrize("protect_tags", [False, True])
@pytest.mark.parametrize("pair", PAIRS)
def test_check_table_of_kiwi(pair: str, protect_tags: bool) -> None:
    scorer = make("kiwi", protect_tags=protect_tags)
    assert as_tuple(scorer.score(*PAIRS[pair])) == pytest.approx(KIWI_TABLE[pair], abs=5e-5)


@pytest.mark.parametrize("pair", PAIRS)
def test_tag_protection_in_kiwi_changes_only_text_with_tags(pair: str) -> None:
    protected, plain = make("kiwi"), make("kiwi", protect_tags=False)
    for text in PAIRS[pair]:
        assert (protected.units(text) != plain.units(text)) == (pair == "B")


def test_kiwi_without_protection_takes_josa_for_hashtags() -> None:
    assert make("kiwi").units("#Person1#은")[:2] == ["#Person1#", "은"]
    assert "#은" in make("kiwi", protect_tags=False).units("#Person1#은")


@pytest.mark.parametrize(
    ("reference", "prediction"),
    [
        *PAIRS.values(),
        ("The quick brown fox jumps over the lazy dog", "A quick dog jumped over the foxes, quickly!"),
        ("Room 3-B, 10:30", "room 3b 10 30"),
        ("", "text"),
        ("text", ""),
        ("café", "cafe"),
    ],
)
def test_google_equals_rouge_score(reference: str, prediction: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    original = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False).score(reference, prediction)
    expected = tuple(original[kind].fmeasure for kind in ("rouge1", "rouge2", "rougeL"))
    assert as_tuple(make("google").score(reference, prediction)) == expected


# reference, prediction, F1 of rouge-1, rouge-2, rouge-l as printed by `rouge` 1.0.1
RECORDED = [
    (
        "나는 학교에 간다. 나는 공부한다.",
        "나는 학교에 간다. 나는 집에 간다.",
        0.749999995,
        0.6666666617283951,
        0.749999995,
    ),
    ("회의는 세 시에 열립니다.", "회의는 세 시에 열립니다.", 0.999999995, 0.999999995, 0.999999995),
    (
        "민지는 약속을 미루자고 했다. 준호는 괜찮다고 답했다. ",
        "준호는 괜찮다고 했다. 민지는 약속을 미루었다",
        0.7142857093877552,
        0.33333332847222225,
        0.7142857093877552,
    ),
    ("가 나 가 나 가", "나 가 나", 0.999999995, 0.999999995, 0.999999995),
    ("가 나 다 라", "다 라 가 나", 0.999999995, 0.6666666616666668, 0.4999999950000001),
    (
        "비가 온다. . 우산을 챙긴다.",
        "비가 온다.. 우산을 챙겼다. ",
        0.7999999950000002,
        0.24999999500000009,
        0.7999999950000002,
    ),
    ("비용은 3.5만 원이다.", "비용은 3.5만 원 정도이다.", 0.6666666617283951, 0.5714285665306124, 0.6666666617283951),
    ("안녕", "안녕", 0.999999995, 0.0, 0.999999995),
    ("안녕", "잘 가", 0.0, 0.0, 0.0),
    (
        "#Person1#은 #Person2#에게 표를 부탁한다.",
        "#Person1#은 표를 부탁한다. #Person2#은 거절한다.",
        0.6666666617283951,
        0.2857142808163266,
        0.6666666617283951,
    ),
    (" .가 나. 다", "다.  .나 가", 0.999999995, 0.0, 0.749999995),
]


@pytest.mark.parametrize(("reference", "prediction", "one", "two", "longest"), RECORDED)
def test_pltrdy_equals_the_rouge_package(
    reference: str, prediction: str, one: float, two: float, longest: float
) -> None:
    scores = as_tuple(make("pltrdy").score(reference, prediction))
    assert scores == pytest.approx((one, two, longest), abs=1e-8, rel=0)


@pytest.mark.parametrize("nothing", ["", ".", "...", " ", " . ", "\n"])
def test_pltrdy_gives_nothing_where_the_package_raises(nothing: str) -> None:
    for reference, prediction in (("안녕.", nothing), (nothing, "안녕."), (nothing, nothing)):
        assert as_tuple(make("pltrdy").score(reference, prediction)) == (0, 0, 0)


def test_pltrdy_reads_long_texts_without_recursion() -> None:
    text = " ".join(f"단어{number % 700}" for number in range(1500))
    assert make("pltrdy").score(text, text).rougeL == pytest.approx(1, abs=1e-8)


def test_two_bigrams_are_needed_for_rouge2() -> None:
    assert as_tuple(make("whitespace").score("안녕", "안녕")) == (1, 0, 1)
