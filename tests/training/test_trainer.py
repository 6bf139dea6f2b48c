"""The trainer on a tiny model: equal results for equal work, honest metrics, files that are whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, TrainerCallback

from dlgsum.core.errors import UsageError
from dlgsum.core.files import read_jsonl

Make = Callable[..., Any]


def losses(run: Path) -> list[float]:
    rows = [row["metrics"] for row in read_jsonl(run / "metrics.jsonl")]
    return [row["train/loss"] for row in rows if "train/loss" in row and "train/grad_norm" in row]


def weights(folder: str) -> dict[str, torch.Tensor]:
    return dict(AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict())


def test_a_batch_of_four_equals_two_times_two(tiny: Make) -> None:
    """Gradient accumulation gives the same losses, although rows and batches differ in length."""
    common = {"batching": "random", "max_steps": 8, "eval_strategy": "no", "load_best_model_at_end": False}
    whole = tiny(training={**common, "per_device_train_batch_size": 4})
    whole_result = whole.train()
    halves = tiny(training={**common, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2})
    halves_result = halves.train()
    assert len(losses(whole.output_dir)) == 8
    assert losses(halves.output_dir) == pytest.approx(losses(whole.output_dir), abs=2e-4)
    ours, theirs = weights(whole_result.model_path), weights(halves_result.model_path)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 2e-3


def test_label_smoothing_is_the_same_under_accumulation(tiny: Make) -> None:
    common = {
        "batching": "random",
        "max_steps": 3,
        "eval_strategy": "no",
        "load_best_model_at_end": False,
        "label_smoothing_factor": 0.1,
    }
    whole = tiny(training={**common, "per_device_train_batch_size": 4})
    whole.train()
    halves = tiny(training={**common, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2})
    halves.train()
    assert losses(halves.output_dir) == pytest.approx(losses(whole.output_dir), abs=2e-4)


@pytest.mark.parametrize("batching", ["samples", "tokens", "random"])
def test_the_same_seed_gives_the_same_run(tiny: Make, batching: str) -> None:
    settings = {"batching": batching, "tokens_per_batch": 1024, "num_train_epochs": 2}
    first, second = tiny(training=settings), tiny(training=settings)
    assert first.train().best_metrics["loss"] == second.train().best_metrics["loss"]
    assert losses(first.output_dir) == losses(second.output_dir)
    other = tiny(training=settings, general={"seed": 7})
    other.train()
    assert losses(other.output_dir) != losses(first.output_dir)


def test_the_cached_rows_are_reused(tiny: Make, tmp_path: Path) -> None:
    settings = {"source": "sample", "max_train_samples": 16, "max_eval_samples": 4, "cache": True}
    first = tiny(data=settings).prepare_data()
    second = tiny(data=settings).prepare_data()
    assert not first["train"].reused and second["train"].reused
    assert first["train"][3] == second["train"][3]


def test_the_best_model_is_the_one_with_the_best_score_and_loads_with_plain_transformers(tiny: Make) -> None:
    trainer = tiny(training={"num_train_epochs": 3, "keep_best": 2})
    result = trainer.train()
    rows = [row for row in read_jsonl(trainer.output_dir / "metrics.jsonl") if "eval/loss" in row["metrics"]]
    scores = {row["step"]: row["metrics"]["eval/rouge_combined_f1"] for row in rows}
    assert len(scores) == 3
    assert result.best_step == max(scores, key=lambda step: (scores[step], -step))
    assert result.best_metrics["rouge_combined_f1"] == max(scores.values())
    kept = json.loads((trainer.output_dir / "models" / "ranking.json").read_text())["kept"]
    folders = {path.name for path in (trainer.output_dir / "models").iterdir() if path.is_dir()}
    assert folders == {"best_model", f"step-{kept[1]['step']}"}

    model = AutoModelForSeq2SeqLM.from_pretrained(result.model_path)
    tokenizer = AutoTokenizer.from_pretrained(result.model_path)
    split = trainer.datasets["validation"]
    ours = trainer.generate_predictions(split, max_samples=3)
    for index in range(3):
        ids = model.generate(torch.tensor([split[index]["input_ids"]]))
        text = tokenizer.decode(ids[0], skip_special_tokens=True).strip()
        assert text == ours[index]["prediction"]


def test_a_model_folder_is_complete(tiny: Make) -> None:
    result = tiny().train()
    folder = Path(result.model_path)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pkl", ".pt"))], "no pickle in a model that is shared"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "A demonstration, not KoBART" in card and "rouge_combined_f1" in card
    record = json.loads((folder / "metrics.json").read_text())
    assert record["signature"].startswith("rouge_combined_f1|scorer:char") and "nrefs:1" in record["signature"]


def test_every_metric_reaches_the_file_once_a_step_under_public_names(tiny: Make) -> None:
    trainer = tiny(training={"num_train_epochs": 2})
    trainer.train()
    rows = list(read_jsonl(trainer.output_dir / "metrics.jsonl"))
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    names = {name for row in rows for name in row["metrics"]}
    expected = {"rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_combined_f1", "loss"}
    assert {f"eval/{name}" for name in expected} <= names
    assert {"train/loss", "train/grad_norm", "train/learning_rate", "throughput/tokens_per_sec"} <= names
    train_steps = [row["step"] for row in rows if "train/grad_norm" in row["metrics"]]
    assert len(train_steps) == len(set(train_steps)) == 12


def test_real_tokens_are_counted(tiny: Make) -> None:
    trainer = tiny(training={"num_train_epochs": 2})
    trainer.train()
    split = trainer.datasets["train"]
    assert int(trainer.trainer.source_tokens) == 2 * int(split.source_lengths.sum())
    assert int(trainer.trainer.target_tokens) == 2 * int(split.target_lengths.sum())


def test_evaluation_keeps_the_order_of_the_rows_and_does_not_depend_on_the_batch_size(tiny: Make) -> None:
    trainer = tiny(data={"source": "sample", "max_train_samples": 16, "max_eval_samples": 9, "cache": False})
    split = trainer.prepare_data()["validation"]
    generator = trainer.trainer.generator
    one, four = (generator.run(split, batch_size=size) for size in (1, 4))
    assert one.texts == four.texts and len(one.texts) == 9
    assert one.loss == pytest.approx(four.loss, rel=1e-5)


def test_the_evaluation_loss_is_the_mean_over_target_tokens(tiny: Make) -> None:
    trainer = tiny()
    split = trainer.prepare_data()["validation"]
    model = trainer.trainer.generator.model.eval()
    total = count = 0.0
    for index in range(len(split)):
        batch = trainer.trainer.generator.collator([split[index]])
        with torch.no_grad():
            output = model(**batch)
        tokens = int(batch["labels"].ne(-100).sum())
        total, count = total + float(output.loss) * tokens, count + tokens
    assert trainer.evaluate(split)["eval_loss"] == pytest.approx(total / count, rel=1e-4)


def test_generation_and_training_start_the_decoder_alike(tiny: Make) -> None:
    trainer = tiny()
    split = trainer.prepare_data()["train"]
    generator = trainer.trainer.generator
    batch = generator.collator([split[0], split[1]])
    start = generator.generation.decoder_start_token_id
    assert batch["decoder_input_ids"][:, 0].tolist() == [start, start]
    assert generator.model.config.decoder_start_token_id == start
    assert split[0]["input_ids"][-1] == generator.tokenizer.eos_id == split[0]["labels"][-1]


def test_no_finite_score_keeps_the_last_model_and_says_so(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    result = tiny(training={"eval_strategy": "no", "load_best_model_at_end": False}).train()
    assert Path(result.model_path, "model.safetensors").is_file()
    assert result.best_metrics == {}
    assert "the last model is kept" in capsys.readouterr().err


def test_early_stopping_stops(tiny: Make) -> None:
    result = tiny(
        training={"num_train_epochs": 9, "early_stopping_patience": 1, "early_stopping_threshold": 0.9}
    ).train()
    assert result.stopped_early and result.epochs == 2


def test_the_reference_python_examples_run(tiny: Make) -> None:
    trainer = tiny()
    trainer.initialize_components()
    datasets = trainer.prepare_data()
    seen: list[float] = []

    class Custom(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
            if "eval_rouge_combined_f1" in metrics:  # the test set is evaluated too, under its own prefix
                seen.append(metrics["eval_rouge_combined_f1"])

    trainer.trainer.add_callback(Custom())
    result = trainer.train(datasets)
    assert seen == [result.best_metrics["rouge_combined_f1"]]
    scores = trainer.evaluate(datasets["test"], metric_key_prefix="test")
    assert {"test_rouge1_f1", "test_rouge_combined_f1", "test_loss"} <= set(scores)
    predictions = trainer.generate_predictions(datasets["validation"], max_samples=5)
    assert len(predictions) == 5 and {"input", "prediction", "reference"} <= set(predictions[0])


def test_an_evaluation_after_training_does_not_move_the_best_model(tiny: Make) -> None:
    trainer = tiny()
    result = trainer.train()
    before = (Path(result.model_path) / "metrics.json").read_text()
    trainer.evaluate(trainer.datasets["train"].select(3))
    assert (Path(result.model_path) / "metrics.json").read_text() == before


def test_decoding_options_belong_to_the_configuration(tiny: Make) -> None:
    with pytest.raises(UsageError, match="num_beams"):
        tiny().evaluate(num_beams=2)


def test_own_files_replace_the_data(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "대화.csv").write_text(
        "fname,dialogue,summary,topic\na,#Person1#: 안녕하세요.,#Person1#은 인사합니다.,인사\n", encoding="utf-8"
    )
    trainer = tiny()
    datasets = trainer.prepare_data(train_path="대화.csv", val_path="대화.csv")
    assert set(datasets) == {"train", "validation"} and len(datasets["train"]) == 1
    assert trainer.config.data.train is not None and trainer.config.data.train.endswith("대화.csv")


def test_the_lowest_loss_is_the_best(tiny: Make) -> None:
    trainer = tiny(training={"num_train_epochs": 3}, metrics={"scorer": "char", "bleu": False, "best": "loss"})
    result = trainer.train()
    rows = [row["metrics"] for row in read_jsonl(trainer.output_dir / "metrics.jsonl")]
    losses_ = [row["eval/loss"] for row in rows if "eval/loss" in row]
    assert result.best_metrics["loss"] == min(losses_) < max(losses_)


def test_a_failure_while_scoring_the_test_rows_does_not_lose_the_run(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = tiny()
    evaluate = trainer.trainer.evaluate

    def failing(dataset: Any = None, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        if metric_key_prefix == "test":
            raise RuntimeError("no memory for four beams")
        return evaluate(dataset, metric_key_prefix=metric_key_prefix, **kwargs)

    trainer.trainer.evaluate = failing
    result = trainer.train()
    assert result.test_metrics == {} and result.best_metrics
    assert json.loads((trainer.output_dir / "status.json").read_text())["status"] == "completed"
    assert "could not be scored (no memory for four beams)" in capsys.readouterr().err


def test_a_trainer_trains_once(tiny: Make) -> None:
    trainer = tiny()
    trainer.train()
    with pytest.raises(UsageError, match="trained already"):
        trainer.train()


def test_a_validation_file_alone_replaces_the_bundled_one(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "dev.csv").write_text("fname,dialogue,summary\na,#Person1#: 네.,대답합니다.\n", encoding="utf-8")
    datasets = tiny().prepare_data(val_path="dev.csv")
    assert [row.id for row in datasets["validation"].rows] == ["a"] and len(datasets["train"]) == 48


def test_new_files_after_the_trainer_was_used_are_refused(tiny: Make) -> None:
    trainer = tiny()
    assert trainer.trainer is not None
    with pytest.raises(UsageError, match="Call it first"):
        trainer.prepare_data(val_path="dev.csv")


def test_parameters_of_an_open_wandb_run_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import wandb

    from dlgsum import create_trainer

    monkeypatch.chdir(tmp_path)
    parameters = {"learning_rate": 1e-4, "generation.num_beams": 2, "special_tokens": ["a b"]}
    run = wandb.init(mode="offline", dir=str(tmp_path), config=parameters)
    try:
        config = create_trainer({"model": "kobart_mini", "data": "sample"}, sweep_mode=True).config
    finally:
        run.finish()
    assert config.training.learning_rate == 1e-4 and config.generation.num_beams == 2
    assert config.tokenizer.special_tokens == ["a b"]
    assert config.training.adam_beta2 == 0.98, "the files of conf/ count for a mapping too"
