"""Short names of a model's layers, from the names of its parameters."""

from __future__ import annotations

# What wraps a model or adds a step to a name without saying anything about the layer.
_WRAPPERS = {"module", "_orig_mod", "model", "transformer"}
_SIDES = {"encoder": "enc", "decoder": "dec"}
_NUMBERED = {"layers", "layer", "block", "blocks", "h"}
_KINDS = {"shared": "shared", "lm_head": "head", "wte": "embed", "wpe": "embed"}


def layer_of(parameter: str) -> str:
    """Return the short name of the layer that a parameter belongs to.

    Numbered layers are ``enc.L3``, ``dec.L0`` or, in a model of one stack, ``L4``. Each stack has ``embed`` and
    ``norm`` besides (``enc.embed``); ``shared`` are embeddings that encoder and decoder have in common, ``head`` is the
    output layer. A name of another kind keeps its first two dotted parts.

    Args:
        parameter: as ``named_parameters()`` gives it, such as ``model.encoder.layers.3.fc1.weight``.
    """
    parts = parameter.split(".")
    before: list[str] = []
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if part in _NUMBERED and following.isdigit():
            return ".".join([*before, f"L{following}"])
        kind = _kind(part)
        if kind:
            return ".".join([*before, kind])
        if part not in _WRAPPERS:
            before.append(_SIDES.get(part, part))
    return ".".join(parts[:2])


def _kind(part: str) -> str:
    if "embed" in part:  # before the norms: BART has a layernorm_embedding
        return "embed"
    return "norm" if "norm" in part or part.startswith("ln_") else _KINDS.get(part, "")
