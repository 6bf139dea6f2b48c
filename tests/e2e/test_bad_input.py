"""Everything a user gets wrong: the message, the exit code, and nothing written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import HEADER, TINY, Dlgsum, rows

ROW = 'a,"#Person1#: 네.",요약입니다.,주제\n'

BAD_FILES = {
    "missing column": (b"fname,dialog,summary\na,b,c\n", ["dialogue", "dialog", "data.columns.dialogue"]),
    "empty file": (b"", ["empty"]),
    "header only": (HEADER.encode(), ["row"]),
    "no encoding at all": (HEADER.encode() + b"a,\xff\xff\x81,b,c\n", ["utf-8", "line 2", "data.encoding"]),
    "no usable row": ((HEADER + "a,,요약,주제\nb,대화,,주제\n").encode(), ["row"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_data_is_exit_code_3(case: str, dlgsum: Dlgsum, tmp_path: Path) -> None:
    content, words = BAD_FILES[case]
    (tmp_path / "train.csv").write_bytes(content)
    (tmp_path / "dev.csv").write_text(HEADER + rows(2, first=100), encoding="utf-8")
    done = dlgsum("train", *TINY, "data=csv", "data.train=train.csv", "data.validation=dev.csv", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_a_missing_file_is_exit_code_3_and_names_the_nearest(dlgsum: Dlgsum, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(HEADER + ROW, encoding="utf-8")
    done = dlgsum("train", *TINY, "data=csv", "data.train=trian.csv", "data.validation=train.csv", cwd=tmp_path)
    assert done.returncode == 3 and "trian.csv" in done.stderr and "train.csv" in done.stderr


def test_skipped_rows_are_named(dlgsum: Dlgsum, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + rows(9) + "bad_1,,요약,주제\n", encoding="utf-8")
    (tmp_path / "v.csv").write_text(HEADER + rows(9, first=100), encoding="utf-8")
    done = dlgsum(
        "train", *TINY, "data=csv", "data.train=t.csv", "data.validation=v.csv", "training.max_steps=1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "warning: train: 1 row" in done.stderr and "bad_1" in done.stderr
    record = json.loads(next((tmp_path / "outputs" / "experiments").glob("*/data.json")).read_text())
    assert [row["id"] for row in record["splits"][0]["skipped"]] == ["bad_1"]


def test_a_checkpoint_that_is_not_there_is_exit_code_4(dlgsum: Dlgsum, tmp_path: Path) -> None:
    done = dlgsum("train", "model.checkpoint=./nowhere", "data=sample", cwd=tmp_path)
    assert done.returncode == 4 and "nowhere" in done.stderr
    offline = dlgsum("train", "model=kobart", "data=sample", cwd=tmp_path, HF_HOME=str(tmp_path / "hf"))
    assert offline.returncode == 4 and "digit82/kobart-summarization" in offline.stderr


def test_a_damaged_model_is_exit_code_4(workplace: Path, dlgsum: Dlgsum, tmp_path: Path) -> None:
    model = next((workplace / "outputs" / "experiments").glob("*/models/best_model"))
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:1000])
    done = dlgsum("predict", str(broken), "--text", "안녕", cwd=workplace)
    assert done.returncode == 4 and "broken" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "nothing", "test.csv"], ["nothing", "no run"]),
        (["predict", "latest", "test.csv", "-o", "x.txt"], [".csv", ".jsonl"]),
        (["predict", "latest", "test.csv", "-o", "no/where.csv"], ["no", "does not exist"]),
        (["predict", "latest", "--text", "  "], ["empty"]),
        (["predict", "latest", "test.csv", "--text", "a"], ["--text"]),
        (["evaluate", "latest", "metrics.scorer=kiwy"], ["kiwy", "kiwi"]),
        (["train", "metrics.best=rouge_combind_f1"], ["rouge_combind_f1", "rouge_combined_f1"]),
        (["train", "tokenizer.encoder_max_len=4"], ["at least 8"]),
    ],
)
def test_usage_errors_are_exit_code_2(workplace: Path, dlgsum: Dlgsum, arguments: list[str], words: list[str]) -> None:
    done = dlgsum(*arguments, cwd=workplace)
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_scoring_needs_summaries(workplace: Path, dlgsum: Dlgsum) -> None:
    done = dlgsum("evaluate", "latest", "--data", "test.csv", cwd=workplace)
    assert done.returncode == 3 and "summary" in done.stderr


@pytest.mark.slow
def test_google_rouge_on_korean_is_warned_of_before_training(workplace: Path, dlgsum: Dlgsum, tmp_path: Path) -> None:
    done = dlgsum(
        "train", *TINY, "data=csv", "data.train=학습.csv", "data.validation=개발.csv", "metrics.scorer=google",
        "training.max_steps=1", f"general.output_dir={tmp_path}", cwd=workplace,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    warned, scored = done.stderr.find("ignores"), done.stderr.find("R1 ")
    assert 0 <= warned < scored


def test_an_output_folder_that_cannot_be_made_is_told(dlgsum: Dlgsum, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = dlgsum("train", *TINY, "data=sample", "general.output_dir=file/outputs", cwd=tmp_path)
    assert done.returncode == 4 and "file" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_wandb_failure_does_not_stop_training(dlgsum: Dlgsum, tmp_path: Path) -> None:
    done = dlgsum(
        "train", *TINY, "data=sample", "data.max_train_samples=8", "data.max_eval_samples=2", "training.max_steps=1",
        "wandb.mode=online", cwd=tmp_path, WANDB_API_KEY="x" * 40, WANDB_BASE_URL="http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "W&B" in done.stderr and "the local record is complete" in done.stderr
    everything = "".join(
        p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".safetensors"
    )
    assert "x" * 40 not in everything + done.stdout + done.stderr
