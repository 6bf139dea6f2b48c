"""What counts as trouble while training: the options of each detector."""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from dlgsum.config.schema.options import RULES, nested, option


@dataclass(frozen=True, kw_only=True, config=RULES)
class LossSpike:
    """A loss far above its average."""

    enabled: bool = option(True, "Whether this is watched.")
    factor: float = option(2.0, "A loss above this many times its average is a spike.", gt=1)
    least_rise: float = option(0.5, "A loss less than this above its average is no spike: noise of small losses.", ge=0)
    beta: float = option(0.99, "Smoothing: 0.99 averages over about the last 100 steps.", gt=0, lt=1)
    history: int = option(20, "Steps before anything is judged.", ge=1)


@dataclass(frozen=True, kw_only=True, config=RULES)
class LossPlateau:
    """A loss that no longer moves."""

    enabled: bool = option(True, "Whether this is watched.")
    window: int = option(200, "Steps over which the smoothed loss is compared.", ge=1)
    threshold: float = option(0.001, "A smaller relative change over the window is standing still.", gt=0)
    patience: int = option(5, "Steps in a row that must stand still.", ge=1)
    beta: float = option(0.99, "Smoothing: 0.99 averages over about the last 100 steps.", gt=0, lt=1)
    least_learning_rate: float = option(
        0.1, "Not judged where the schedule is below this share of its peak: the loss flattens by design.", ge=0, le=1
    )


@dataclass(frozen=True, kw_only=True, config=RULES)
class Divergence:
    """A loss that has risen and stays up."""

    enabled: bool = option(True, "Whether this is watched.")
    factor: float = option(1.5, "A smoothed loss above this many times its lowest has diverged.", gt=1)
    least_rise: float = option(0.5, "A rise by less than this is none: noise of small losses.", ge=0)
    patience: int = option(20, "Steps in a row that it must stay up.", ge=1)
    beta: float = option(0.95, "Smoothing: 0.95 averages over about the last 20 steps.", gt=0, lt=1)
    history: int = option(20, "Steps before anything is judged.", ge=1)


@dataclass(frozen=True, kw_only=True, config=RULES)
class GradExplosion:
    """A gradient that is far too large."""

    enabled: bool = option(True, "Whether this is watched.")
    threshold: float = option(100.0, "A norm above this is an error.", gt=0)
    factor: float = option(10.0, "A norm above this many times its average is a warning.", gt=1)
    normal: float = option(10.0, "A norm up to this is never a warning, whatever its average.", ge=0)
    beta: float = option(0.99, "Smoothing: 0.99 averages over about the last 100 steps.", gt=0, lt=1)
    history: int = option(20, "Steps before a norm is compared with its average.", ge=1)


@dataclass(frozen=True, kw_only=True, config=RULES)
class GradVanishing:
    """A gradient that is next to nothing."""

    enabled: bool = option(True, "Whether this is watched.")
    threshold: float = option(1e-7, "A norm below this has vanished.", gt=0)
    ratio: float = option(
        0.01, "So has a smoothed norm below this share of what it was `window` steps before.", gt=0, lt=1
    )
    window: int = option(100, "Steps over which the smoothed norm is compared.", ge=1)
    beta: float = option(0.9, "Smoothing: 0.9 averages over about the last 10 steps.", gt=0, lt=1)


@dataclass(frozen=True, kw_only=True, config=RULES)
class ClipRatio:
    """Gradients that are clipped hard at most steps."""

    enabled: bool = option(True, "Whether this is watched.")
    window: int = option(100, "Steps over which clipped ones are counted.", ge=2)
    threshold: float = option(0.5, "A larger share of steps that are clipped hard is too many.", gt=0, lt=1)
    excess: float = option(
        5.0,
        "Clipped hard: a norm above this many times max_grad_norm; monitor/clip_ratio counts every clipped step, "
        "86 % in a healthy run.",
        ge=1,
    )


@dataclass(frozen=True, kw_only=True, config=RULES)
class NonFinite:
    """A loss or gradient that is NaN or infinite."""

    enabled: bool = option(True, "Whether this is watched.")


@dataclass(frozen=True, kw_only=True, config=RULES)
class Overfitting:
    """Validation loss that rises while training loss falls."""

    enabled: bool = option(True, "Whether this is watched.")
    patience: int = option(2, "Evaluations in a row above the best, with a growing gap to the training loss.", ge=1)
    growth: float = option(0.02, "Rise above the best validation loss, as a share of it, that is too much.", ge=0)


@dataclass(frozen=True, kw_only=True, config=RULES)
class MemoryLeak:
    """Memory that keeps growing."""

    enabled: bool = option(True, "Whether this is watched.")
    block: int = option(20, "Measurements in a block, of which the smallest counts.", ge=1)
    blocks: int = option(5, "Blocks over which memory must grow steadily; the first block of a run is left out.", ge=3)
    share: float = option(0.1, "Growth, as a share of the first block, that is too much.", gt=0)
    megabytes: int = option(256, "Growth in MiB that is too much; both must be exceeded.", ge=1)


@dataclass(frozen=True, kw_only=True, config=RULES)
class ThroughputDrop:
    """Training that has become slow."""

    enabled: bool = option(True, "Whether this is watched.")
    factor: float = option(0.5, "Tokens a second below this share of their median are a drop.", gt=0, lt=1)
    window: int = option(50, "Measurements of which the median is taken.", ge=3)
    history: int = option(10, "Measurements before anything is judged.", ge=1)
    patience: int = option(5, "Slow measurements in a row that are a drop.", ge=1)
    least_steps: int = option(50, "Steps that it must last; both must be reached, however often is measured.", ge=0)


@dataclass(frozen=True, kw_only=True, config=RULES)
class LearningRate:
    """A learning rate off its schedule."""

    enabled: bool = option(True, "Whether this is watched.")
    tolerance: float = option(0.01, "Relative difference from the schedule that is too much.", gt=0)
    patience: int = option(5, "Steps in a row that must be off.", ge=1)


@dataclass(frozen=True, kw_only=True, config=RULES)
class RougeCollapse:
    """Predictions that are empty, all the same or going round in circles."""

    enabled: bool = option(True, "Whether this is watched.")
    empty_share: float = option(0.5, "A larger share of empty predictions is a collapse.", gt=0, lt=1)
    same_share: float = option(0.5, "So is a larger share of one and the same prediction.", gt=0, lt=1)
    looping_share: float = option(0.5, "So is a larger share of predictions that mostly repeat themselves.", gt=0, lt=1)
    score_share: float = option(0.5, "So is a score below this share of the best one.", gt=0, lt=1)
    patience: int = option(
        3,
        "Poor evaluations in a row that count although there was no good one yet: training starts so.",
        ge=1,
    )


@dataclass(frozen=True, kw_only=True, config=RULES)
class Detectors:
    """Thresholds of the detectors."""

    loss_spike: LossSpike = nested(LossSpike, "A loss far above its average.")
    loss_plateau: LossPlateau = nested(LossPlateau, "A loss that no longer moves.")
    divergence: Divergence = nested(Divergence, "A loss that has risen and stays up.")
    grad_explosion: GradExplosion = nested(GradExplosion, "A gradient that is far too large.")
    grad_vanishing: GradVanishing = nested(GradVanishing, "A gradient that is next to nothing.")
    clip_ratio: ClipRatio = nested(ClipRatio, "Gradients that are clipped hard at most steps.")
    non_finite: NonFinite = nested(NonFinite, "A loss or gradient that is NaN or infinite.")
    overfitting: Overfitting = nested(Overfitting, "Validation loss that rises while training loss falls.")
    memory_leak: MemoryLeak = nested(MemoryLeak, "Memory that keeps growing.")
    throughput_drop: ThroughputDrop = nested(ThroughputDrop, "Training that has become slow.")
    learning_rate: LearningRate = nested(LearningRate, "A learning rate off its schedule.")
    rouge_collapse: RougeCollapse = nested(RougeCollapse, "Predictions that are empty, all the same or in circles.")
    extra: dict[str, dict[str, Any]] = option(
        {}, "Options of detectors that other packages bring, by name; `enabled: false` turns one off."
    )
