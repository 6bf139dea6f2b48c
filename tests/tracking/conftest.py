"""What several tests of trackers stand on."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of MLflow's database, one for all tests of a process: making one takes seconds."""
    return tmp_path_factory.mktemp("ml flow 한글")
