"""What every test stands on: no setting comes from the environment of whoever runs the tests."""

from __future__ import annotations

import os

import pytest

# The names of conf/env.yaml, which a developer's shell may well hold.
_SETTINGS = (
    "LEARNING_RATE", "BATCH_SIZE", "NUM_EPOCHS", "MODEL_NAME", "OUTPUT_DIR",
    "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_MODE", "SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK_URL",
    "DLGSUM_STORE", "MLFLOW_TRACKING_URI", "WANDB_BASE_URL", "WANDB_API_KEY",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable in _SETTINGS or variable.startswith("DLGSUM__"):
            monkeypatch.delenv(variable)
