"""What users install: the wheel, in an environment of its own, away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a checkout")


def quietly(*command: str | Path, cwd: Path, **more: str) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "WANDB_", "DLGSUM__"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env={**environ, "HF_HUB_OFFLINE": "1", **more}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    quietly(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment that has the wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    quietly(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    quietly(python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=folder.parent)
    (site,) = folder.glob("lib/python*/site-packages")
    # A .pth file adds a folder to the path but does not run the .pth files in it: the editable install stays out.
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return python


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"dlgsum", next(top for top in tops if top.endswith(".dist-info"))}
    assert {"dlgsum/py.typed", "dlgsum/cli/app.py"} <= names
    for folder, pattern, inside in (
        (ROOT / "conf", "**/*.yaml", "dlgsum/conf"),
        (ROOT / "dlgsum/data/sample", "*.csv", "dlgsum/data/sample"),
        (ROOT / "dlgsum/metrics/evaluate_metric", "**/*.py", "dlgsum/metrics/evaluate_metric"),
        (ROOT / "dlgsum", "**/*.py", "dlgsum"),
    ):
        wanted = {f"{inside}/{path.relative_to(folder).as_posix()}" for path in folder.glob(pattern)}
        assert wanted and wanted <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".pth"))]
    assert not [name for name in names if {"tests", "scripts", "outputs"} & set(name.split("/"))]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_installed_package_is_the_one_that_is_used(python: Path, nowhere: Path):
    program = "import dlgsum, dlgsum.config.groups as c; print(dlgsum.__file__); print(c.packaged_conf())"
    for line in quietly(python, "-c", program, cwd=nowhere).splitlines():
        assert Path(line).is_relative_to(python.parents[1]), line


def test_the_command_is_installed(python: Path, nowhere: Path):
    from dlgsum import __version__

    command = python.parent / "dlgsum"
    assert quietly(command, "--version", cwd=nowhere) == f"dlgsum {__version__}\n"
    assert "learning_rate" in quietly(command, "config", "show", cwd=nowhere)
    assert list(nowhere.iterdir()) == []


COMPOSE_ALL = """
import itertools
from dlgsum.config.compose import compose
from dlgsum.config.groups import group_options, search_path
from dlgsum.config.request import Request

options = group_options(search_path(None))
files = [(group, name) for group, names in options.items() for name in names]
chosen = [[f"{group}={name}"] for group, name in files]
chosen += [[f"model={m}", f"experiment={e}"] for m, e in itertools.product(options["model"], options["experiment"])]
for overrides in chosen:
    compose(Request([*overrides, "data.train=a.csv", "data.validation=b.csv"], environ={}))
print(len(files))
"""


def test_every_configuration_composes_from_the_wheel(python: Path, nowhere: Path):
    shipped = len(list((ROOT / "conf").glob("*/*.yaml")))
    assert int(quietly(python, "-c", COMPOSE_ALL, cwd=nowhere)) == shipped > 15


def test_the_bundled_dialogues_are_found(python: Path, nowhere: Path):
    program = (
        "from dlgsum.data.sources import SAMPLE_FOLDER; print(*sorted(path.name for path in SAMPLE_FOLDER.iterdir()))"
    )
    assert quietly(python, "-c", program, cwd=nowhere).split() == ["dev.csv", "test.csv", "train.csv"]


def test_the_local_metric_is_found(python: Path, nowhere: Path):
    program = "import dlgsum.metrics.evaluate_metric as m; print(m.__file__)"
    folder = Path(quietly(python, "-c", program, cwd=nowhere).strip()).parent
    assert (folder / "korean_rouge" / "korean_rouge.py").is_file()
    assert folder.is_relative_to(python.parents[1])


def test_building_leaves_nothing_in_the_checkout(wheel: Path):
    assert wheel.is_file() and not wheel.is_relative_to(ROOT)
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "status", "--porcelain", "--", "dlgsum/conf", "dist", "build"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        assert listed == ""
    assert not (ROOT / "dlgsum" / "conf").exists()
