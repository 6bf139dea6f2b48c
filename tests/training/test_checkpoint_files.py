"""Checkpoints appear whole or not at all, damage is found, and the newest valid one is used."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlgsum.core.errors import EnvironmentProblem, TrainingFailed, UsageError
from dlgsum.core.files import disk_is_full, sweep_leftovers
from dlgsum.training.checkpoints import (
    MANIFEST,
    Checkpoint,
    Manifest,
    abandon,
    begin,
    commit,
    differences,
    find_valid,
    problems_of,
    read,
    required_files,
    rotate,
    temporary_path,
    writing,
)
from tests.training.tiny_checkpoint import tiny_model, train_plainly

FACTS: dict[str, Any] = {"fingerprints": {"train": "a" * 64}, "versions": {"dlgsum": "9.8.7"}}
Broken = list[tuple[str, list[str]]]


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the checkpoints 2 and 4 of plain transformers."""
    output = tmp_path_factory.mktemp("plain")
    train_plainly(output, tiny_model())
    assert sorted(path.name for path in output.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    return output


def of_step(source: Path, step: int, folder: Path) -> None:
    """Copy a checkpoint's files and have them say that they are of another step."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    state = json.loads((folder / "trainer_state.json").read_text())
    (folder / "trainer_state.json").write_text(json.dumps({**state, "global_step": step}))


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, plain: Path) -> Path:
    """Return a folder with the checkpoints 9 and 10, written by us: by name 9 would be the last."""
    checkpoints = tmp_path_factory.mktemp("written")
    for step in (9, 10):
        with writing(checkpoints, step, **FACTS) as folder:
            of_step(plain / "checkpoint-4", step, folder)
    return checkpoints


@pytest.fixture
def runs(tmp_path: Path, written: Path) -> Path:
    """Return a copy of these checkpoints, to be spoiled."""
    return shutil.copytree(written, tmp_path / "checkpoints")


def found(checkpoints: Path, **options: Any) -> tuple[Checkpoint | None, Broken]:
    broken: Broken = []
    valid = find_valid(checkpoints, on_broken=lambda path, what: broken.append((path.name, what)), **options)
    return valid, broken


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- writing ---


def test_a_checkpoint_appears_whole_with_its_manifest(tmp_path: Path, plain: Path):
    from dlgsum import __version__

    with writing(tmp_path, 4, world_size=1, fingerprints=FACTS["fingerprints"], versions={"torch": "2"}) as folder:
        of_step(plain / "checkpoint-4", 4, folder)
        assert folder.parent == tmp_path and folder.name.startswith(".")
        assert not (tmp_path / "checkpoint-4").exists()
    assert names(tmp_path) == {"checkpoint-4"}
    manifest = Manifest.read(tmp_path / "checkpoint-4")
    assert (manifest.step, manifest.world_size) == (4, 1)
    assert manifest.fingerprints == FACTS["fingerprints"] and manifest.versions == {"dlgsum": __version__, "torch": "2"}
    assert set(manifest.files) == names(tmp_path / "checkpoint-4") - {MANIFEST}
    assert problems_of(tmp_path / "checkpoint-4") == []
    assert found(tmp_path) == (Checkpoint(tmp_path / "checkpoint-4", 4, 1, manifest), [])


def test_transformers_does_not_take_what_is_unfinished_for_a_checkpoint(tmp_path: Path, plain: Path):
    from transformers.trainer_utils import get_last_checkpoint, sort_checkpoints

    shutil.copytree(plain / "checkpoint-2", tmp_path / "checkpoint-2")
    shutil.copytree(plain / "checkpoint-4", temporary_path(tmp_path, 4, "0123abcd"))
    shutil.copytree(plain / "checkpoint-4", tmp_path / "broken-checkpoint-4")
    assert get_last_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-2")
    assert sort_checkpoints(str(tmp_path)) == [str(tmp_path / "checkpoint-2")]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_exception_leaves_what_was_there(runs: Path, plain: Path, error: type[BaseException]):
    before = content(runs)
    for step in (10, 11):
        with pytest.raises(error), writing(runs, step) as folder:
            shutil.copy(plain / "checkpoint-4" / "optimizer.pt", folder)
            raise error
    assert content(runs) == before and names(runs) == {"checkpoint-9", "checkpoint-10"}


def test_the_same_step_is_replaced(runs: Path, plain: Path):
    with writing(runs, 10) as folder:
        of_step(plain / "checkpoint-2", 10, folder)
    assert names(runs) == {"checkpoint-9", "checkpoint-10"}
    assert (runs / "checkpoint-10" / "optimizer.pt").read_bytes() == (
        plain / "checkpoint-2" / "optimizer.pt"
    ).read_bytes()
    assert problems_of(runs / "checkpoint-10") == []


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
)
def test_what_was_not_written_completely_gets_no_name(runs: Path, plain: Path, name: str):
    with pytest.raises(TrainingFailed, match=f"step 12.*{name} is missing"), writing(runs, 12) as folder:
        of_step(plain / "checkpoint-4", 12, folder)
        (folder / name).unlink()
    assert names(runs) == {"checkpoint-9", "checkpoint-10"}


def test_the_state_of_another_step_gets_no_name(runs: Path, plain: Path):
    with pytest.raises(TrainingFailed, match="is of step 4, not 12"), writing(runs, 12) as folder:
        of_step(plain / "checkpoint-4", 4, folder)
    assert names(runs) == {"checkpoint-9", "checkpoint-10"}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks /proc for the name of a descriptor")
def test_everything_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []
    target = tmp_path / "checkpoint-4"
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real_sync(descriptor)

    def replace(path: Path, to: Path) -> Path:
        if to == target:
            done.append("named")
        return real_replace(path, to)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    with writing(tmp_path, 4) as folder:
        of_step(plain / "checkpoint-4", 4, folder)
        (folder / "parts" / "inner").mkdir(parents=True)
        (folder / "parts" / "inner" / "a").write_text("a")
    before, after = done[: done.index("named")], done[done.index("named") + 1 :]
    files = {path.name for path in target.rglob("*") if path.is_file()} - {MANIFEST}
    assert files | {"parts", "inner", folder.name} <= set(before)
    assert any(name.startswith(f".{MANIFEST}.") for name in before), "synced under its temporary name"
    assert after == [tmp_path.name]


# --- several processes ---


def test_every_process_finds_the_same_folder_and_one_commits(tmp_path: Path, plain: Path):
    """Two real processes write their random numbers into the folder that both have worked out."""
    script = """
import shutil, sys
from pathlib import Path
from dlgsum.training.checkpoints import begin
source, checkpoints, rank = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
folder = begin(checkpoints, 4, "00c0ffee")
shutil.copy(source / "rng_state.pth", folder / f"rng_state_{rank}.pth")
"""
    source = plain / "checkpoint-4"
    ranks = [
        subprocess.Popen([sys.executable, "-c", script, str(source), str(tmp_path), str(rank)]) for rank in range(2)
    ]
    assert [rank.wait(60) for rank in ranks] == [0, 0]
    folder = begin(tmp_path, 4, "00c0ffee")
    for path in source.iterdir():
        if path.name != "rng_state.pth":
            shutil.copy(path, folder)
    with pytest.raises(TrainingFailed, match=r"rng_state_2\.pth is missing"):
        commit(folder, tmp_path / "checkpoint-4", step=4, world_size=3)
    committed = commit(folder, tmp_path / "checkpoint-4", step=4, world_size=2)
    assert names(tmp_path) == {"checkpoint-4"}
    valid, broken = found(tmp_path)
    assert valid == committed and valid.world_size == 2 and broken == []
    (tmp_path / "checkpoint-4" / "rng_state_1.pth").unlink()
    assert problems_of(tmp_path / "checkpoint-4") == ["rng_state_1.pth is missing"]


def test_a_nested_folder_can_be_committed_and_the_rest_abandoned(tmp_path: Path, plain: Path):
    """Transformers makes ``checkpoint-<step>`` inside the folder that it is given."""
    outer = begin(tmp_path, 4, "00c0ffee")
    shutil.copytree(plain / "checkpoint-4", outer / "checkpoint-4")
    commit(outer / "checkpoint-4", tmp_path / "checkpoint-4", step=4)
    abandon(outer)
    abandon(outer)
    assert names(tmp_path) == {"checkpoint-4"} and problems_of(tmp_path / "checkpoint-4") == []


@pytest.mark.parametrize("token", ["", "abc", "ABCDEF", "xyz0", "a/../b", "12 4", "1" * 65])
def test_a_token_that_could_not_be_swept_is_refused(tmp_path: Path, token: str):
    with pytest.raises(ValueError, match="token="):
        begin(tmp_path, 1, token)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("optimizer", ["optimizer.bin", "optimizer_0/.metadata"])
@pytest.mark.parametrize("weights", ["pytorch_model_fsdp.bin", "pytorch_model_fsdp_0/__0_0.distcp"])
def test_the_parts_that_fsdp_writes_are_enough(tmp_path: Path, plain: Path, weights: str, optimizer: str):
    """Only the names: FSDP itself needs GPUs."""
    with writing(tmp_path, 4, world_size=2) as folder:
        of_step(plain / "checkpoint-4", 4, folder)
        for old, new in (("model.safetensors", weights), ("optimizer.pt", optimizer)):
            (folder / new).parent.mkdir(exist_ok=True)
            (folder / old).replace(folder / new)
        (folder / "rng_state.pth").replace(folder / "rng_state_0.pth")
        shutil.copy(folder / "rng_state_0.pth", folder / "rng_state_1.pth")
    assert problems_of(tmp_path / "checkpoint-4") == []
    (tmp_path / "checkpoint-4" / weights).write_bytes(b"other")
    assert any(weights in problem for problem in problems_of(tmp_path / "checkpoint-4"))


# --- damage ---

Damage = Callable[[Path], object]


def flip(name: str) -> Damage:
    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(byte ^ 0xFF for byte in data[middle : middle + 64])
        (folder / name).write_bytes(data)

    return damage


def cut(name: str, keep: float = 0.5) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return damage


def remove(*gone: str) -> Damage:
    return lambda folder: [(folder / name).unlink() for name in gone]


def keep_only(*kept: str) -> Damage:
    def damage(folder: Path) -> None:
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink()

    return damage


def write(name: str, text: str) -> Damage:
    return lambda folder: (folder / name).write_text(text)


def edit(name: str, **values: Any) -> Damage:
    def damage(folder: Path) -> None:
        before = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**before, **values}))

    return damage


def become_a_folder(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


NEEDED = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]

# What happened to checkpoint-10, and what is said of it.
DAMAGES = {
    "emptied": (keep_only(), "model.safetensors is missing"),
    "only the configuration": (keep_only("config.json"), "model.safetensors is missing"),
    "only the manifest": (keep_only(MANIFEST), "model.safetensors is missing"),
    **{f"no {name}": (remove(name), f"{name} is missing") for name in NEEDED},
    **{f"no {name} nor manifest": (remove(name, MANIFEST), f"{name} is missing") for name in NEEDED},
    **{f"half of {name}": (cut(name), f"{name} has ") for name in NEEDED},
    **{f"nothing in {name}": (cut(name, 0), f"{name} has 0 bytes instead of ") for name in NEEDED},
    **{f"{name} one byte short": (cut(name, 0.9999), f"{name} has ") for name in NEEDED},
    **{f"64 bytes of {name}": (flip(name), f"{name} is not as it was written") for name in NEEDED},
    **{f"{name} a folder": (become_a_folder(name), f"{name} is missing") for name in NEEDED},
    "another step": (edit("trainer_state.json", global_step=11), "trainer_state.json"),
    "half a manifest": (cut(MANIFEST), "manifest.json is not readable"),
    "an empty manifest": (cut(MANIFEST, 0), "manifest.json is not readable"),
    "a manifest of nothing": (write(MANIFEST, "{}"), "manifest.json is not readable"),
    "a manifest that is a list": (write(MANIFEST, "[]"), "manifest.json is not readable"),
    "a manifest that lists no files": (edit(MANIFEST, files={}), "model.safetensors is missing"),
    "a manifest with odd files": (edit(MANIFEST, files=[1]), "manifest.json is not readable"),
    "a manifest with odd facts": (edit(MANIFEST, files={"a": {"size": "3"}}), "manifest.json is not readable"),
    "a manifest of no process": (edit(MANIFEST, world_size=0), "manifest.json is not readable"),
    "a manifest of more processes": (edit(MANIFEST, world_size=2), "rng_state_0.pth is missing"),
    "a manifest of another step": (edit(MANIFEST, step=9), "manifest.json is of step 9, not 10"),
    "a manifest that points outside": (
        edit(MANIFEST, files={"../checkpoint-9/config.json": {"size": 1, "sha256": ""}}), "no path in the checkpoint"
    ),
    "a manifest of another checkpoint": (
        lambda folder: shutil.copy(folder.with_name("checkpoint-9") / MANIFEST, folder), "is of step 9, not 10"
    ),
    "the weights of another checkpoint": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"x" * (folder / "model.safetensors").stat().st_size),
        "model.safetensors is not as it was written",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(runs: Path, damage: Damage, said: str):
    damage(runs / "checkpoint-10")
    problems = problems_of(runs / "checkpoint-10")
    assert any(said in problem for problem in problems), problems
    with pytest.raises(UsageError) as caught:
        read(runs / "checkpoint-10")
    assert said in str(caught.value)
    left = content(runs / "checkpoint-10")

    valid, broken = found(runs)
    assert valid is not None and valid.step == 9 and valid.path == runs / "checkpoint-9"
    assert broken == [("broken-checkpoint-10", problems)]
    assert names(runs) == {"checkpoint-9", "broken-checkpoint-10"}
    assert content(runs / "broken-checkpoint-10") == left, "it is renamed, not changed"
    assert found(runs) == (valid, []), "and reported once"


HARMLESS: dict[str, Damage] = {
    "a file more": write("notes.txt", "mine"),
    "a foreign folder": lambda folder: (folder / "sub").mkdir(),
    "the times of before": lambda folder: [os.utime(path, (0, 0)) for path in (folder, *folder.iterdir())],
    "the times of tomorrow": lambda folder: [os.utime(path, (2**32, 2**32)) for path in folder.parent.rglob("*")],
    "a field more in the manifest": edit(MANIFEST, new_field=1),
    "no time in the manifest": lambda folder: edit(MANIFEST, saved_at="")(folder),
    "no manifest": remove(MANIFEST),
    "no manifest and no arguments": remove(MANIFEST, "training_args.bin", "config.json"),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_does_no_harm(runs: Path, change: Damage):
    change(runs / "checkpoint-10")
    assert problems_of(runs / "checkpoint-10") == []
    valid, broken = found(runs)
    assert valid is not None and valid.step == 10 and broken == []
    assert (valid.manifest is None) == (not (runs / "checkpoint-10" / MANIFEST).exists())


def test_numbers_decide_not_times(runs: Path):
    for name, time in (("checkpoint-9", 2**31), ("checkpoint-10", 1)):
        for path in (runs / name, *(runs / name).iterdir()):
            os.utime(path, (time, time))
    valid, _ = found(runs)
    assert valid is not None and valid.step == 10
    assert rotate(runs, 1) == [runs / "checkpoint-9"]


def test_none_is_valid(runs: Path):
    for step in (9, 10):
        (runs / f"checkpoint-{step}" / "optimizer.pt").unlink()
    valid, broken = found(runs)
    assert valid is None
    assert broken == [(f"broken-checkpoint-{step}", ["optimizer.pt is missing"]) for step in (10, 9)]


def test_a_taken_name_is_not_overwritten(runs: Path, plain: Path):
    for _ in range(3):
        with writing(runs, 10) as folder:
            of_step(plain / "checkpoint-4", 10, folder)
        (runs / "checkpoint-10" / "optimizer.pt").unlink()
        found(runs)
    wanted = {"broken-checkpoint-10", "broken-checkpoint-10.2", "broken-checkpoint-10.3", "checkpoint-9"}
    assert names(runs) == wanted


def test_nothing_there(tmp_path: Path):
    assert found(tmp_path) == (None, [])
    assert found(tmp_path / "none") == (None, [])
    assert rotate(tmp_path / "none", 1) == []
    for name in ("checkpoint-", "checkpoint-x", "checkpoint-5.bak", "my-checkpoint-5", "broken-checkpoint-5"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    assert found(tmp_path) == (None, [])
    assert problems_of(tmp_path / "checkpoint-7") == [f"{tmp_path / 'checkpoint-7'} is not a folder"]


def test_a_manifest_of_a_later_version_stops_and_touches_nothing(runs: Path):
    edit(MANIFEST, schema_version=2)(runs / "checkpoint-10")
    before = content(runs)
    with pytest.raises(EnvironmentProblem) as caught:
        found(runs)
    assert caught.value.exit_code == 4
    assert "schema_version 2" in str(caught.value) and "dlgsum 9.8.7 or later" in str(caught.value)
    assert content(runs) == before
    edit(MANIFEST, versions=None)(runs / "checkpoint-10")
    with pytest.raises(EnvironmentProblem, match="with a later dlgsum"):
        read(runs / "checkpoint-10")


def test_what_may_not_be_read_is_not_called_broken(runs: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("dlgsum.training.checkpoints.check.sha256_file", refuse)
    with pytest.raises(EnvironmentProblem, match="cannot be read: Permission denied"):
        found(runs)
    assert names(runs) == {"checkpoint-9", "checkpoint-10"}


def test_what_the_disk_cannot_give_back_is_broken(runs: Path, monkeypatch: pytest.MonkeyPatch):
    from dlgsum.core.files import sha256_file

    def damaged(path: Path) -> str:
        if path.parent.name == "checkpoint-10":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return sha256_file(path)

    monkeypatch.setattr("dlgsum.training.checkpoints.check.sha256_file", damaged)
    valid, broken = found(runs)
    assert valid is not None and valid.step == 9
    assert "cannot be read: Input/output error" in broken[0][1][0]


# --- without a manifest: plain transformers ---


def test_checkpoints_of_transformers_are_taken_without_checksums(tmp_path: Path, plain: Path):
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    valid, broken = found(tmp_path)
    assert valid == Checkpoint(tmp_path / "checkpoint-4", 4, 1, None) and broken == []
    (tmp_path / "checkpoint-4").replace(tmp_path / "elsewhere")
    assert read(tmp_path / "elsewhere") == Checkpoint(tmp_path / "elsewhere", 4, 1, None)


PLAIN_DAMAGES = {
    **{f"no {name}": (remove(name), f"{name} is missing") for name in NEEDED},
    **{f"half of {name}": (cut(name), f"{name} is cut short") for name in NEEDED[:-1]},
    **{f"nothing in {name}": (cut(name, 0), f"{name} is cut short") for name in NEEDED[:-1]},
    **{f"{name} one byte short": (cut(name, 0.9999), f"{name} is cut short") for name in NEEDED[:2]},
    "half of the state": (cut("trainer_state.json"), "trainer_state.json is not readable"),
    "another step": (edit("trainer_state.json", global_step=2), "trainer_state.json is of step 2, not 4"),
    "no step": (edit("trainer_state.json", global_step=None), "global_step=None"),
    "a step that is no number": (edit("trainer_state.json", global_step=True), "global_step=True"),
    "emptied": (keep_only(), "trainer_state.json is missing"),
    "saved as a model only": (remove("optimizer.pt", "scheduler.pt", "rng_state.pth"), "optimizer.pt is missing"),
    "random numbers of the second process only": (
        lambda folder: (folder / "rng_state.pth").replace(folder / "rng_state_1.pth"), "rng_state_0.pth is missing"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), PLAIN_DAMAGES.values(), ids=PLAIN_DAMAGES)
def test_damage_that_shows_without_checksums(tmp_path: Path, plain: Path, damage: Damage, said: str):
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "checkpoint-4")
    valid, broken = found(tmp_path)
    assert valid is not None and valid.step == 2
    assert any(said in problem for problem in broken[0][1]), broken
    assert broken[0][1][-1] == "manifest.json is missing too: the write was cut short"


def test_the_loss_scale_is_asked_for_in_fp16_only(tmp_path: Path, plain: Path):
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    assert problems_of(tmp_path / "checkpoint-4", scaler=False) == []
    assert "scaler.pt is missing: the loss scale" in problems_of(tmp_path / "checkpoint-4", scaler=True)
    assert {needed.any_of[0] for needed in required_files(2, scaler=True)} >= {"rng_state_1.pth", "scaler.pt"}


def test_weights_in_parts(tmp_path: Path, plain: Path):
    folder = tmp_path / "checkpoint-4"
    shutil.copytree(plain / "checkpoint-4", folder)
    (folder / "model.safetensors").unlink()
    tiny_model().save_pretrained(tmp_path / "parts", max_shard_size="8KB")
    parts = sorted(names(tmp_path / "parts") - {"config.json", "generation_config.json"})
    assert len(parts) > 3 and parts[-1] == "model.safetensors.index.json"
    for name in parts:
        shutil.copy(tmp_path / "parts" / name, folder)
    assert problems_of(folder) == []
    Manifest.of(folder, step=4, world_size=1).write(folder)
    assert problems_of(folder) == []
    (folder / parts[1]).unlink()
    assert problems_of(folder) == [f"{parts[1]} is missing"]
    (folder / MANIFEST).unlink()
    assert f"{parts[1]} is missing: a part of the weights" in problems_of(folder)
    for text in ("{", "{}", '{"weight_map": 3}', '{"weight_map": {}}'):
        (folder / parts[-1]).write_text(text)
        assert any(parts[-1] in problem for problem in problems_of(folder)), text


# --- retention ---


@pytest.mark.parametrize(
    ("limit", "left"), [(1, [1000]), (2, [200, 1000]), (3, [30, 200, 1000]), (9, None), (None, None)]
)
def test_the_newest_stay(tmp_path: Path, limit: int | None, left: list[int] | None):
    steps = [1000, 4, 30, 200]
    for step in steps:
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "a").write_text("a")
    removed = rotate(tmp_path, limit)
    wanted = {f"checkpoint-{step}" for step in (left or steps)}
    assert names(tmp_path) == wanted
    assert {path.name for path in removed} == {f"checkpoint-{step}" for step in steps} - wanted


@pytest.mark.parametrize("limit", [0, -1])
def test_the_only_one_is_never_removed(runs: Path, limit: int):
    with pytest.raises(ValueError, match="at least 1"):
        rotate(runs, limit)
    assert len(names(runs)) == 2


@pytest.mark.parametrize("limit", [None, 5])
def test_of_broken_ones_the_newest_stays(tmp_path: Path, limit: int | None):
    for name in ("7", "20", "20.2", "20.10", "3"):
        (tmp_path / f"broken-checkpoint-{name}").mkdir()
    (tmp_path / "checkpoint-1").mkdir()
    rotate(tmp_path, limit)
    assert names(tmp_path) == {"broken-checkpoint-20.10", "checkpoint-1"}


# --- killed at any moment ---

# Replaces checkpoint-10 by one with other files, forked once for every change to the files, and killed before it.
KILL = """
import os, shutil, signal, sys
from pathlib import Path
from dlgsum.training.checkpoints import find_valid, problems_of, rotate, writing

source, checkpoints, work = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
step, limit = int(sys.argv[4]), int(sys.argv[5])
CHANGES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree"}

def kill_before(number):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

number = killed = 0
results = set()
while True:
    number += 1
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(checkpoints, work)
    child = os.fork()
    if not child:
        kill_before(number)
        with writing(work, step) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
        rotate(work, limit)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    killed += os.WIFSIGNALED(status)
    broken = []
    valid = find_valid(work, on_broken=lambda path, problems: broken.append((path, problems)))
    assert not broken, (number, broken)
    assert all(path.name.startswith("checkpoint-") for path in work.iterdir()), (number, list(work.iterdir()))
    assert not any(problems_of(path) for path in work.iterdir()), number  # nor is an old one half removed
    results.add((valid.step, (valid.path / "new").exists()))
    with writing(work, step) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
    rotate(work, limit)
    assert (find_valid(work, on_broken=None).path / "new").exists(), number
    if not os.WIFSIGNALED(status):
        assert os.WEXITSTATUS(status) == 0
        break
print(killed, sorted(results))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is of POSIX")
@pytest.mark.parametrize(
    ("step", "results"),
    [(10, [(10, False), (10, True)]), (11, [(10, False), (11, True)])],
    ids=["replacing", "a new one"],
)
def test_a_process_killed_at_any_moment_leaves_a_valid_checkpoint(
    tmp_path: Path, runs: Path, plain: Path, step: int, results: list[tuple[int, bool]]
):
    of_step(plain / "checkpoint-2", step, tmp_path / "source")
    (tmp_path / "source" / "new").write_text("new")
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(tmp_path / "source"), str(runs), str(tmp_path / "work"), str(step), "1"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    killed, told = done.stdout.split(" ", 1)
    assert int(killed) > 25 and told.strip() == str(results)


def test_what_a_dead_writer_left_is_removed(runs: Path, plain: Path):
    shutil.copytree(plain / "checkpoint-4", temporary_path(runs, 11, "0123abcd"))
    (runs / "checkpoint-10" / f".{MANIFEST}.0123abcd.tmp").write_text("{")
    valid, broken = found(runs)
    assert valid is not None and valid.step == 10 and broken == []
    assert names(runs) == {"checkpoint-9", "checkpoint-10"}


# --- a full disk ---

FULL = """
import errno, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from dlgsum.core.files import disk_is_full
from dlgsum.training.checkpoints import writing

folder, kind = Path(sys.argv[1]), sys.argv[2]
(folder / "checkpoint-1").mkdir()
(folder / "checkpoint-1" / "kept").write_text("kept")
tensors = {"a": torch.zeros(10_000_000)}
writers = {
    "safetensors": lambda path: save_file(tensors, path),
    "torch": lambda path: torch.save(tensors, path),
    "torch, many": lambda path: torch.save([torch.zeros(50_000) for _ in range(200)], path),
    "torch, old form": lambda path: torch.save(tensors, path, _use_new_zipfile_serialization=False),
    "numpy": lambda path: __import__("numpy").save(path, tensors["a"].numpy()),
    "text": lambda path: path.write_text("a" * 40_000_000),
}
try:
    with writing(folder, 2) as temporary:
        try:
            writers[kind](temporary / "file")
        except Exception as error:
            print("at once:", disk_is_full(error, temporary), type(error).__name__, error)
            raise
except Exception as error:
    print("outside:", disk_is_full(error), getattr(error, "errno", None) == errno.ENOSPC)
print("left:", sorted(path.name for path in folder.iterdir()))
"""

KINDS = ["safetensors", "torch", "torch, many", "torch, old form", "numpy", "text"]


def _tmpfs(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with a disk of 32 MiB mounted on ``folder``, seen by it alone."""
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=32m tmpfs "$0" && exec "$@"',
         str(folder), *command],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[list[str]], subprocess.CompletedProcess[str]]:
    folder = tmp_path / "small"
    folder.mkdir()
    if shutil.which("unshare") is None or _tmpfs(folder, ["true"]).returncode != 0:
        pytest.skip("this user may not mount a small disk")
    return lambda command: _tmpfs(folder, [*command[:3], str(folder), *command[3:]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_really_full_is_recognised(
    small_disk: Callable[[list[str]], subprocess.CompletedProcess[str]], kind: str
):
    done = small_disk([sys.executable, "-c", FULL, kind])
    assert done.returncode == 0, done.stderr
    at_once, outside, left = done.stdout.splitlines()[0], *done.stdout.splitlines()[-2:]
    assert at_once.startswith("at once: True"), done.stdout
    # By then the unfinished folder is gone and there is room again.
    assert outside == "outside: True True", done.stdout
    assert left == "left: ['checkpoint-1']"


LIMITED = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + (
    "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_may_not_grow_is_no_full_disk(tmp_path: Path, kind: str):
    """The same errors of torch, with room on the disk."""
    if shutil.disk_usage(tmp_path).free < 2**30:
        pytest.skip("this disk is nearly full itself")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED + FULL, str(tmp_path), kind],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("at once: False"), done.stdout
    assert lines[-2:] == ["outside: False False", "left: ['checkpoint-1']"], done.stdout


def test_a_full_disk_while_committing(runs: Path, plain: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = content(runs)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught, writing(runs, 10) as folder:
        of_step(plain / "checkpoint-2", 10, folder)
    assert disk_is_full(caught.value)
    assert content(runs) == before and sweep_leftovers(runs) == []


# --- fingerprints ---


def test_differences_in_words():
    same = {"train rows": "a" * 64, "tokenizer": "b" * 64}
    assert differences(same, dict(reversed(same.items()))) == []
    assert differences({}, {}) == []
    told = differences({**same, "validation rows": "c" * 64}, {**same, "train rows": "d" * 64, "test rows": "e" * 64})
    assert told == [
        "test rows: the checkpoint was written without it, now it is eeeeeeeeeeee",
        "train rows changed: aaaaaaaaaaaa when the checkpoint was written, dddddddddddd now",
        "validation rows: the checkpoint was written with cccccccccccc, now there is none",
    ]
    path = "/data/dialogues/train"
    assert differences({"data": path}, {"data": f"{path}_2"}) == [
        f"data changed: {path} when the checkpoint was written, {path}_2 now"
    ]
