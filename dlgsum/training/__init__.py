"""The training run: one Trainer, its arguments, evaluation, best models and hooks."""
