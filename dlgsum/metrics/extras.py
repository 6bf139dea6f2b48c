"""Further metrics of the `evaluate` library, named by the user and imported only then."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from dlgsum.core.errors import EnvironmentProblem, UsageError


def extra_name(path: str) -> str:
    """Return the short name under which the values of an extra metric are reported.

    ``chrf`` and ``./my/chrf`` and ``./my/chrf.py`` and ``someone/chrf`` are all ``chrf``.
    """
    return PurePath(path.replace("\\", "/")).name.removesuffix(".py")


class ExtraMetric:
    """One metric of the `evaluate` library, loaded at its first use.

    Args:
        path: its name on the hub, or the path of a local script or its folder.
        reserved: names of our own metrics, which its values never take.
    """

    def __init__(self, path: str, *, reserved: Sequence[str] = ()) -> None:
        self.path = path
        self.name = extra_name(path)
        self._reserved = frozenset(reserved)
        self._module: Any = None

    def compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return its numeric values, flattened to ``<name>`` or ``<name>_<key>``.

        A list with one number a row becomes its mean; texts, truth values and other lists are left out. NaN
        is passed on as it is.

        Raises:
            EnvironmentProblem: the metric cannot be loaded.
            UsageError: it takes one reference a row and there are several, or it fails on these texts.
        """
        module = self._load()
        several = any(len(row) != 1 for row in references)
        lists = _takes_lists(module.features)
        if several and not any(lists):
            raise UsageError(
                f"The metric '{self.path}' takes one reference a row, but these rows have several",
                "Remove it from metrics.extra, or score against one reference a row.",
            )
        nested = several or all(lists)
        expected = [list(row) if nested else row[0] for row in references]
        try:
            result = module.compute(predictions=list(predictions), references=expected)
        except Exception as error:  # the script of a metric is anybody's code
            raise UsageError(
                f"The metric '{self.path}' failed on these texts: {type(error).__name__}: {error}",
                "Remove it from metrics.extra if it is not made for lists of texts.",
            ) from error
        return self._flatten(result or {}, len(predictions))

    def _flatten(self, result: Mapping[str, Any], rows: int) -> dict[str, float]:
        values: dict[str, float] = {}
        for key, value in result.items():
            number = _number(value, rows)
            if number is not None:
                plain = key == self.name and key not in self._reserved
                values[key if plain else f"{self.name}_{key}"] = number
        return {key: value for key, value in values.items() if key not in self._reserved}

    def _load(self) -> Any:
        if self._module is None:
            try:
                import evaluate

                # In memory: parallel trials would otherwise contend for one Arrow file in the cache folder.
                self._module = evaluate.load(self.path, keep_in_memory=True)
            except Exception as error:  # hub unreachable, script broken, its packages missing, …
                raise EnvironmentProblem(
                    f"The metric '{self.path}' of metrics.extra cannot be loaded: {type(error).__name__}: {error}",
                    "Without access to the Hugging Face hub, put the path of a local metric in metrics.extra: a "
                    "folder NAME that holds NAME.py, written for the `evaluate` library.",
                ) from error
        return self._module


def _takes_lists(features: Any) -> list[bool]:
    """Return for each input format of a metric whether its references are lists of texts."""
    from datasets import Value

    formats = features if isinstance(features, list) else [features]
    return [not isinstance(each.get("references", Value("string")), Value) for each in formats]


def _number(value: Any, rows: int) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Real):
        return float(value)
    if hasattr(value, "tolist"):  # numpy and torch
        return _number(value.tolist(), rows)
    if isinstance(value, (list, tuple)) and rows and len(value) == rows:
        items = [_number(item, 0) for item in value]
        if all(item is not None for item in items):
            return sum(item for item in items if item is not None) / rows
    return None
