"""What usually lies behind each kind of trouble, what to do about it, and which setting to change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advice:
    """Likely causes and what to do, the likeliest and the first first; ``key``: the setting to change, or empty."""

    causes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    key: str = ""


NOTHING_KNOWN = Advice()


def advice_for(kind: str) -> Advice | None:
    """Return what is known about a kind of trouble; None for a kind that only another package knows."""
    return _KNOWN.get(kind)


_KNOWN = {
    "loss_spike": Advice(
        causes=(
            "a learning rate that is too high",
            "a batch of unusual rows: very long, empty or damaged",
            "batches so small that single rows rule the step",
        ),
        advice=(
            "one spike that passes within a few steps needs nothing",
            "lower training.learning_rate to a half, or warm up longer with training.warmup_steps",
            "lower training.max_grad_norm, so that one batch moves the weights less",
            "raise training.effective_batch_size (or training.per_device_train_batch_size)",
            "read the rows of the batch; `dlgsum data check` finds damaged ones",
        ),
        key="training.learning_rate",
    ),
    "loss_plateau": Advice(
        causes=(
            "a learning rate that is too small, or so high that the loss cannot settle",
            "data from which nothing more can be learned: wrong columns, summaries that do not fit their dialogues",
            "training that is finished",
        ),
        advice=(
            "if the scores are good, stop here: the best model is kept",
            "raise training.learning_rate two to five times; lower it if the loss swings or stood still from the start",
            "read some rows with `dlgsum data check`, and check data.columns.dialogue and data.columns.summary",
            "set training.early_stopping_patience, so that the next run stops by itself",
        ),
        key="training.learning_rate",
    ),
    "divergence": Advice(
        causes=(
            "a learning rate that is too high, or a warm-up that is too short",
            "gradients that are clipped too late or not at all",
            "number overflow in fp16",
        ),
        advice=(
            "stop the run: it rarely comes back; the best model so far is kept",
            "lower training.learning_rate three to ten times, and warm up with training.warmup_steps=0.1",
            "set training.max_grad_norm to 1 or below",
            "with fp16, use training.precision=bf16 where the device has it, else fp32",
        ),
        key="training.learning_rate",
    ),
    "grad_explosion": Advice(
        causes=(
            "a learning rate that is too high",
            "a batch of unusual rows: very long, empty or damaged",
            "number overflow in fp16",
        ),
        advice=(
            "a single one is caught by clipping, if training.max_grad_norm is above 0",
            "lower training.max_grad_norm, and training.learning_rate if it comes back",
            "warm up longer with training.warmup_steps",
            "with fp16, use training.precision=bf16 where the device has it, else fp32",
        ),
        key="training.max_grad_norm",
    ),
    "grad_vanishing": Advice(
        causes=(
            "gradients too small for fp16, which rounds them to 0",
            "a model that is saturated after steps that were too large",
            "rows without any target to learn from",
        ),
        advice=(
            "with fp16, use training.precision=bf16 where the device has it, else fp32",
            "go back to an earlier checkpoint and lower training.learning_rate",
            "look at the layer_grad/ metrics: a layer at 0 tells where the gradient is lost",
            "check the target rows and tokenizer.decoder_max_len with `dlgsum data check`",
        ),
        key="training.precision",
    ),
    "clip_ratio": Advice(
        causes=(
            "a learning rate that is too high",
            "training.max_grad_norm set far below the usual norm of this model",
        ),
        advice=(
            "lower training.learning_rate",
            "if loss and scores are fine, raise training.max_grad_norm towards the median of monitor/grad_norm_raw",
            "raise training.effective_batch_size: the mean of more rows has a smaller gradient",
        ),
        key="training.learning_rate",
    ),
    "non_finite": Advice(
        causes=(
            "number overflow in fp16",
            "a gradient that exploded: the learning rate is too high",
            "a damaged row, or weights that were not finite to begin with",
        ),
        advice=(
            "read the NaN report, which names the first module, rows and weights; `dlgsum debug-nan` does it again",
            "use training.precision=bf16 where the device has it, else fp32",
            "lower training.learning_rate, and training.max_grad_norm to 1 or below",
        ),
        key="training.precision",
    ),
    "overfitting": Advice(
        causes=(
            "too many epochs for this many rows",
            "too few or too uniform training rows",
            "no regularisation",
        ),
        advice=(
            "nothing is lost: the best model is kept; set training.early_stopping_patience to stop in time",
            "lower training.num_train_epochs or training.learning_rate",
            "raise training.weight_decay or training.label_smoothing_factor; for kobart_mini model.mini.dropout",
            "train on more rows, or on rewritten ones (data.max_train_samples may hold some back)",
        ),
        key="training.early_stopping_patience",
    ),
    "memory_leak": Advice(
        causes=(
            "tensors that are kept after their step, with the graph that made them: a loss in a list, a custom hook",
            "data loading processes that each keep a copy of what they have read",
        ),
        advice=(
            "keep numbers, not tensors: loss.item() or loss.detach() in code of your own",
            "lower training.dataloader_num_workers and see whether the growth goes with it",
            "to reach the end of the run, resume it from a checkpoint: a new process starts with free memory",
            "to put it off, lower training.per_device_train_batch_size, or set training.activation_checkpointing=true",
        ),
        key="training.dataloader_num_workers",
    ),
    "throughput_drop": Advice(
        causes=(
            "another program on the same device or processor",
            "data loading that does not keep up, or a slow disk",
            "slow communication between processes",
            "a device that is hot or short of power, and lowers its clock",
        ),
        advice=(
            "see who else uses the device (nvidia-smi, top)",
            "raise training.dataloader_num_workers where the data-loading share of the step is high",
            "with several processes, check the slowest; more work per exchange helps "
            "(training.gradient_accumulation_steps)",
        ),
        key="training.dataloader_num_workers",
    ),
    "learning_rate": Advice(
        causes=(
            "a run that was resumed with another length or schedule",
            "a scheduler or optimizer replaced by code of your own",
            "a schedule stepped too often or too rarely",
        ),
        advice=(
            "compare training.lr_scheduler_type, training.warmup_steps, training.num_train_epochs and "
            "training.max_steps with what you meant: `dlgsum config explain training`",
            "start anew if the run went on with settings that were not meant",
        ),
        key="training.lr_scheduler_type",
    ),
    "rouge_collapse": Advice(
        causes=(
            "weights destroyed by a learning rate that is too high",
            "a model that has hardly learned yet",
            "wrong special tokens: the end mark comes first, or never",
        ),
        advice=(
            "look at loss and gradient norm: if they jumped, lower training.learning_rate and start again",
            "if everything is empty, check generation.decoder_start, tokenizer.eos_token and generation.min_length",
            "if texts repeat themselves, set generation.no_repeat_ngram_size=3 or generation.repetition_penalty=1.2",
            "if the loss still falls, train longer: raise training.num_train_epochs",
        ),
        key="training.learning_rate",
    ),
}
