"""Turn plain settings into the typed configuration, reporting every problem at once in plain words."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast, get_args, get_type_hints

from annotated_types import Ge, Gt
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dlgsum.config.contradictions import contradictions
from dlgsum.config.masking import hidden
from dlgsum.config.schema import Config, key_names
from dlgsum.config.schema.options import MASK
from dlgsum.core.errors import ConfigError, nearest

# Names that transformers 4, other tools or habit use for settings that exist here under another name.
RENAMED = {
    "evaluation_strategy": "training.eval_strategy",
    "group_by_length": "training.batching=samples",
    "label_smoothing": "training.label_smoothing_factor",
    "gradient_checkpointing": "training.activation_checkpointing",
    "lr": "training.learning_rate",
    "batch_size": "training.per_device_train_batch_size",
    "epochs": "training.num_train_epochs",
    "seed": "general.seed",
    "no_cuda": "general.device=cpu",
    "use_cpu": "general.device=cpu",
    "generation_max_length": "generation.max_length",
    "generation_num_beams": "generation.num_beams",
    "report_to": "wandb.mode",
    "metric_for_best_model": "metrics.best",
    "logging_dir": "general.output_dir",
    "additional_special_tokens": "tokenizer.special_tokens",
}

# Settings of earlier versions of dlgsum, which saved runs may still have, and what holds now.
OUTGROWN = {
    "monitoring.non_finite": "steps that are not finite are skipped and counted, see training.max_skipped_steps",
    "tracking.tensorboard": "tracking.trackers=[tensorboard] writes for TensorBoard",
}


def in_todays_terms(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file that an earlier version of dlgsum saved, with what has a new name under it.

    ``tracking.tensorboard: true`` becomes one of ``tracking.trackers``; false goes. Whatever else it holds stays, as
    a mistake to be reported.
    """
    tracking = content.get("tracking")
    if not isinstance(tracking, Mapping) or not isinstance(tracking.get("tensorboard"), bool):
        return dict(content)
    rest = {name: value for name, value in tracking.items() if name != "tensorboard"}
    if tracking["tensorboard"]:
        rest["trackers"] = list(dict.fromkeys([*(rest.get("trackers") or []), "tensorboard"]))
    return {**content, "tracking": rest}


# Names that were in transformers 4 and are nowhere now.
GONE = {
    "overwrite_output_dir",
    "fp16_opt_level",
    "half_precision_backend",
    "save_safetensors",
    "predict_with_generate",
}


def build_config(
    values: dict[str, Any],
    origins: Mapping[str, str] | None = None,
    further: Callable[[Config], list[str]] | None = None,
) -> Config:
    """Return the typed, frozen configuration for plain nested ``values``.

    Args:
        values: settings by section; what is absent takes its default.
        origins: dotted key to where its value was set, added to the messages.
        further: more checks, of what the schema cannot know.

    Raises:
        ConfigError: with every unknown key, wrong type, value out of range and contradiction.
    """
    adapter = TypeAdapter(Config)
    origins = origins or {}
    booleans = list(_booleans_for_numbers(values, Config))
    problems = [
        f"{'.'.join(place)}={_shown(value)}: {_number_or_auto(place) or 'must be a number'}{_origin(place, origins)}"
        for place, value in booleans
    ]
    values = _without(values, [place for place, _ in booleans])
    try:
        config = adapter.validate_python(values)
    except ValidationError as error:
        details = error.errors()
        problems += dict.fromkeys(_explain(detail, origins) for detail in details)
        # The rest may contradict itself as well: look at it with the bad values back at their defaults.
        config = adapter.validate_python(_without(values, [_setting(detail["loc"]) for detail in details]))
    problems += [*contradictions(config), *(further(config) if further else ())]
    if problems:
        raise ConfigError(problems)
    return config


def _setting(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return where a problem is without what pydantic adds where several types are allowed: the type it tried."""
    kind: Any = Config
    for length, part in enumerate(place):
        if not dataclasses.is_dataclass(kind):
            # Only of unions is such a name the last part; other parts are places in lists and dictionaries.
            return place[:length] if isinstance(part, str) else place
        kind = get_type_hints(kind).get(str(part))
    return place


def _number_or_auto(place: Sequence[int | str]) -> str:
    """Say what a setting takes that is a whole number or `auto`; empty for any other setting."""
    kind: Any = Config
    for part in place:
        kind = get_type_hints(kind, include_extras=True).get(str(part)) if dataclasses.is_dataclass(kind) else None
    parts = get_args(kind)
    if Literal["auto"] not in parts:
        return ""
    bounds = [
        int(str(bound.ge)) if isinstance(bound, Ge) else int(str(bound.gt)) + 1
        for part in parts
        for metadata in getattr(part, "__metadata__", ())
        for bound in getattr(metadata, "metadata", (metadata,))
        if isinstance(bound, (Ge, Gt))
    ]
    return f"must be a whole number{''.join(f' of at least {bound}' for bound in bounds)}, or auto"


def _without(values: dict[str, Any], places: Sequence[tuple[int | str, ...]]) -> dict[str, Any]:
    """Return a copy of nested ``values`` without the settings at ``places``."""
    copied = copy.deepcopy(values)
    for place in places:
        node: Any = copied
        names = list(itertools.takewhile(lambda part: isinstance(part, str), place))
        for name in names[:-1]:
            node = node.get(name, {})
        node.pop(names[-1], None)
    return copied


def _booleans_for_numbers(
    values: Mapping[str, Any], section: type[Any], place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield each true or false that stands where a number is wanted: pydantic takes them for 1 and 0."""
    for name, hint in get_type_hints(section).items():
        value = values.get(name)
        allowed = {hint, *get_args(hint)}
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            yield from _booleans_for_numbers(value, cast("type[Any]", hint), (*place, name))
        elif isinstance(value, bool) and bool not in allowed and allowed & {int, float}:
            yield (*place, name), value


def _explain(detail: ErrorDetails, origins: Mapping[str, str]) -> str:
    place = _setting(detail["loc"])
    key = ".".join(str(part) for part in place)
    origin = _origin([part for part in place if isinstance(part, str)], origins)
    if detail["type"] == "unexpected_keyword_argument":
        return unknown_key(key) + origin
    value = hidden(key, detail["input"])
    if detail["type"] == "dataclass_type":
        return f"{key} is a section, not a value; got {_shown(value)}{origin}{_group_hint(key, value, origin)}"
    return f"{key}={_shown(value)}: {_number_or_auto(place) or _wanted(detail)}{origin}"


def _origin(place: Sequence[str], origins: Mapping[str, str]) -> str:
    """Say where a setting, or the first one below it, was given."""
    setting = ".".join(place)
    below = (origins[key] for key in origins if key.startswith(f"{setting}."))
    origin = origins.get(setting) or next(below, "")
    return f" (from {origin})" if origin else ""


def unknown_key(key: str) -> str:
    """Say that ``key`` does not exist, and what was probably meant."""
    scheme, found, _ = key.partition("://")
    key = f"{scheme}://{MASK}" if found else key  # an address in the wrong place
    leaf = key.rpartition(".")[2]
    if key in OUTGROWN:
        return f"{key}: there is no such setting any more; {OUTGROWN[key]}"
    if leaf in GONE:
        return f"{key}: there is no such setting any more; remove it"
    guess = RENAMED.get(leaf) or nearest(key, key_names())
    return f"{key}: there is no such setting" + (f"; did you mean {guess}?" if guess else "")


def _group_hint(key: str, value: object, origin: str) -> str:
    # Only there: a file and the command line choose a group's file by this very line.
    chosen = isinstance(value, str) and "environment variable" in origin
    return f"; choose a group's file as {key}={value} on the command line" if chosen else ""


def _shown(value: object) -> str:
    """Return a value as YAML writes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _wanted(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    kind = detail["type"]
    match kind:
        case "greater_than":
            return f"must be greater than {context['gt']:g}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "less_than":
            return f"must be less than {context['lt']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}"
        case "literal_error":
            guess = nearest(str(detail["input"]), _choices(context["expected"]), cutoff=0.5)
            return f"must be {context['expected']}" + (f"; did you mean {guess}?" if guess else "")
        case "float_type" | "float_parsing":
            return "must be a number"
        case "int_type" | "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "string_type":
            return "must be text"
        case "list_type":
            return "must be a list, such as [a,b]"
        case "finite_number":
            return "must be a finite number"
        case "string_too_short":
            return "must not be empty"
    return detail["msg"]


def _choices(expected: str) -> list[str]:
    return [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]
