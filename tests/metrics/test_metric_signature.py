"""Signatures: the same settings give the same line, and whatever changes numbers changes it."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from dlgsum.config.schema import Metrics, Weights
from dlgsum.core.errors import UsageError
from dlgsum.metrics.signature import count_references, require_same_signature
from dlgsum.metrics.suite import MetricSuite


def signature(**settings: object) -> str:
    return MetricSuite(Metrics(**settings)).signature  # type: ignore[arg-type]


def test_it_is_one_readable_line_in_a_fixed_order() -> None:
    shape = (
        r"rouge_combined_f1\|scorer:kiwi\|tags:protected\|kiwipiepy:[\d.]+\|model:[\d.]+\|rouge_score:[\d.]+"
        r"\|norm:NFC\|refs:mean\|weights:0\.333,0\.333,0\.333\|dlgsum:\d+"
    )
    assert re.fullmatch(shape, signature())
    assert signature() == signature()


def test_a_result_also_tells_its_number_of_references() -> None:
    made = MetricSuite(Metrics(scorer="char"))
    one = made.score(["가"], [["가"]]).signature
    assert one == made.signature.replace("|weights", "|nrefs:1|weights")
    assert "|nrefs:2|" in made.score(["가"], [["가", "나"]]).signature


def test_settings_that_change_numbers_change_it() -> None:
    signatures = [
        signature(),
        signature(scorer="char"),
        signature(scorer="pltrdy"),
        signature(protect_tags=False),
        signature(references="max"),
        signature(weights=Weights(rouge1=0.33, rouge2=0.33, rougeL=0.34)),
    ]
    assert all(a != b for a, b in combinations(signatures, 2))


def test_settings_that_change_nothing_do_not() -> None:
    assert signature(weights=Weights(rouge1=2, rouge2=2, rougeL=2)) == signature()
    assert signature(scorer="char", protect_tags=False) == signature(scorer="char")
    assert signature(bleu=False, bootstrap_samples=200, best="rouge1_f1") == signature()


def test_references_are_counted() -> None:
    assert count_references([["가"], ["나"]]) == "1"
    assert count_references([["가", "나", "다"]] * 2) == "3"
    assert count_references([["가"], ["나", "다"]]) == "var"
    assert count_references([]) == "0"


def test_only_like_is_compared_with_like() -> None:
    require_same_signature(signature(), signature())
    with pytest.raises(UsageError) as caught:
        require_same_signature(signature(), signature(scorer="char", references="max"))
    message = str(caught.value)
    assert "scorer: kiwi and char" in message
    assert "refs: mean and max" in message
    assert "tags: protected and (absent)" in message
    assert "weights" not in message
