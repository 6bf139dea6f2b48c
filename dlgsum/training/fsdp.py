"""A model shared out among processes with torch's FSDP2 (``fully_shard``), and made whole where it must be.

Neither accelerate's FSDP nor the ``fsdp`` argument of transformers can do it for these models (accelerate 1.15, torch
2.13): ``fsdp2_prepare_model`` puts the input embedding and the output layer into a group of their own, but encoder and
decoder of BART and T5 hold the same matrix too, which torch refuses ("shared with a parameter already managed by
another FSDP group"); and ``AcceleratorState`` passes over the plugin in silence where the device is a CPU. So the
model is shared out before accelerate sees it, and the Trainer is told so through the flag that it has for that.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from dlgsum.core.errors import ConfigError, EnvironmentProblem
from dlgsum.training.loss import IGNORED

# Those that treat each number of a weight by itself, so that a part can be updated without the rest. Adafactor takes
# means over rows and columns, the 8-bit and paged ones divide a weight into blocks of their own.
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop")


def check_optimizer(name: str) -> None:
    """Refuse an optimizer that needs whole weights.

    Raises:
        ConfigError: it does.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(
            [f"training.optim={name} needs whole weights, which distributed.engine=fsdp does not have"],
            f"Use one of {', '.join(OPTIMIZERS)}, or distributed.engine=ddp.",
        )


def share_out(model: PreTrainedModel, device: torch.device, dtype: torch.dtype | None) -> None:
    """Leave this process a part of each weight; the class of the model changes, its names and shapes do not.

    Every process must hold the same weights before: each keeps its part of its own, and nothing is exchanged.

    Args:
        device: where this process computes; the parts are moved there.
        dtype: of mixed precision; None: none.

    Raises:
        EnvironmentProblem: the model does not name its layers.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    # Weights travel and are held as the 16 bits that autocast would make of them. Sums of gradients stay in 32 bits,
    # and so does what flows between the layers, as under ddp: autocast decides there.
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None, cast_forward_inputs=False
    )
    # Said of T5, whose layers return views. Nothing changes these in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    # The rest is one group: embeddings that encoder, decoder and output layer share must not be in two.
    fully_shard(model, mesh=mesh, mp_policy=policy)


def is_shared_out(model: nn.Module) -> bool:
    """Say whether this process holds only a part of each weight."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())


def whole_weights(model: nn.Module, *, device: torch.device | None, keep: bool = True) -> dict[str, Tensor]:
    """Return the whole weights and buffers, by name; every process must call this.

    Args:
        device: where they are put, one after the other; None: where they are made.
        keep: whether this process wants them; where not, the answer is empty.

    Weights with several names are one tensor, as safetensors and transformers expect it.
    """
    whole: dict[int, Tensor] = {}
    named: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in whole:
            made = _whole(tensor.detach())
            whole[id(tensor)] = made.to(device or made.device) if keep else made.new_empty(0)
        named[name] = whole[id(tensor)]
    return named if keep else {}


def take_weights(model: nn.Module, file: Path) -> None:
    """Put the weights of a safetensors file into a model that is shared out; names that it has not are passed over."""
    from safetensors import safe_open

    held = model.state_dict(keep_vars=True)
    with safe_open(file, framework="pt") as content, torch.no_grad():
        for name in content.keys():  # noqa: SIM118 - it is not iterable
            if name in held:
                target = held[name]
                if isinstance(target, DTensor):
                    target.to_local().copy_(_part(content.get_tensor(name), target).to_local())
                else:
                    target.copy_(content.get_tensor(name))


def whole_optimizer(state: Mapping[str, Any], *, keep: bool) -> dict[str, Any]:
    """Make the state of an optimizer whole, as a single process would save it; every process must call this.

    Args:
        state: of ``optimizer.state_dict()``.
        keep: whether this process wants it; where not, the answer is of no use.
    """
    of_weights: dict[int, dict[str, Any]] = {}
    for index, values in state["state"].items():
        made = {name: _whole(value) for name, value in values.items()}
        if keep:
            of_weights[index] = {
                name: value.cpu() if isinstance(value, Tensor) else value for name, value in made.items()
            }
    return {**state, "state": of_weights}


def part_of_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return this process's part of a whole optimizer's state, whichever number of processes saved it."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]

    def part(value: Any, weight: Tensor) -> Any:
        if isinstance(value, Tensor) and value.shape == weight.shape and isinstance(weight, DTensor):
            return _part(value, weight)
        return value

    return {
        **state,
        "state": {
            index: {name: part(value, weights[index]) for name, value in values.items()}
            for index, values in state["state"].items()
        },
    }


def fill_up(batch: Mapping[str, Tensor], parts: int) -> dict[str, Tensor]:
    """Add rows without labels until a batch can be divided into so many equal parts.

    Every forward pass asks the other processes for their weights, so all must do the same number of them. A row
    without labels adds nothing to the loss, nor to any gradient.

    Args:
        batch: tensors whose first dimension is rows, ``labels`` among them.
    """
    rows = len(batch["labels"])
    missing = -rows % parts
    if not missing:
        return dict(batch)
    fillers = {name: value[:1].expand(missing, *value.shape[1:]) for name, value in batch.items()}
    fillers["labels"] = torch.full_like(fillers["labels"], IGNORED)
    return {name: torch.cat([value, fillers[name]]) for name, value in batch.items()}


def first_not_finite(model: nn.Module) -> str | None:
    """Return the name of the first weight with NaN or infinity in any process's part; every process must call this."""
    names, weights = zip(*model.named_parameters(), strict=True)
    found = torch.stack([~torch.isfinite(_held(weight)).all() for weight in weights]).int()
    if is_shared_out(model):
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    first = int(found.argmax())
    return str(names[first]) if found[first] else None


class WholeCopies:
    """Makes copies of a model that can be used without the other processes.

    Args:
        model: not shared out yet; its modules are copied now, its weights only when a copy is made.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._empty = copy.deepcopy(
            model, {id(weight): nn.Parameter(weight.detach().to("meta"), False) for weight in model.parameters()}
        )

    @contextmanager
    def whole(self) -> Iterator[PreTrainedModel]:
        """Give a whole model as it is now, in every process, and let go of it afterwards; all must call this.

        Processes that generate summaries take different numbers of steps. A layer that asked the others for its
        weights at each of them would wait forever, so each process gets all weights at once. That is the weights
        alone, in 32 bits and on the device: neither gradients nor the optimizer, which are the larger part.
        """
        whole = copy.deepcopy(self._empty)
        whole.load_state_dict(whole_weights(self._model, device=None), assign=True)
        yield whole


def _layers(model: PreTrainedModel) -> list[nn.Module]:
    """Return the layers, by what the model's family names as not to be divided; never one within another."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    found = {name: module for name, module in model.named_modules() if type(module).__name__ in names}
    if not found:
        raise EnvironmentProblem(
            f"distributed.engine=fsdp: models of type '{model.config.model_type}' do not say what their layers are",
            "Use distributed.engine=ddp.",
        )
    return [
        module
        for name, module in found.items()
        if not any(name.startswith(f"{other}.") for other in found if other != name)
    ]


def _whole(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _held(weight: Tensor) -> Tensor:
    return weight.to_local().detach() if isinstance(weight, DTensor) else weight.detach()


def _part(whole: Tensor, like: DTensor) -> DTensor:
    """Return this process's part of a whole tensor, divided as another one is; nothing is exchanged."""
    there = whole.to(like.device)
    return distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None)
