"""Ask torch from a process of its own.

A card that hangs or crashes then ends that process and not this one, this one keeps no memory on any card, and it may
still start processes by forking, which CUDA forbids once it is in use.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from dlgsum.core.hardware.facts import Product, TorchFacts
from dlgsum.core.hardware.products import planned
from dlgsum.core.hardware.torch_probe import MARK

_PROGRAM = """
import json, sys
path, *question = json.loads(sys.argv[1])
sys.path[:] = path
from dlgsum.core.hardware.torch_probe import main
main(*question)
"""


def ask_torch(
    device: str = "auto", precision: str = "auto", *, unsafe_in_fp16: bool = False, seconds: float = 180.0
) -> tuple[TorchFacts, tuple[Product, ...]]:
    """Return what torch says, and a product computed on each device; nothing is raised.

    Args:
        device: as configured.
        precision: as configured.
        unsafe_in_fp16: the configured model overflows in fp16.
        seconds: after which the process is ended; what it had not answered by then has failed.
    """
    question = json.dumps([sys.path, device, precision, unsafe_in_fp16])
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        output, messages, end = done.stdout, done.stderr, _ending(done.returncode)
    except subprocess.TimeoutExpired as error:
        output, messages, end = error.stdout or b"", error.stderr or b"", f"no answer within {seconds:g} s"
    except (OSError, ValueError) as error:
        output, messages, end = b"", b"", f"no Python could be started ({error})"
    return understood(output.decode(errors="replace"), messages.decode(errors="replace"), end)


def understood(output: str, messages: str, end: str) -> tuple[TorchFacts, tuple[Product, ...]]:
    """Read the answers; what is missing has failed, for the reason in ``end``.

    Args:
        output: standard output of the process.
        messages: its standard error, whose last line explains a failure.
        end: how the process ended, in words.
    """
    from pydantic import TypeAdapter

    lines = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
    last = (messages.strip().splitlines() or [""])[-1]
    why = f"{end}: {last}" if last else end
    if not lines:
        return TorchFacts(f"torch could not be asked: {why}"), ()
    facts = TypeAdapter(TorchFacts).validate_json(lines[0])
    products = [TypeAdapter(Product).validate_json(line) for line in lines[1:]]
    if not facts.problem:
        products += [Product(*pair, 0, problem=why) for pair in planned(facts)[len(products) :]]
    return facts, tuple(products)


def _ending(code: int) -> str:
    if code >= 0:
        return f"the process ended with code {code}"
    try:
        return f"the process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"the process was ended by signal {-code}"
