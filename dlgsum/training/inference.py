"""Generate summaries for a data set: longest first, encoder run once, order restored, on any number of processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from dlgsum.core.device import DevicePlan
from dlgsum.data.collate import SummaryCollator
from dlgsum.data.encode import EncodedSplit
from dlgsum.models.encoding import SummaryTokenizer
from dlgsum.training.loss import token_loss
from dlgsum.training.memory import is_out_of_memory, release_memory

logger = logging.getLogger(__name__)

TORCH_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Generated:
    """Summaries in the order of the data set; ``loss`` is the mean per target token, None without references."""

    texts: list[str]
    loss: float | None


@dataclass(frozen=True)
class SummaryGenerator:
    """A model with all it needs to turn encoded dialogues into summaries.

    Args:
        model: moved to its device when it is used.
        collator: pads, and starts the decoder as in training.
        generation: decoding settings.
        evaluation: decoding settings of the evaluations during training.
        plan: device and precision.
        whole: where ``model`` is shared out among processes, gives a whole one, in all of them together.
    """

    model: PreTrainedModel
    tokenizer: SummaryTokenizer
    collator: SummaryCollator
    generation: GenerationConfig
    evaluation: GenerationConfig
    plan: DevicePlan
    whole: Callable[[], AbstractContextManager[PreTrainedModel]] | None = None

    def run(
        self,
        split: EncodedSplit,
        *,
        batch_size: int,
        generation: GenerationConfig | None = None,
        on_batch: Callable[[int, int], None] | None = None,
        in_halves: bool = True,
    ) -> Generated:
        """Generate a summary for each row of ``split``.

        Args:
            batch_size: rows in a batch.
            generation: decoding settings, where they differ from the model's.
            on_batch: called with the rows done and all rows, by the first process.
            in_halves: where memory runs out, do the batch in two halves, and those again, with a warning.

        Batches are of like length, longest first, so that running out of memory shows at once. With several
        processes each takes every n-th batch, and all return everything. A model that is shared out among them is
        whole on each for as long as this takes: its weights, without gradients and optimizer. An empty split gives no
        texts.
        """
        ordered, restore = split.longest_first()
        starts = range(0, len(ordered), batch_size)
        rank, world = _process()
        texts: dict[int, list[str]] = {}
        totals = torch.zeros(2, dtype=torch.float64)
        with self._evaluating() as model:
            for number, start in enumerate(starts):
                if number % world == rank:
                    rows = [ordered[index] for index in range(start, min(start + batch_size, len(ordered)))]
                    texts[start], loss_and_count = self._texts(model, rows, generation or self.generation, in_halves)
                    totals += loss_and_count
                if on_batch is not None and rank == 0:
                    on_batch(min(start + batch_size, len(ordered)), len(ordered))
        if world > 1:
            texts, totals = _gather(texts, totals, world)
        in_order = [text for start in starts for text in texts[start]]
        loss, count = totals.tolist()
        return Generated(restore(in_order), loss / count if count else None)

    def _texts(
        self, model: PreTrainedModel, rows: list[dict[str, list[int]]], generation: GenerationConfig, in_halves: bool
    ) -> tuple[list[str], torch.Tensor]:
        """Return the summaries of a batch, and the summed loss with the number of target tokens."""
        try:
            ids, loss = self._batch(model, rows, generation)
            return self.tokenizer.decode(ids), loss
        except Exception as error:
            if not in_halves or len(rows) == 1 or not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        # Outside the except block: the traceback holds the tensors of the attempt.
        release_memory()
        half = (len(rows) + 1) // 2
        logger.warning(
            "out of memory while generating %d rows at once (%s): they are done in halves. A lower "
            "training.per_device_eval_batch_size saves the attempt.", len(rows), reason,
        )  # fmt: skip
        parts = [self._texts(model, part, generation, in_halves) for part in (rows[:half], rows[half:])]
        return parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]

    def _batch(
        self, model: PreTrainedModel, rows: list[dict[str, list[int]]], generation: GenerationConfig
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return generated ids, and the summed loss with the number of target tokens."""
        batch = {name: value.to(model.device) for name, value in self.collator(rows).items()}
        source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        encoded = model.get_encoder()(**source, return_dict=True)
        loss = torch.zeros(2, dtype=torch.float64)
        if "labels" in batch:
            # The encoder's output serves the loss and the generation: it is the larger part of a greedy pass.
            logits = model(
                encoder_outputs=encoded,
                attention_mask=batch["attention_mask"],
                decoder_input_ids=batch["decoder_input_ids"],
                use_cache=False,
            ).logits
            total, count = token_loss(logits, batch["labels"])
            loss = torch.stack([total.double(), count.double()]).cpu()
        generate: Any = model.generate
        return generate(**source, encoder_outputs=encoded, generation_config=generation), loss

    @contextmanager
    def _evaluating(self) -> Iterator[PreTrainedModel]:
        with nullcontext(self.model) if self.whole is None else self.whole() as model:
            training = model.training
            place: Any = model.to
            place(self.plan.device)
            model.train(False)
            try:
                with (
                    torch.inference_mode(),
                    torch.autocast(model.device.type, dtype=TORCH_DTYPE[self.plan.precision], enabled=self.plan.mixed),
                ):
                    yield model
            finally:
                model.train(training)


def _process() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _gather(texts: dict[int, list[str]], totals: torch.Tensor, world: int) -> tuple[dict[int, list[str]], torch.Tensor]:
    """Join what every process generated."""
    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, (texts, totals))
    joined: dict[int, list[str]] = {}
    for part, _ in parts:
        joined |= part
    return joined, torch.stack([total for _, total in parts]).sum(0)
