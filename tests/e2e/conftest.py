"""A real `dlgsum` process, and one run that all tests of this folder use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TINY = [
    "model=kobart_mini", "model.mini.d_model=32", "model.mini.ffn=64", "model.mini.heads=2",
    "model.mini.encoder_layers=1", "model.mini.decoder_layers=1", "model.mini.vocab_size=2600",
    "tokenizer.encoder_max_len=128", "tokenizer.decoder_max_len=24",
    "training.per_device_train_batch_size=8", "training.num_train_epochs=2", "metrics=char",
]  # fmt: skip

Dlgsum = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def dlgsum() -> Dlgsum:
    """Return a function that runs the command line: (arguments…, cwd=…, stdin=…, **environment)."""

    def run(
        *arguments: str, cwd: Path, stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DLGSUM", "WANDB"))}
        return subprocess.run(
            [sys.executable, "-m", "dlgsum", *arguments],
            cwd=cwd,
            env={**clean, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


HEADER = "fname,dialogue,summary,topic\n"


def rows(count: int, first: int = 0) -> str:
    """Return rows in the users' format."""
    return "".join(
        f'r_{i},"#Person1#: {i}시에 만날까요?\n#Person2#: 네, {i}시에 봐요.",'
        f"#Person1#은 #Person2#와 {i}시에 만납니다.,약속\n"
        for i in range(first, first + count)
    )


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory, dlgsum: Dlgsum) -> Path:
    """Return a folder with Korean file names in which a model was trained on CSV files."""
    folder = tmp_path_factory.mktemp("작업 폴더")
    (folder / "학습.csv").write_text(HEADER + rows(40), encoding="utf-8-sig")
    (folder / "개발.csv").write_text(HEADER + rows(8, first=100), encoding="utf-8")
    # The same test file, as a submission form has it: unnamed index column, no summaries, gaps in the names.
    (folder / "test.csv").write_text(
        ",fname,dialogue\n"
        '0,test_7,"#Person1#: 3시에 만날까요?\n#Person2#: 네."\n'
        '1,test_2,"#Person1#: 안녕하세요. 길게 이야기하고 싶어요. 정말 오래오래요.\n#Person2#: 그래요."\n'
        '2,test_9,"#Person1#: 네."\n',
        encoding="utf-8",
    )
    done = dlgsum("train", *TINY, "data=csv", "data.train=학습.csv", "data.validation=개발.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "train.out").write_text(done.stdout, encoding="utf-8")
    (folder / "train.err").write_text(done.stderr, encoding="utf-8")
    return folder
