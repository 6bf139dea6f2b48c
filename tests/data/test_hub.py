"""Data sets: folders made on the spot, and a hub that is not there."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import constants

from dlgsum.config.schema.data import Data
from dlgsum.core.errors import DataError, EnvironmentProblem
from dlgsum.data import hub
from dlgsum.data.hub import Dataset
from dlgsum.data.sources import Splits, load_splits, resolve_files

SECONDS = 0.3


@pytest.fixture(autouse=True)
def no_hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no token, and a hub at a closed port."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "PATIENCE", SECONDS)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return home


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"{i:03}", "dialogue": f"#Person1#: {i}\r\n네.", "summary": f"요약 {i}", **more} for i in range(count)
    ]


def write(folder: Path, name: str, content: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(content[0]))
            writer.writeheader()
            writer.writerows(content)
    elif path.suffix == ".parquet":
        datasets.Dataset.from_list(content).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")


def load(folder: Path | str, **settings: Any) -> Splits:
    data = Data(source="hub", dataset=str(folder), **settings)
    files = resolve_files(data, folder=Path.cwd())
    files.check()
    return load_splits(files, data)


def problem(name: Path | str, **settings: Any) -> str:
    started = time.monotonic()
    with pytest.raises((DataError, EnvironmentProblem)) as caught:
        load(name, **settings)
    assert caught.value.hint and time.monotonic() - started < 30
    return f"{caught.value.exit_code} {caught.value}"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_folder_of_files(tmp_path, suffix):
    for name, count in (("train", 5), ("validation", 3), ("test", 2)):
        write(tmp_path / "set", f"{name}{suffix}", rows(count))
    splits = load(tmp_path / "set")
    assert [(split.name, len(split)) for split in splits.all] == [("train", 5), ("validation", 3), ("test", 2)]
    row = splits.train.rows[0]
    assert (row.id, row.dialogue, row.references) == ("000", "#Person1#: 0\n네.", ("요약 0",))
    assert splits.train.notes == ("'id' is read as the column 'fname'",)
    assert splits.train.source == f"{tmp_path / 'set'}, split train"
    assert splits.train.fingerprint == load(tmp_path / "set").train.fingerprint


@pytest.mark.parametrize("name", ["validation", "dev", "val", "valid"])
def test_the_validation_split_has_many_names(tmp_path, name):
    found = datasets.DatasetDict({key: datasets.Dataset.from_list(rows(4)) for key in ("train", name)})
    found.save_to_disk(tmp_path / "set")
    splits = load(tmp_path / "set", max_eval_samples=2)
    assert (len(splits.train), len(splits.validation), splits.test) == (4, 2, None)


def test_dialogsum_columns(tmp_path):
    more = {"topic1": "인사", "summary1": "가", "summary2": "나", "summary3": "다"}
    content = [{key: value for key, value in row.items() if key != "summary"} for row in rows(3, **more)]
    datasets.DatasetDict({key: datasets.Dataset.from_list(content) for key in ("train", "dev")}).save_to_disk(
        tmp_path / "set"
    )
    row = load(tmp_path / "set").train.rows[2]
    assert (row.references, row.topic) == (("가", "나", "다"), "인사")


def test_words_that_pandas_takes_for_nothing(tmp_path):
    for name in ("train", "validation"):
        write(tmp_path / "set", f"{name}.csv", [{"id": "007", "dialogue": "None", "summary": "NA"}])
    (row,) = load(tmp_path / "set").train.rows
    assert (row.id, row.dialogue, row.references) == ("007", "None", ("NA",))


def test_broken_rows_of_a_csv_are_told_with_their_line(tmp_path):
    write(tmp_path / "set", "validation.csv", rows(1))
    (tmp_path / "set" / "train.csv").write_text('id,dialogue,summary\n1,d,s\n2,"d"x,s\n')
    assert "train.csv has broken quoting in the row that begins on line 3" in problem(tmp_path / "set")


def test_the_encoding_of_csv_files(tmp_path):
    for name in ("train", "validation"):
        write(tmp_path / "set", f"{name}.csv", rows(2))
        path = tmp_path / "set" / f"{name}.csv"
        path.write_bytes(path.read_text(encoding="utf-8").encode("cp949"))
    splits = load(tmp_path / "set")
    assert splits.train.notes[0] == "read as cp949" and splits.train.rows[0].references == ("요약 0",)
    assert "data.encoding=cp949" in problem(tmp_path / "set", encoding="utf-8")


def test_several_files_of_one_split(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write(tmp_path / "set" / "data", f"{name}.csv", rows(2))
    splits = load(tmp_path / "set")
    assert len(splits.train) == 4 and splits.train.skipped[0].reason.startswith("the id is also on line")


def test_a_file_replaces_a_split(tmp_path):
    write(tmp_path / "set", "train.jsonl", rows(3))
    text = problem(tmp_path / "set")
    assert text.startswith("3 ") and "no split validation or dev or val" in text and "it has train" in text
    assert "data.validation=FILE" in text
    write(tmp_path, "own.csv", rows(2))
    splits = load(tmp_path / "set", validation=str(tmp_path / "own.csv"))
    assert (len(splits.train), len(splits.validation)) == (3, 2)


def test_configurations(tmp_path):
    for name in ("a", "b"):
        for split in ("train", "validation"):
            write(tmp_path / "set" / name, f"{split}.parquet", rows(2 if name == "a" else 3))
    card = "".join(f"- config_name: {name}\n  data_dir: {name}\n" for name in "ab")
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n{card}---\n")
    assert len(load(tmp_path / "set", dataset_config="b").train) == 3
    assert "data.dataset_config=NAME" in problem(tmp_path / "set")
    assert "data.dataset_config=NAME" in problem(tmp_path / "set", dataset_config="c")


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    assert problem(tmp_path / "empty").startswith("3 ")
    write(tmp_path / "packed", "train.csv", rows(1))
    (tmp_path / "packed" / "more.zip").write_bytes(b"PK")
    text = problem(tmp_path / "packed")
    assert "more.zip" in text and "Unpack it first" in text
    write(tmp_path / "text", "train.txt", rows(1))
    assert "of the kind 'text'" in problem(tmp_path / "text")
    write(tmp_path, "file.csv", rows(1))
    assert "data.train" in problem(tmp_path / "file.csv")
    assert "no such folder" in problem(tmp_path / "nowhere")
    damaged = tmp_path / "damaged"
    write(damaged, "train.parquet", rows(1))
    (damaged / "train.parquet").write_bytes(b"PAR1 not really")
    write(damaged, "validation.parquet", rows(1))
    assert "cannot be read" in problem(damaged)
    saved = tmp_path / "saved"
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows(1))}).save_to_disk(saved)
    (saved / "train" / "state.json").unlink()
    assert "cannot be read" in problem(saved)


def test_code_of_a_data_set_never_runs(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert problem(folder).startswith("3 ")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A hub that answers with the status in the list; 0 is no answer at all."""
    statuses = [404]

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            if not statuses[0]:
                time.sleep(3 * SECONDS)
            self.send_response(statuses[0] or 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hub) as served:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{served.server_port}")
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield statuses
        served.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code", "word"), [(404, 3, "neither"), (401, 3, "auth login"), (503, 4, "503")])
def test_what_the_hub_says(server, status, code, word):
    server[0] = status
    text = problem("someone/something")
    assert text.startswith(f"{code} ") and "someone/something" in text and word in text


def test_a_hub_that_does_not_answer(server):
    server[0] = 0
    text = problem("someone/something", dataset_revision="main")
    assert (
        text.startswith("4 ")
        and ("did not answer within 0.3 s" in text or "timed out" in text)
        and "data.dataset=FOLDER" in text
    )


def test_no_network(monkeypatch):
    text = problem("someone/something")
    assert text.startswith("4 ") and "cannot be reached" in text
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "switched off" in problem("someone/something")


@pytest.mark.parametrize("name", ["a b", "a/b/c", "../x", "하나/둘", "x/..", "a/b?c"])
def test_names_that_no_hub_has(name):
    text = problem(name)
    assert text.startswith("3 ") and "no such folder" in text and "owner/name" in text


def test_a_data_set_in_the_cache_is_not_asked_for(no_hub):
    (no_hub / "datasets" / "someone___something").mkdir(parents=True)
    Dataset("someone/something").check()


def test_one_question_for_all_splits(monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "ask", lambda url, seconds: asked.append(url) or (200, "there"))
    data = Data(source="hub", dataset="someone/something", dataset_revision="v1")
    files = resolve_files(data, folder=Path())
    files.check()
    assert asked == ["http://127.0.0.1:9/api/datasets/someone/something/revision/v1"]
