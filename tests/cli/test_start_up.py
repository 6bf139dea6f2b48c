"""The command line starts at once, and every error is a message, an exit code and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dlgsum.core import errors

HEAVY = ("torch", "transformers", "datasets", "evaluate", "wandb", "kiwipiepy", "pandas")
# Runs the command line as the installed script does, then says on standard error what it had to import.
PROGRAM = f"""
import sys
sys.argv[0] = "dlgsum"
from dlgsum.cli.app import main
try:
    main()
finally:
    sys.stdout.flush()
    sys.stderr.write("HEAVY=" + ",".join(name for name in {HEAVY!r} if name in sys.modules))
"""
SETTINGS = ("LEARNING_RATE", "BATCH_SIZE", "NUM_EPOCHS", "MODEL_NAME", "OUTPUT_DIR", "FORCE_COLOR", "CLICOLOR_FORCE",
            "SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK_URL")  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "DLGSUM__")) and k not in SETTINGS}
    return {**kept, "HF_HUB_OFFLINE": "1", "COLUMNS": "100", **more}


def run(*arguments: str, folder: Path, **more: str) -> tuple[int, str, str, str]:
    """Return exit code, standard output, standard error, and the heavy modules that were imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    messages, _, heavy = done.stderr.rpartition("HEAVY=")
    return done.returncode, done.stdout, messages, heavy


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--help"], "evaluate"),
        (["-h"], "predict"),
        (["--version"], "dlgsum 0."),
        (["train", "--help"], "--config-dir"),
        (["evaluate", "--help"], "--worst"),
        (["predict", "--help"], "--text"),
        (["config", "--help"], "show"),
        (["config", "show"], "learning_rate: "),
        (["config", "show", "experiment=baseline"], "experiment_name: baseline"),
        (["config", "show", "--json"], '"learning_rate"'),
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(tmp_path: Path, arguments: list[str], part: str):
    code, out, err, heavy = run(*arguments, folder=tmp_path)
    assert (code, err, heavy) == (0, "", "")
    assert part in out
    assert "\x1b" not in out
    assert list(tmp_path.iterdir()) == [], "nothing is written either"


FAULTY = {
    "unknown key": (["train", "training.learning_rat=1"], "did you mean training.learning_rate?"),
    "unknown group file": (["train", "model=kobrat"], "did you mean model=kobart?"),
    "wrong type": (["train", "training.learning_rate=fast"], "must be a number"),
    "out of range": (["config", "show", "general.seed=-1"], "must be at least 0"),
    "contradiction": (["train", "training.fp16=true", "training.bf16=true"], "keep one"),
    "not an override": (["train", "nonsense"], "expected key=value"),
    "no such file": (["train", "--config", "none.yaml"], "there is no such file"),
    "no such folder": (["train", "--config-dir", "none"], "there is no such folder"),
    "syntax error": (["train", "--config", "broken.yaml"], "line 2"),
    "broken interpolation": (["train", "meta.description='${nosuch}'"], "interpolation"),
    "unknown scorer": (["train", "metrics.scorer=kiwj"], "did you mean kiwi?"),
    "no checkpoint": (["train", "model.architecture=t5"], "needs model.checkpoint"),
    "csv without files": (["train", "data=csv"], "needs data.train, which is not set"),
    "train without validation": (["train", "data.train=a.csv"], "data.validation"),
    "no runs": (["evaluate", "latest"], "There are no runs"),
    "no runs to predict": (["predict", "latest", "--text", "#Person1#: 안녕"], "There are no runs"),
}


@pytest.mark.parametrize("kind", FAULTY)
def test_a_faulty_configuration_is_found_before_anything_heavy(tmp_path: Path, kind: str):
    (tmp_path / "broken.yaml").write_text("training:\n  learning_rate: [1\n")
    arguments, part = FAULTY[kind]
    code, out, err, heavy = run(*arguments, folder=tmp_path)
    assert (code, out, heavy) == (2, "", "")
    assert err.startswith("error: ") and part in err
    assert "Traceback" not in err and "\x1b" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yaml"]


def test_a_faulty_variable(tmp_path: Path):
    code, out, err, heavy = run("train", folder=tmp_path, DLGSUM__TRAINING__LEARNIN_RATE="1", BATCH_SIZE="x")
    assert (code, out, heavy) == (2, "", "")
    assert "2 problems" in err and "DLGSUM__TRAINING__LEARNING_RATE?" in err and "BATCH_SIZE" in err


@pytest.mark.parametrize("arguments", [["nosuch"], ["train", "--nosuch"], ["evaluate"], []], ids=repr)
def test_wrong_use_of_the_command_line(tmp_path: Path, arguments: list[str]):
    code, out, err, heavy = run(*arguments, folder=tmp_path)
    assert (code, out, heavy) == (2, "", "")
    assert "Usage: dlgsum" in err


def test_debug_shows_the_traceback(tmp_path: Path):
    code, out, err, _ = run("config", "show", "general.sed=s3cr3t", "--debug", folder=tmp_path)
    assert (code, out) == (2, "")
    assert "Traceback (most recent call last)" in err and "ConfigError" in err
    assert "error: 1 problem" in err


# --- config show ---


@pytest.mark.parametrize(
    "overrides", [[], ["experiment=baseline", "meta.description=설명: 'a' # b"]], ids=["plain", "baseline"]
)
def test_what_is_shown_is_read_back(tmp_path: Path, overrides: list[str]):
    code, shown, _, _ = run("config", "show", *overrides, folder=tmp_path)
    assert code == 0
    (tmp_path / "saved.yaml").write_text(shown, encoding="utf-8")
    code, again, _, _ = run("config", "show", "--config", "saved.yaml", folder=tmp_path)
    assert code == 0
    without_reasons = [line for line in shown.splitlines() if not line.startswith("# ")]
    assert [line for line in again.splitlines() if not line.startswith("# ")] == without_reasons
    assert len(without_reasons) > 100


def test_settings_of_the_environment_and_own_conf_are_shown(tmp_path: Path):
    own = tmp_path / "conf" / "training" / "내것.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("weight_decay: 0.25\n")
    code, out, _, _ = run("config", "show", "--json", "training=내것", folder=tmp_path, LEARNING_RATE="1e-4")
    training = json.loads(out)["config"]["training"]
    assert (code, training["weight_decay"], training["learning_rate"]) == (0, 0.25, 1e-4)


@pytest.mark.parametrize("arguments", [["config", "show"], ["train", "general.sed=1"], ["--help"]], ids=" ".join)
def test_output_in_a_pipe_has_no_escapes(tmp_path: Path, arguments: list[str]):
    _, out, err, _ = run(*arguments, folder=tmp_path, TERM="xterm-256color")
    assert out + err and "\x1b" not in out + err


# --- pipes ---


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path):
    """As in `dlgsum config show | head -1`, but with the reader gone for certain."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", "from dlgsum.cli.app import main; main()", "config", "show"],
        cwd=tmp_path, env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120,
    )  # fmt: skip
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_said_in_words(tmp_path: Path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from dlgsum.cli.app import main; main()", "config", "show"],
            cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (4, "error: No space left on device\n")


# --- the tree of errors ---

RAISING = """
import sys
import dlgsum.cli.app as app
from dlgsum.core import errors
from dlgsum.core.errors import *

def fail(debug: bool = False) -> None:
    raise {what}

app.app.command("fail")(fail)
sys.argv = ["dlgsum", "fail"{more}]
app.main()
"""


def fail(what: str, more: str = "") -> subprocess.CompletedProcess[str]:
    program = RAISING.format(what=what, more=more)
    return subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("DlgsumError('m', 'h')", 1, "error: m\nh\n"),
        ("errors.UsageError('m')", 2, "error: m\n"),
        ("errors.ConfigError(['a', 'b'])", 2, "error: 2 problems in the configuration:\n  • a\n  • b\n"),
        ("errors.DataError('대화 없음')", 3, "error: 대화 없음\n"),
        ("errors.EnvironmentProblem('m')", 4, "error: m\n"),
        ("errors.TrainingFailed('m')", 5, "error: m\n"),
        ("errors.Interrupted(15, 'm')", 143, "error: m\n"),
        ("errors.Interrupted(2, 'm')", 130, "error: m\n"),
        ("PermissionError(13, 'Permission denied', '/x')", 4, "error: Permission denied: /x\n"),
        ("errors.UsageError('[bold]m[/] token=s3cr3t')", 2, "error: [bold]m[/] token=***\n"),
    ],
)
def test_exit_codes_and_messages(what: str, code: int, message: str):
    done = fail(what)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)


def test_a_fault_of_ours_says_so():
    done = fail("ZeroDivisionError('s')")
    assert done.returncode == 1
    assert done.stderr == "error: ZeroDivisionError: s\nThis is a fault in dlgsum; --debug shows where.\n"


def test_the_traceback_of_a_fault_hides_secrets():
    done = fail("ZeroDivisionError('token=s3cr3t')", ", '--debug'")
    assert "Traceback" in done.stderr
    assert "s3cr3t" not in done.stderr.replace("raise ZeroDivisionError('token=s3cr3t')", "")


def test_an_interrupt_from_the_keyboard():
    done = fail("KeyboardInterrupt")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_every_kind_of_error_is_tried_above():
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    marks = test_exit_codes_and_messages.pytestmark
    tried = " ".join(case[0] for case in marks[0].args[1])
    assert kinds == {name for name in kinds if re.search(rf"\b{name}\(", tried)}


def test_a_missing_data_file(tmp_path: Path):
    """A data error, whatever had to be imported to find it."""
    code, out, err, _ = run(
        "train", "data=csv", "data.train=/nope.csv", "data.validation=/nope.csv", "model=kobart_mini", folder=tmp_path
    )
    assert (code, out) == (3, "")
    assert "error: /nope.csv does not exist" in err and "Traceback" not in err
