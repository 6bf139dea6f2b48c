"""What became of each key of the competition baseline's format and of transformers 4; rules are in legacy_rules.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlgsum.config.legacy_draft import types


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SECTIONS = ("general", "tokenizer", "training", "wandb", "inference")

# Old key to new key, and what a reader should know.
RENAMED: dict[str, tuple[str, str]] = {
    "training.seed": ("general.seed", ""),
    "general.output_dir": ("general.output_dir", "runs go to experiments/<time>_<id> inside it"),
    "general.encoder_prefix": ("model.prefix", "written before each dialogue"),
    "training.epochs": ("training.num_train_epochs", ""),
    "training.lr": ("training.learning_rate", ""),
    "training.batch_size": ("training.per_device_train_batch_size", ""),
    "training.train_batch_size": ("training.per_device_train_batch_size", ""),
    "training.eval_batch_size": ("training.per_device_eval_batch_size", ""),
    "training.per_gpu_train_batch_size": ("training.per_device_train_batch_size", ""),
    "training.per_gpu_eval_batch_size": ("training.per_device_eval_batch_size", ""),
    "training.label_smoothing": ("training.label_smoothing_factor", ""),
    "training.gradient_checkpointing": ("training.activation_checkpointing", "transformers' new name"),
    "training.generation_num_beams": ("generation.eval_num_beams", "beams of the evaluations during training"),
    "training.run_name": ("wandb.name", ""),
    "inference.num_beams": ("generation.num_beams", ""),
    "inference.no_repeat_ngram_size": (
        "generation.no_repeat_ngram_size",
        "holds in evaluations too; the old dev metric had no such limit",
    ),
    "inference.length_penalty": ("generation.length_penalty", ""),
    "inference.repetition_penalty": ("generation.repetition_penalty", ""),
    "inference.min_length": ("generation.min_length", ""),
    "inference.min_new_tokens": ("generation.min_length", "dlgsum counts generated tokens only"),
}


@dataclass(frozen=True)
class Covered:
    """A key that needs no carrying while it has its usual value.

    Attributes:
        usual: that value; None for any.
        how: what makes it needless.
        otherwise: why another value is lost, and what to do.
    """

    usual: Any
    how: str
    otherwise: str = ""


_NO_SUCH_CHOICE = "dlgsum has no such choice"

COVERED: dict[str, Covered] = {
    "training.overwrite_output_dir": Covered(None, "each run has a folder of its own, so nothing is overwritten"),
    "training.do_train": Covered(True, "what dlgsum train does", "use `dlgsum evaluate` or `dlgsum predict` instead"),
    "training.do_eval": Covered(True, "see training.eval_strategy", "set training.eval_strategy=no to leave them out"),
    "training.do_predict": Covered(
        True, "test rows are predicted at the end", "leave data.test out, and no test row is predicted"
    ),
    "training.predict_with_generate": Covered(
        True, "evaluations always generate", "evaluations always generate; training.eval_strategy=no leaves them out"
    ),
    "training.save_safetensors": Covered(True, "the only format", "only safetensors are written"),
    "training.remove_unused_columns": Covered(None, "only what the model reads is passed on"),
    "training.logging_nan_inf_filter": Covered(
        None, "steps that are not finite are skipped and counted: training.max_skipped_steps"
    ),
    "training.dataloader_pin_memory": Covered(None, "done where there is a GPU"),
    "training.dataloader_drop_last": Covered(False, "every row is used", "every row is used in each epoch"),
    "training.prediction_loss_only": Covered(False, "evaluations score", "evaluations always score"),
    "training.label_names": Covered(None, "always labels"),
    "training.skip_memory_metrics": Covered(True, "as here", _NO_SUCH_CHOICE),
    "training.local_rank": Covered(-1, "one process", "one process trains on one device"),
    "training.past_index": Covered(-1, "as here", _NO_SUCH_CHOICE),
    "training.length_column_name": Covered(None, "lengths are counted by dlgsum itself"),
    "inference.do_sample": Covered(False, "never done here", "dlgsum does not sample; it searches with beams"),
    "inference.num_return_sequences": Covered(1, "one summary a dialogue", "one summary a dialogue is written"),
    "inference.use_cache": Covered(True, "as here", _NO_SUCH_CHOICE),
    "inference.skip_special_tokens": Covered(
        None, "control tokens are always dropped, tags such as #Person1# always kept"
    ),
}

_METRICS_FILES = "losses and scores are in metrics.jsonl of the run folder, and in W&B with wandb.mode=online"
_NO_HUB = "dlgsum does not publish; upload models/best_model of the run folder yourself"
_ONE_DEVICE = "one process trains on one device"

# Keys that have no counterpart, and what to do instead.
UNSUPPORTED: dict[str, str] = {
    "training.logging_dir": f"no TensorBoard files are written; {_METRICS_FILES}",
    "training.logging_first_step": "set training.logging_steps=1 to record from the first step on",
    "training.fp16_opt_level": "it belonged to NVIDIA apex; training.precision is all that is needed",
    "training.fp16_backend": "torch's own mixed precision is used; see training.precision",
    "training.half_precision_backend": "torch's own mixed precision is used; see training.precision",
    "training.fp16_full_eval": "evaluations run in training.precision",
    "training.bf16_full_eval": "evaluations run in training.precision",
    "training.tf32": "set it in PyTorch (torch.backends.cuda.matmul.fp32_precision); dlgsum leaves it as it is",
    "training.data_seed": "general.seed also orders the rows",
    "training.resume_from_checkpoint": "which run goes on is said when training starts, not in its settings",
    "training.optim_args": "an optimizer takes training.learning_rate, weight_decay and adam_*",
    "training.lr_scheduler_kwargs": "a schedule takes training.warmup_steps",
    "training.include_inputs_for_metrics": "scorers always see the dialogues they need",
    "training.push_to_hub": _NO_HUB,
    "training.deepspeed": _ONE_DEVICE,
    "training.fsdp": _ONE_DEVICE,
    "training.fsdp_config": _ONE_DEVICE,
    "training.sharded_ddp": _ONE_DEVICE,
    "training.generation_config": "set the section generation instead",
    "tokenizer.sep_token": "turns stay separated by newlines; a token inside your texts: tokenizer.special_tokens",
    "inference.temperature": "it matters to sampling only, which dlgsum does not do",
    "inference.top_k": "it matters to sampling only, which dlgsum does not do",
    "inference.top_p": "it matters to sampling only, which dlgsum does not do",
    "wandb.api_key": "a key does not belong in a file; run `wandb login`",
    "parameters": "a sweep's choices; a file of settings has one value for each: write SECTION.KEY: VALUE",
    "method": "part of a sweep, not of a run's settings; give dlgsum train one value at a time",
    "metric": "part of a sweep, not of a run's settings; the best model is chosen by metrics.best",
    "early_terminate": "part of a sweep, not of a run's settings; see training.early_stopping_patience",
}

# Arguments of transformers that are told from typing mistakes, though there is nothing to say about each.
_TRAINER_ARGUMENTS = _names("""
accelerator_config activation_checkpointing_kwargs average_tokens_across_devices
batch_eval_metrics dataloader_in_order dataloader_multiprocessing_context
dataloader_persistent_workers dataloader_prefetch_factor trackio_bucket_id trackio_static_space_id
ddp_backend ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_static_graph ddp_timeout debug
dispatch_batches enable_jit_checkpoint eval_accumulation_steps eval_delay eval_do_concat_batches eval_on_start
eval_use_gather_object fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap gradient_checkpointing_kwargs
hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy hub_token ignore_data_skip include_for_metrics
include_num_input_tokens_seen include_tokens_per_second jit_mode_eval liger_kernel_config log_level log_level_replica
log_on_each_node mp_parameters neftune_noise_alpha optim_target_modules parallelism_config project
push_to_hub_model_id push_to_hub_organization push_to_hub_token ray_scope restore_callback_states_from_checkpoint
save_on_each_node save_only_model sortish_sampler split_batches torch_compile torch_compile_backend
torch_compile_mode torch_empty_cache_steps torchdynamo tpu_metrics_debug tpu_num_cores trackio_space_id use_cache
use_ipex use_legacy_prediction_loop use_liger_kernel xpu_backend
""")
_GENERATE_ARGUMENTS = _names("""
bad_words_ids begin_suppress_tokens bos_token_id constraints decoder_start_token_id diversity_penalty
encoder_no_repeat_ngram_size encoder_repetition_penalty eos_token_id epsilon_cutoff eta_cutoff
exponential_decay_length_penalty force_words_ids forced_bos_token_id forced_eos_token_id guidance_scale
max_time min_p num_beam_groups output_attentions output_hidden_states output_scores pad_token_id penalty_alpha
remove_invalid_values renormalize_logits return_dict_in_generate sequence_bias stop_strings suppress_tokens typical_p
""")
_NOT_OFFERED = "an argument of transformers that dlgsum does not offer; see `dlgsum config show` for what there is"
UNSUPPORTED |= {
    f"{section}.{name}": _NOT_OFFERED
    for section, names in (("training", _TRAINER_ARGUMENTS), ("inference", _GENERATE_ARGUMENTS))
    for name in sorted(names)
    if f"{section}.{name}" not in UNSUPPORTED
}

# Keys that the rules take care of, besides those above.
RULED = _names("""
general.data_path general.model_name general.device
tokenizer.bos_token tokenizer.eos_token tokenizer.special_tokens tokenizer.additional_special_tokens
tokenizer.special_tokens.additional_special_tokens
training.evaluation_strategy training.eval_strategy training.eval_steps training.save_strategy training.save_steps
training.save_total_limit training.logging_strategy training.logging_steps
training.warmup_ratio training.warmup_steps training.fp16 training.bf16 training.optim training.adafactor
training.no_cuda training.use_cpu training.use_mps_device training.device
training.group_by_length training.train_sampling_strategy training.auto_find_batch_size
training.load_best_model_at_end training.metric_for_best_model training.greater_is_better
training.early_stopping_patience training.early_stopping_threshold training.use_early_stopping
training.early_stopping training.generation_max_length training.report_to training.disable_tqdm
wandb.entity wandb.project wandb.name
inference.ckt_path inference.ckpt_path inference.result_path inference.early_stopping
inference.generate_max_length inference.max_new_tokens inference.max_length inference.batch_size
inference.remove_tokens
""")

# Keys that only the old format has, and among them those that no habit of transformers explains.
OLD_ONLY = _names("""
general.data_path
training.overwrite_output_dir training.evaluation_strategy training.seed training.logging_dir
training.predict_with_generate training.generation_max_length training.generation_num_beams training.do_train
training.do_eval training.do_predict training.report_to training.fp16_opt_level training.use_early_stopping
training.group_by_length training.label_smoothing training.gradient_checkpointing training.metric_for_best_model
training.no_cuda training.use_cpu training.run_name training.per_gpu_train_batch_size
training.per_gpu_eval_batch_size training.output_dir training.save_safetensors training.remove_unused_columns
tokenizer.sep_token tokenizer.encoder_prefix
inference.ckt_path inference.ckpt_path inference.result_path inference.no_repeat_ngram_size
inference.early_stopping inference.generate_max_length inference.num_beams inference.batch_size
inference.remove_tokens inference.length_penalty inference.repetition_penalty inference.max_new_tokens
""")

UNMISTAKABLE = frozenset(key for key in OLD_ONLY if key.startswith("inference.") or key == "general.data_path")

SAME = frozenset(types())  # every setting of ours
KNOWN = frozenset({*SAME, *RENAMED, *COVERED, *UNSUPPORTED, *RULED})


def _homes() -> dict[str, str]:
    """Return each last part of a key that stands in one section only, with that key; our own keys go first."""
    vague = {"name", "project", "entity", "mode", "batch_size", "debug", "test", "id", "method", "metric", "group"}
    homes: dict[str, str] = {}
    for keys in (SAME, KNOWN - SAME):
        leaves = [key.rpartition(".")[2] for key in sorted(keys)]
        for key, leaf in zip(sorted(keys), leaves, strict=True):
            if leaves.count(leaf) == 1 and leaf not in vague:
                homes.setdefault(leaf, key)
    return homes


HOMES = _homes()  # for a key that stands in an unusual section, or in none
