from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dlgsum.core import world as module
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.world import World, current_world, export_slurm

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SRUN = {
    "SLURM_JOB_ID": "123456", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "7", "SLURM_PROCID": "5", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1", "SLURM_STEP_NUM_TASKS": "7", "SLURM_STEP_TASKS_PER_NODE": "4,3",
    "SLURM_STEP_NODELIST": "gpu[03-05,09],cpu1",
}  # fmt: skip


def test_alone_without_a_launcher() -> None:
    assert current_world({}) == World(0, 1, 0, 1, "none")
    assert current_world({}).first


def test_torchrun() -> None:
    assert current_world(TORCHRUN) == World(3, 4, 1, 2, "torchrun")
    assert not current_world(TORCHRUN).first


def test_torchrun_without_the_local_size_is_one_machine() -> None:
    environ = {name: value for name, value in TORCHRUN.items() if name != "LOCAL_WORLD_SIZE"}
    assert current_world(environ).local_size == 4


def test_srun() -> None:
    assert current_world(SRUN) == World(5, 7, 1, 3, "slurm")


@pytest.mark.parametrize(("node", "tasks"), [("0", 4), ("1", 4), ("2", 2)])
def test_tasks_of_each_machine(node: str, tasks: int) -> None:
    environ = {**SRUN, "SLURM_STEP_NUM_TASKS": "10", "SLURM_STEP_TASKS_PER_NODE": "4(x2),2", "SLURM_NODEID": node}
    assert current_world(environ).local_size == tasks


def test_torchrun_inside_srun_wins() -> None:
    assert current_world({**SRUN, **TORCHRUN}).launcher == "torchrun"


@pytest.mark.parametrize(
    "environ",
    [
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # sbatch --ntasks 8, no srun
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},  # srun --ntasks 1
        {**SRUN, "SLURM_STEP_ID": "4294967291"},  # sbatch called by a task of a step, whose variables it inherits
    ],
)
def test_one_process_in_slurm(environ: dict[str, str]) -> None:
    assert current_world(environ) == World()


@pytest.mark.parametrize("size", ["1", None])
def test_a_variable_alone_makes_no_group(size: str | None) -> None:
    environ = {"RANK": "0"} if size is None else {"RANK": "0", "WORLD_SIZE": size}
    assert current_world(environ) == World()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RANK": "x"}, "RANK='x'"),
        ({"RANK": "-1"}, "RANK='-1'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE='0'"),
        ({"WORLD_SIZE": "²"}, "WORLD_SIZE='²'"),
        ({"RANK": "4"}, "process 4 of 4"),
        ({"LOCAL_RANK": "2"}, "2 of 2 on this machine"),
        ({"LOCAL_WORLD_SIZE": "5"}, "1 of 5 on this machine"),
    ],
)
def test_bad_values_of_torchrun(change: dict[str, str], words: str) -> None:
    with pytest.raises(EnvironmentProblem) as raised:
        current_world({**TORCHRUN, **change})
    assert words in raised.value.message
    assert raised.value.exit_code == 4


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK"])
def test_incomplete_variables(missing: str) -> None:
    environ = {name: value for name, value in TORCHRUN.items() if name != missing}
    with pytest.raises(EnvironmentProblem, match=f"{missing} is not set"):
        current_world(environ)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SLURM_PROCID": "a"}, "SLURM_PROCID='a'"),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x"}, "cannot be understood"),
        ({"SLURM_STEP_TASKS_PER_NODE": ""}, "cannot be understood"),
        ({"SLURM_NODEID": "2"}, "speaks of 2 machines"),
        ({"SLURM_LOCALID": "3"}, "3 of 3 on this machine"),
    ],
)
def test_bad_values_of_srun(change: dict[str, str], words: str) -> None:
    with pytest.raises(EnvironmentProblem) as raised:
        current_world({**SRUN, **change})
    assert words in raised.value.message


def test_srun_is_made_known_to_torch() -> None:
    environ = dict(SRUN)
    export_slurm(current_world(environ), environ)
    assert {name: environ[name] for name in TORCHRUN} == {
        "RANK": "5", "WORLD_SIZE": "7", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "3",
    }  # fmt: skip
    assert environ["MASTER_ADDR"] == "gpu03"
    assert environ["MASTER_PORT"] == str(15000 + 123456 % 20000)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu[1-3]", "gpu1"),
        ("gpu[003,009],cpu1", "gpu003"),
        ("rack[2-3]node[07-08].example.org,x", "rack2node07.example.org"),
        ("a-b.c,gpu[1-2]", "a-b.c"),
    ],
)
def test_first_machine(nodes: str, first: str) -> None:
    environ = {**SRUN, "SLURM_STEP_NODELIST": nodes}
    export_slurm(current_world(environ), environ)
    assert environ["MASTER_ADDR"] == first


@pytest.mark.parametrize("nodes", ["", "gpu[", "gpu[]", "gpu[a]", ","])
def test_machines_that_cannot_be_understood(nodes: str) -> None:
    environ = {**SRUN, "SLURM_STEP_NODELIST": nodes}
    with pytest.raises(EnvironmentProblem, match="names no machine"):
        export_slurm(current_world(environ), environ)


def test_the_users_address_wins() -> None:
    environ = {**SRUN, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    export_slurm(current_world(environ), environ)
    assert (environ["MASTER_ADDR"], environ["MASTER_PORT"]) == ("10.0.0.1", "29500")


@pytest.mark.parametrize("job", ["1", "19999", "20000", "987654321"])
def test_ports_are_allowed_ones_and_steps_of_a_job_differ(job: str) -> None:
    ports = []
    for step in ("0", "1", "2"):
        environ = {**SRUN, "SLURM_JOB_ID": job, "SLURM_STEP_ID": step}
        export_slurm(current_world(environ), environ)
        ports.append(int(environ["MASTER_PORT"]))
    assert len(set(ports)) == 3
    assert all(15000 <= port <= 34999 for port in ports)


def test_nothing_is_exported_without_srun() -> None:
    environ: dict[str, str] = {}
    export_slurm(World(), environ)
    assert environ == {}


CHILD = """
import sys, time
from dlgsum.core import world
if sys.argv[1] == "thread":
    world._killed_by_kernel = lambda: False
world.dies_with_parent()
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("way", ["kernel", "thread"])
def test_a_child_does_not_outlive_a_killed_parent(way: str) -> None:
    if way == "kernel" and not sys.platform.startswith("linux"):
        pytest.skip("the kernel's way is Linux only")
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD, way], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=20)
    assert not alive


def test_a_parent_that_is_gone_already_is_noticed(tmp_path: Path) -> None:
    code = "import sys; from dlgsum.core.world import dies_with_parent; dies_with_parent(2**22 + 1); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    assert "alive" not in done.stdout


def test_no_torch_is_needed() -> None:
    code = f"import sys, {module.__name__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
