"""What is kept of a run, where it is found again, and which trackers mirror it."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from dlgsum.config.schema.options import RULES, nested, option


@dataclass(frozen=True, kw_only=True, config=RULES)
class Mlflow:
    """MLflow, where `tracking.trackers` names it."""

    uri: str | None = option(
        None, "Server or folder; null: MLFLOW_TRACKING_URI, else mlruns/ in the output folder.", secret=True
    )
    experiment: str | None = option(None, "MLflow experiment; null: the name of ours.")
    log_model: bool = option(True, "Upload the best model at the end.")


@dataclass(frozen=True, kw_only=True, config=RULES)
class Tracking:
    """What is kept of a run, and where it is found again."""

    tags: list[str] = option([], "Words to find the run by.")
    notes: str = option("", "Free text kept with the run.")
    save_predictions: bool = option(True, "Write the validation predictions of each evaluation to predictions/.")
    store: str | None = option(
        None,
        "Database that finds experiments and models: null: dlgsum.db in the output folder; for several machines "
        "postgresql://USER:PASSWORD@HOST/NAME (DLGSUM_STORE).",
        secret=True,
    )
    trackers: list[str] = option(
        [], "Mirrors besides W&B: tensorboard, mlflow, or any that transformers integrates (comet_ml, clearml, …)."
    )
    samples: int = option(8, "Predictions of each evaluation that trackers show, with their dialogues; 0: none.", ge=0)
    finish_timeout: float = option(
        120.0, "Seconds that the end of a run waits for its trackers; the local record is complete anyway.", gt=0
    )
    mlflow: Mlflow = nested(Mlflow, "MLflow.")


@dataclass(frozen=True, kw_only=True, config=RULES)
class Wandb:
    """Weights & Biases, a mirror of the local record."""

    mode: Literal["online", "offline", "disabled"] = option(
        "disabled", "online needs an account; offline: `dlgsum sync` uploads later; disabled: local record only."
    )
    project: str = option("nlp-dialogue-summarization", "Project.", min_length=1)
    entity: str | None = option(None, "Team or user.")
    name: str | None = option(None, "Run name; null: the experiment's.")
    group: str | None = option(None, "Group of runs.")
    job_type: str | None = option("train", "Kind of work, by which runs of a group are told apart.")
    tags: list[str] = option([], "Tags, besides those of tracking.tags.")
    notes: str | None = option(None, "Notes; null: those of tracking.notes.")
    log_model: bool = option(True, "Upload the best model as an artifact at the end of a run.")
