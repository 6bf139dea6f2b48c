"""Faults for real processes: with this folder on PYTHONPATH, the variable FAULT makes a training go wrong.

FAULT is JSON: {"where": "step" | "save" | "evaluate", "at": optimizer step, "do": what, "rank": 0, "once": path}.
At a step: "nan" spoils a gradient, "bad_weight" a weight for good, "spike" makes loss and gradient jump for one step.
With "once" the fault happens in one process only, however often it is started. The product knows nothing of this.
"""

from __future__ import annotations

import errno
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

_TRAINER = "dlgsum.training.trainer"


def _due(fault: dict[str, Any], where: str, step: int) -> bool:
    if fault["where"] != where or step != fault["at"] or int(os.environ.get("RANK", "0")) != fault.get("rank", 0):
        return False
    once = fault.get("once")
    if once is None:
        return True
    try:
        Path(once).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _act(what: str) -> None:
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "exit":
        os._exit(17)
    elif what == "hang":
        time.sleep(10_000)
    elif what == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "optimizer.pt")
    elif what == "oom":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (simulated)")
    elif what == "cublas":
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)` (simulated)")
    elif what == "crash":
        raise RuntimeError("CUDA error: device-side assert triggered (simulated)")
    elif what.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, what))


def _patch(module: Any, fault: dict[str, Any]) -> None:
    trainer = module.SummarizationTrainer
    step, save, evaluate = trainer.training_step, trainer._save_optimizer_and_scheduler, trainer.evaluate

    def training_step(self: Any, model: Any, inputs: Any, count: Any = None) -> Any:
        number = self.state.global_step + 1
        if fault["do"] in ("oom", "cublas", "crash"):  # inside, where the step is done in parts
            inner = module.Seq2SeqTrainer.training_step

            def failing(it: Any, m: Any, part: Any, n: Any = None) -> Any:
                loss = inner(it, m, part, n)
                limit = fault.get("rows")  # memory for so many rows
                if (limit is not None and len(part["labels"]) > limit) or (
                    limit is None and _due(fault, "step", it.state.global_step + 1)
                ):
                    _act(fault["do"])
                return loss

            module.Seq2SeqTrainer.training_step = failing
            try:
                return step(self, model, inputs, count)
            finally:
                module.Seq2SeqTrainer.training_step = inner
        if fault["do"] == "bad_weight" and _due(fault, "step", number):  # as a flipped bit would leave it
            self.generator.model.model.decoder.layers[0].fc1.weight.data[3, 5] = float("nan")
        if fault["do"] == "spike" and _due(fault, "step", number):
            shared = self.generator.model.model.shared.weight
            shared.data.mul_(16)
            loss = step(self, model, inputs, count)
            shared.data.div_(16)
            return loss
        loss = step(self, model, inputs, count)
        if fault["do"] == "nan":
            if _due(fault, "step", number) or (fault["where"] == "steps" and number >= fault["at"]):
                next(p for p in model.parameters() if p.grad is not None).grad.fill_(float("nan"))
        elif _due(fault, "step", number):
            _act(fault["do"])
        return loss

    def _save_optimizer_and_scheduler(self: Any, folder: str) -> None:
        if _due(fault, "save", self.state.global_step):
            (Path(folder) / "optimizer.pt").write_bytes(b"half")
            _act(fault["do"])
        save(self, folder)

    def evaluating(self: Any, *arguments: Any, **named: Any) -> Any:
        handler, number = self.callback_handler, self.state.global_step
        told = handler.on_prediction_step

        def on_prediction_step(*a: Any, **k: Any) -> Any:
            if _due(fault, "evaluate", number):
                _act(fault["do"])
            return told(*a, **k)

        handler.on_prediction_step = on_prediction_step
        try:
            return evaluate(self, *arguments, **named)
        finally:
            del handler.on_prediction_step

    trainer.training_step = training_step
    trainer._save_optimizer_and_scheduler = _save_optimizer_and_scheduler
    trainer.evaluate = evaluating


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != _TRAINER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            _patch(module, json.loads(os.environ["FAULT"]))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if os.environ.get("FAULT"):
    sys.meta_path.insert(0, _Finder())
