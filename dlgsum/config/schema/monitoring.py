"""What is watched, shown and told while training."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from dlgsum.config.schema.alerts import Alerts
from dlgsum.config.schema.detectors import Detectors
from dlgsum.config.schema.options import RULES, nested, option


@dataclass(frozen=True, kw_only=True, config=RULES)
class Monitoring:
    """What is watched and shown while training."""

    enabled: bool = option(True, "Watch the run: detectors, gradient norms by layer, throughput and memory.")
    layers_every: int = option(
        100, "Steps between measurements of each layer's gradient norm and update ratio; 0: never.", ge=0
    )
    histograms_every: int = option(0, "Steps between TensorBoard histograms of gradients and weights; 0: none.", ge=0)
    nan_report: bool = option(True, "Save the batch, the weights and the culprit of the first NaN or infinite step.")
    log_level: Literal["debug", "info", "warning", "error"] = option("info", "What training.log and events.jsonl take.")
    console_level: Literal["debug", "info", "warning", "error"] = option(
        "warning", "Log messages that are shown as well; progress and scores have a setting of their own."
    )
    samples: int = option(1, "Dialogues shown with prediction and reference after each evaluation.", ge=0, le=50)
    progress: Literal["auto", "bar", "lines", "off"] = option(
        "auto", "auto: bars on a terminal, plain lines elsewhere."
    )
    detectors: Detectors = nested(Detectors, "What counts as trouble.")
    alerts: Alerts = nested(Alerts, "Who is told.")
