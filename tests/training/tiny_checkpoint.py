"""Real checkpoints, written by transformers' own Trainer around a model of a few thousand weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset


class Rows(Dataset):  # type: ignore[type-arg]
    """The same few tokens, over and over."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": [5, 6, 7, index], "attention_mask": [1] * 4, "labels": [8, 9, 2]}


def tiny_model(d_model: int = 16) -> Any:
    """Return a new BART."""
    from transformers import BartConfig, BartForConditionalGeneration

    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=64, d_model=d_model, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=2 * d_model, decoder_ffn_dim=2 * d_model,
            max_position_embeddings=32, forced_eos_token_id=None,
        )
    )  # fmt: skip


def train_plainly(output: Path, model: Any, **arguments: Any) -> None:
    """Train a few steps with transformers alone, which writes ``checkpoint-<step>`` folders."""
    from transformers import PrinterCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments, default_data_collator

    values: dict[str, Any] = {
        "output_dir": str(output), "max_steps": 4, "save_steps": 2, "save_strategy": "steps", "use_cpu": True,
        "per_device_train_batch_size": 4, "report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False,
        **arguments,
    }  # fmt: skip
    trainer = Seq2SeqTrainer(
        model=model, args=Seq2SeqTrainingArguments(**values), train_dataset=Rows(), data_collator=default_data_collator
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
