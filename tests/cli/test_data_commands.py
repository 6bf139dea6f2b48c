"""`dlgsum data`: what it prints, writes, refuses and imports."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dlgsum.config.request import Request
from dlgsum.config.schema.data import Data
from dlgsum.core.files import read_json
from dlgsum.data.check_report import DataReport, TokenizerNote
from dlgsum.data.raw_files import raw_file
from dlgsum.data.sources import SAMPLE_FOLDER, load_file
from dlgsum.models.choice import ModelChoice
from dlgsum.recipes.data_check import UnknownCharacters, check_files, role, tokenizer_note
from dlgsum.recipes.data_report import show_report

PROGRAM = """
import sys
sys.argv[0] = "dlgsum"
from dlgsum.cli.app import main
try:
    main()
finally:
    heavy = [name for name in ("torch", "transformers", "datasets", "pandas") if name in sys.modules]
    sys.stderr.write("HEAVY=" + ",".join(heavy))
"""
MINI = "model=kobart_mini"


@pytest.fixture
def dlgsum(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; returns exit code, standard output and standard error."""
    from dlgsum.cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dlgsum", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(
            stream, list(rows[0]), lineterminator="\n", delimiter="\t" if path.suffix == ".tsv" else ","
        )
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows(count: int, prefix: str = "r", start: int = 0) -> list[dict[str, str]]:
    return [
        {
            "fname": f"{prefix}{number}",
            "dialogue": f"#Person1#: {number}번 손님, 오셨나요?\n#Person2#: 네, 왔습니다.",
            "summary": f"#Person2#는 {number}번입니다.",
            "topic": ("은행", "병원")[number % 2],
        }
        for number in range(start, start + count)
    ]


def test_a_check_shows_a_column_for_each_file_and_its_findings(dlgsum, tmp_path):
    write(tmp_path / "dev.csv", rows(4, "d", 18))
    write(tmp_path / "my_train.csv", rows(20))
    code, out, _ = dlgsum("data", "check", "dev.csv", "my_train.csv", "--no-tokens")
    assert code == 0
    header = next(line for line in out.splitlines() if "validation" in line)
    assert header.index("train") < header.index("validation")
    assert "warning: train/validation: 2 of the dialogues in validation (50.0 %) are in train too" in out
    assert "r18 = d18, r19 = d19" in out
    assert "\x1b[" not in out and "tokens" not in out


def test_train_and_validation_alike_are_an_error_for_scripts(dlgsum, tmp_path):
    write(tmp_path / "train.csv", rows(20))
    write(tmp_path / "dev.csv", rows(20))
    code, out, _ = dlgsum("data", "check", "train.csv", "dev.csv", "--no-tokens", "-o", "deep/report.json")
    assert code == 3 and "error: train/validation: 20 of the dialogues" in out
    saved = read_json(tmp_path / "deep" / "report.json")
    assert saved["schema_version"] == 1 and saved["findings"][0]["level"] == "error"


def test_json_is_all_that_is_printed(dlgsum, tmp_path):
    write(tmp_path / "train.csv", [*rows(20), {"fname": "x", "dialogue": "", "summary": "", "topic": ""}])
    code, out, _ = dlgsum("data", "check", "train.csv", "--no-tokens", "--json")
    report = json.loads(out)
    assert code == 0 and report["splits"][0]["rows"] == 20
    assert report["splits"][0]["skipped"] == {
        "empty dialogue": {"count": 1, "share": 1 / 21, "examples": ["x (line 42)"]}
    }


def test_without_files_those_of_the_configuration_are_checked(dlgsum, tmp_path):
    code, out, _ = dlgsum("data", "check", "--no-tokens", "--json")
    assert code == 0
    assert [Path(part["source"]).parent for part in json.loads(out)["splits"]] == [SAMPLE_FOLDER] * 3
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train.csv", rows(3))
    write(tmp_path / "data" / "dev.csv", rows(2, "d", 5))
    _, out, _ = dlgsum("data", "check", "--no-tokens", "--json")
    assert [part["rows"] for part in json.loads(out)["splits"]] == [3, 2]


def test_files_named_do_not_need_those_of_the_configuration(dlgsum, tmp_path):
    write(tmp_path / "train.csv", [{"text" if k == "dialogue" else k: v for k, v in row.items()} for row in rows(3)])
    (tmp_path / "my.yaml").write_text("data: {source: csv, columns: {dialogue: text}}\n")
    code, out, err = dlgsum("data", "check", "train.csv", "--config", "my.yaml", "--no-tokens", "--json")
    assert code == 0, err
    assert json.loads(out)["splits"][0]["turns"]["p50"] == 2


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["check", "nothing.csv", "--no-tokens"], 3, "does not exist"),
        (["check", "train.csv", "./train.csv"], 2, "named twice"),
        (["check", "-o", "report.txt"], 2, "must end in .json"),
        (["check", "data.sourse=csv"], 2, "data.source"),
        (["check", "가" * 300 + ".csv", "--no-tokens"], 3, "does not exist"),
        (["split", "a" * 300 + ".csv"], 3, "does not exist"),
        (["split", "train.csv", "--val", "0"], 2, "more than 0 and less than 1"),
        (["split", "train.csv", "--val", "nan"], 2, "more than 0 and less than 1"),
        (["split", "train.csv", "--val", "0.6", "--test", "0.4"], 2, "nothing to train on"),
        (["split", "train.csv", "--val", "0.01"], 2, "of 20 different dialogues"),
        (["split", "train.csv", "-o", "."], 2, "is the file that is read"),
        (["split", "train.csv", "-o", ".", "--force"], 2, "is the file that is read"),
        (["split", "train.csv", "-o", "train.csv"], 2, "is a file"),
        (["split", "train.csv", "data.columns.dialogue=text"], 3, "no column 'text'"),
        (["split", "nothing.csv"], 3, "does not exist"),
        (["sample", "train.csv"], 2, "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_with_a_reason(dlgsum, tmp_path, arguments, code, words):
    write(tmp_path / "train.csv", rows(20))
    before = sorted(tmp_path.rglob("*")), (tmp_path / "train.csv").read_bytes()
    found, out, err = dlgsum("data", *arguments)
    assert (found, out) == (code, "") and words in err and "Traceback" not in err
    assert (sorted(tmp_path.rglob("*")), (tmp_path / "train.csv").read_bytes()) == before


def test_with_a_tokenizer_lengths_limits_and_unknown_characters_are_shown(dlgsum, tmp_path):
    long = "#Person1#: 안녕하세요.\n#Person2#: " + "네, 그렇습니다. " * 40
    write(tmp_path / "train.csv", [*rows(20), {**rows(1)[0], "fname": "long", "dialogue": long}])
    write(tmp_path / "dev.csv", [{**row, "summary": row["summary"] + "𪚥"} for row in rows(4, "d", 30)])
    code, out, err = dlgsum("data", "check", "train.csv", "dev.csv", MINI, "tokenizer.encoder_max_len=64", "--json")
    assert code == 0, err
    report = json.loads(out)
    train, validation = report["splits"]
    assert train["source_tokens"]["cut"]["count"] == 1 and train["source_tokens"]["limit"] == 64
    assert train["source_tokens"]["cut"]["examples"][0].startswith("long (")
    assert train["target_tokens"]["lengths"]["count"] == 21
    # The tokenizer is trained on train.csv, which has each of its own characters.
    assert train["unknown"] == [] and [found["character"] for found in validation["unknown"]] == ["𪚥"]
    assert [(found["kind"], found["split"]) for found in report["findings"] if found["level"] == "warning"] == [
        ("cut_source", "train"), ("unknown_character", "validation"),
    ]  # fmt: skip


def test_lengths_are_those_of_training_before_the_cut():
    from dlgsum.data.encode import encode_split
    from dlgsum.recipes.data_check import _lengths, _start
    from dlgsum.recipes.settle import settle

    settled = settle(Request([MINI, "data=sample", "tokenizer.encoder_max_len=64"]))
    part = load_file(SAMPLE_FOLDER / "dev.csv", Data(), name="train", need_summary=True)
    tokenizer = _start(settled.config, settled.model, part).tokenizer
    found = _lengths(tokenizer, part, None)
    encoded = encode_split(part, tokenizer, cache_dir=None)
    assert encoded.source_lengths.max() == 64 < found.source.max()
    assert found.source.tolist() == encoded.full_source_lengths.tolist()
    assert found.target.tolist() == encoded.full_target_lengths.tolist()


def test_an_unknown_character_is_found_after_normalisation_and_not_inside_a_tag():
    from dlgsum.config.schema.model import Tokenizer
    from dlgsum.models.encoding import SummaryTokenizer
    from dlgsum.models.mini import train_tokenizer
    from dlgsum.models.tokenizer import prepare_tokenizer

    prepared = prepare_tokenizer(train_tokenizer(["안녕"], vocab_size=500), tags=["#Person1#"], settings=Tokenizer())
    unknown = UnknownCharacters(SummaryTokenizer(prepared, Tokenizer()))
    assert unknown("#Person1#: 안녕 ㅋㅋ ﾊ①𪚥𪚥\n") == {"𪚥": 2, "ハ": 1}
    assert unknown("") == unknown("안녕") == unknown("안녕: ㅋㅋ") == {}
    assert unknown("안녕 𪚥") == {"𪚥": 1}
    # Known letters can join to a syllable that is not, which is found however it is typed.
    assert unknown("\u110a\u1163\u11b7") == unknown("썀") == {"썀": 1}


@pytest.mark.parametrize(
    "name, meant",
    [("train", "train"), ("real_train", "train"), ("DEV", "validation"), ("valid-2", "validation"), ("test_v1", "test"),
     ("latest", ""), ("대화", ""), ("data", ""),
     ("학습", "train"), ("대화_훈련용", "train"), ("한국어 학습자료", "train"), ("개발", "validation"),
     ("2_검증데이터", "validation"), ("평가", "test"), ("시험_1", "test"), ("테스트셋", "test"),
     ("학습자_대화", ""), ("개발자", ""), ("개발팀_train", "train"), ("dev_학습", "validation"),
     (unicodedata.normalize("NFD", "학습"), "train"), (unicodedata.normalize("NFD", "테스트"), "test")],
)  # fmt: skip
def test_a_file_name_tells_what_it_is_for(name, meant):
    assert role(Path("train") / f"{name}.csv") == meant


def test_an_override_too_long_for_a_file_name_is_an_override(dlgsum, tmp_path):
    write(tmp_path / "train.csv", rows(3))
    tags = "tokenizer.special_tokens=[" + ",".join(f"'#Tag{number}#'" for number in range(60)) + "]"
    code, out, err = dlgsum("data", "check", "train.csv", tags, "--no-tokens", "--json")
    assert code == 0, err
    assert json.loads(out)["splits"][0]["rows"] == 3


@pytest.mark.parametrize("compact", [False, True])
def test_the_tokenizer_is_named_and_a_training_file_makes_it_that_of_a_run(dlgsum, tmp_path, compact):
    train, dev = write(tmp_path / "real_train.csv", rows(20)), write(tmp_path / "real_dev.csv", rows(4, "d", 30))

    def shown(*files: Path) -> tuple[DataReport, str]:
        stream = io.StringIO()
        report = check_files(files, Request([MINI]))
        show_report(report, Console(file=stream, width=400), compact=compact)
        return report, stream.getvalue()

    report, text = shown(dev, train)
    note = report.tokenizer
    assert note is not None and note.size > 100
    assert note == TokenizerNote("kobart_mini", note.size, "train", str(train), 20)
    assert f"tokenizer: kobart_mini, {note.size:,} tokens, trained on 20 rows of train (real_train.csv)" in text
    assert "warning" not in text
    report, text = shown(dev)
    assert report.tokenizer is not None and report.tokenizer.trained_on == "validation"
    assert "trained on 4 rows of validation (real_dev.csv)" in text
    assert "warning: kobart_mini's tokenizer was trained on validation" in text and "name the training file" in text
    assert "Nothing odd was found" not in text
    assert report.splits[0].source_tokens != shown(train, dev)[0].splits[1].source_tokens, "which is why it is said"
    _, out, _ = dlgsum("data", "check", "real_dev.csv", MINI, "--json")
    assert json.loads(out)["tokenizer"]["trained_source"].endswith("real_dev.csv")
    _, out, _ = dlgsum("data", "check", "real_dev.csv", "--no-tokens", "--json")
    assert json.loads(out)["tokenizer"] is None


def test_a_tokenizer_that_stands_in_for_kobarts_is_warned_of():
    part = load_file(SAMPLE_FOLDER / "dev.csv", Data(), name="train", need_summary=True)
    start = SimpleNamespace(tokenizer=SimpleNamespace(hf=range(30)))

    def note(kind: str, checkpoint: str, reason: str) -> TokenizerNote:
        settled = SimpleNamespace(model=ModelChoice(kind, checkpoint, checkpoint, reason))
        return tokenizer_note(settled, start, part)

    assert note("mini", "kobart_mini", "as asked").caution == ""
    fallback = note("mini", "kobart_mini", "the hub was not reached").caution
    assert "the hub was not reached" in fallback and "not KoBART's" in fallback and "model=kobart" in fallback
    assert note("pretrained", "owner/name", "found in the local cache") == TokenizerNote("owner/name", 30)


def test_a_second_training_file_goes_by_its_own_name(tmp_path):
    files = [
        write(tmp_path / name, rows(3, name, 9 * place))
        for place, name in enumerate(("train.csv", "train_b.csv", "x.csv"))
    ]
    report = check_files(files, Request(["data=sample"]), tokens=False)
    assert [part.name for part in report.splits] == ["train", "train_b.csv", "x.csv"]


def test_colour_and_blocks_are_for_terminals(tmp_path):
    write(tmp_path / "train.csv", rows(30))
    write(tmp_path / "dev.csv", rows(30))
    report = check_files([tmp_path / "train.csv", tmp_path / "dev.csv"], Request([MINI]))
    shown = {}
    for terminal in (True, False):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
        colours = "standard" if terminal else None
        show_report(report, Console(file=stream, force_terminal=terminal, color_system=colours, width=120))
        stream.seek(0)
        shown[terminal] = stream.read()
    assert "\x1b[31merror" in shown[True] and "█" in shown[True]
    assert "\x1b[" not in shown[False] and "█" not in shown[False] and "####" in shown[False]


def test_the_compact_form_is_one_table_and_what_to_act_on(tmp_path):
    write(tmp_path / "train.csv", [*rows(30), {**rows(1)[0], "fname": "x", "summary": "다른 요약"}])
    stream = io.StringIO()
    show_report(check_files([tmp_path / "train.csv"], Request([MINI])), Console(file=stream, width=120), compact=True)
    text = stream.getvalue()
    assert text.count("┏") == 1 and "1 note: dlgsum data check" in text and "other summary" not in text


def divided(folder: Path, suffix: str = ".csv") -> dict[str, list[dict[str, str]]]:
    found = {}
    for path in sorted(folder.glob(f"*{suffix}")):
        with path.open(encoding="utf-8", newline="") as stream:
            found[path.stem] = list(csv.DictReader(stream, delimiter="\t" if suffix == ".tsv" else ","))
    return found


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_split_keeps_every_row_column_and_cell(dlgsum, tmp_path, suffix):
    odd = {"dialogue": '#Person1#: "가", 나\t다\r\n#Person2#:  네 ', "summary": "", "topic": " 은행 "}
    content = [
        {"": str(n), **row, "note": "=1+1"} for n, row in enumerate([*rows(40), {**rows(1)[0], **odd, "fname": "odd"}])
    ]
    source = write(tmp_path / f"all{suffix}", content)
    code, out, err = dlgsum("data", "split", source.name, "--val", "0.2", "--test", "0.1", "--seed", "3")
    assert code == 0, err
    parts = divided(tmp_path / "all_split", suffix)
    assert sorted(parts) == ["dev", "test", "train"]
    assert sorted((row for part in parts.values() for row in part), key=lambda row: int(row[""])) == content
    assert all([int(row[""]) for row in part] == sorted(int(row[""]) for row in part) for part in parts.values())
    assert [len(parts[name]) for name in ("train", "dev", "test")] == [29, 8, 4]
    assert "wanted" in out and f"data.train=all_split/train{suffix}" in out


def test_texts_that_a_spreadsheet_would_run_are_made_inert_and_read_back(dlgsum, tmp_path):
    content = rows(20)
    content[4] |= {"dialogue": "=SUM(A1)\n네", "summary": "-1도입니다", "fname": "-x"}
    content[5] |= {"summary": "'+82로 겁니다"}
    write(tmp_path / "all.csv", content)
    dlgsum("data", "split", "all.csv", "--val", "0.2", "-o", "out")
    written = {row["fname"]: row for part in divided(tmp_path / "out").values() for row in part}
    assert written["-x"]["dialogue"].startswith("'=") and written["-x"]["summary"].startswith("'-")
    assert written["r5"]["summary"] == "'+82로 겁니다"

    def texts(*files: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
        splits = [load_file(file, Data(), name="x", need_summary=True) for file in files]
        return {row.id: (row.dialogue, row.references) for split in splits for row in split.rows}

    assert texts(tmp_path / "out" / "train.csv", tmp_path / "out" / "dev.csv") == texts(tmp_path / "all.csv")


NAMES = {"dialogue": "본문", "summary": "정답"}


def cp949_with_own_columns(path: Path) -> Path:
    content = [{NAMES.get(key, key): value for key, value in row.items()} for row in rows(20)]
    path.write_bytes(write(path, content).read_text(encoding="utf-8").encode("cp949"))
    return path


@pytest.mark.parametrize(
    "how",
    [
        [
            "data.columns.dialogue=본문",
            "data.columns.summary=정답",
            "data.encoding=cp949",
            "training.num_train_epochs=7",
        ],
        ["--config", "my settings.yaml"],
        ["--config-dir", "own conf", "data=mine"],
    ],
    ids=lambda how: how[0],
)
def test_the_next_command_reads_the_parts_as_the_file_was_read(dlgsum, tmp_path, how):
    cp949_with_own_columns(tmp_path / "all.csv")
    settings = "columns: {dialogue: 본문, summary: 정답}\nencoding: cp949\n"
    (tmp_path / "my settings.yaml").write_text("data:\n  " + settings.replace("\n", "\n  "), encoding="utf-8")
    (tmp_path / "own conf" / "data").mkdir(parents=True)
    (tmp_path / "own conf" / "data" / "mine.yaml").write_text(settings, encoding="utf-8")
    code, out, err = dlgsum("data", "split", "all.csv", *how, "-o", "my parts")
    assert code == 0, err
    words = shlex.split(next(line for line in out.splitlines() if line.startswith("next")))
    assert words[:3] == ["next", "dlgsum", "train"] and "training.num_train_epochs=7" not in words
    assert "data.encoding=cp949" not in words
    code, out, err = dlgsum("data", "check", *words[3:], "--no-tokens", "--json")
    assert code == 0, err
    assert [(part["name"], part["rows"], part["skipped"]) for part in json.loads(out)["splits"]] == [
        ("train", 18, {}), ("validation", 2, {}),
    ]  # fmt: skip


@pytest.mark.parametrize("command", [["split", "all.csv", "-o", "out"], ["sample", "out"]], ids=lambda words: words[0])
@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_get_the_permissions_that_the_umask_gives(dlgsum, tmp_path, command, mask, mode):
    write(tmp_path / "all.csv", rows(20))
    before = os.umask(mask)
    try:
        assert dlgsum("data", *command)[0] == 0
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {mode}


def test_rows_of_another_width_are_copied_and_counted(dlgsum, tmp_path):
    text = write(tmp_path / "all.csv", rows(20)).read_text(encoding="utf-8")
    (tmp_path / "all.csv").write_text(text + "a,b\n" * 6 + "a,d,s,t,,\na,d,s,t,more\n", encoding="utf-8")
    code, out, err = dlgsum("data", "split", "all.csv", "-o", "out")
    assert code == 0 and "7 rows of all.csv with another number of fields" in err
    assert "(lines 42, 43, 44, 45, 46 …)" in err and "training leaves such rows out" in err
    parts = [(tmp_path / "out" / f"{name}.csv").read_text(encoding="utf-8") for name in ("train", "dev")]
    assert sum(part.count("a,b\n") for part in parts) == 6
    code, out, err = dlgsum("data", "split", "all.csv", "-o", "again", "--json")
    assert (json.loads(out)["misfits"], json.loads(out)["misfit_lines"]) == (7, [42, 43, 44, 45, 46])
    write(tmp_path / "all.csv", rows(20))
    assert "fields" not in dlgsum("data", "split", "all.csv", "-o", "third")[2]


def test_json_lines_are_copied_as_they_are(dlgsum, tmp_path):
    lines = [
        json.dumps({**row, "n": 1.50, "x": [1, None]}, ensure_ascii=number % 2 == 0)
        for number, row in enumerate(rows(20))
    ]
    (tmp_path / "all.jsonl").write_text("\n\n".join(lines), encoding="utf-8")
    code, _, err = dlgsum("data", "split", "all.jsonl", "-o", "out")
    assert code == 0, err
    written = [
        (tmp_path / "out" / name).read_text(encoding="utf-8").splitlines() for name in ("train.jsonl", "dev.jsonl")
    ]
    assert [len(part) for part in written] == [18, 2] and sorted(written[0] + written[1]) == sorted(lines)


def test_parquet_keeps_its_schema(dlgsum, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({**pa.Table.from_pylist(rows(30)).to_pydict(), "n": pa.array(range(30), pa.int16())})
    pq.write_table(table, tmp_path / "all.parquet")
    code, _, err = dlgsum("data", "split", "all.parquet", "-o", "out")
    assert code == 0, err
    parts = [pq.read_table(tmp_path / "out" / f"{name}.parquet") for name in ("train", "dev")]
    assert [part.num_rows for part in parts] == [27, 3] and parts[0].schema == table.schema
    assert pa.concat_tables(parts).sort_by("n").equals(table)


def test_the_same_dialogue_stays_together_as_training_sees_it(dlgsum, tmp_path):
    content = rows(20)
    for number, row in enumerate(list(content)):
        noisy = row["dialogue"].replace("\n", "<br>").replace("#Person1#", "Person1")
        content.append({**row, "fname": f"copy{number}", "dialogue": noisy})
    write(tmp_path / "all.csv", content)
    code, out, _ = dlgsum("data", "split", "all.csv", "--val", "0.3", "-o", "out", "--json")
    parts = json.loads(out)["parts"]
    assert (
        code == 0 and [part["rows"] for part in parts] == [28, 12] and [part["dialogues"] for part in parts] == [14, 6]
    )
    report = check_files([tmp_path / "out" / "train.csv", tmp_path / "out" / "dev.csv"], Request(), tokens=False)
    assert report.leaks == [] and report.splits[1].counts["duplicate"].count == 6


def test_rows_without_a_dialogue_are_divided_too(dlgsum, tmp_path):
    write(tmp_path / "all.csv", [{**row, "dialogue": " "} for row in rows(20)])
    code, out, _ = dlgsum("data", "split", "all.csv", "-o", "out", "--json")
    assert code == 0 and [part["rows"] for part in json.loads(out)["parts"]] == [18, 2]


def test_the_same_seed_gives_the_same_files_and_nothing_is_overwritten_unasked(dlgsum, tmp_path):
    write(tmp_path / "all.csv", rows(60))
    for name in ("a", "b"):
        dlgsum("data", "split", "all.csv", "-o", name)
    dlgsum("data", "split", "all.csv", "-o", "c", "--seed", "1")
    read = {name: (tmp_path / name / "dev.csv").read_bytes() for name in "abc"}
    assert read["a"] == read["b"] != read["c"]
    code, _, err = dlgsum("data", "split", "all.csv", "-o", "a", "--seed", "1")
    assert code == 2 and "a has train.csv, dev.csv already" in err
    assert (tmp_path / "a" / "dev.csv").read_bytes() == read["a"]
    code, _, _ = dlgsum("data", "split", "all.csv", "-o", "a", "--seed", "1", "--force")
    assert code == 0 and (tmp_path / "a" / "dev.csv").read_bytes() == read["c"]


def test_a_split_that_fails_leaves_nothing(dlgsum, tmp_path, monkeypatch):
    write(tmp_path / "all.csv", rows(40))

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dlgsum.data.raw_files._Fields.writer", full)
    code, _, err = dlgsum("data", "split", "all.csv", "-o", "out")
    assert code == 4 and "No space left" in err
    assert list((tmp_path / "out").iterdir()) == []


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6), st.sampled_from([".csv", ".tsv"]))
def test_whatever_a_cell_holds_is_written_so_that_it_reads_back(tmp_path_factory, content, suffix):
    folder = tmp_path_factory.mktemp("cells")
    source = write(
        folder / f"a{suffix}", [{"fname": a, "dialogue": b, "note": c} for a, b, c in [*content, ("x", "y", "z")]]
    )
    first = raw_file(source, "utf-8", ["dialogue"])
    before = list(first.rows())
    with first.writer(folder / f"b{suffix}") as put:
        for _, row in before:
            put(row)
    assert [named for named, _ in raw_file(folder / f"b{suffix}", "utf-8", ["dialogue"]).rows()] == [
        n for n, _ in before
    ]


def test_the_sample_is_written_and_says_what_comes_next(dlgsum, tmp_path):
    code, out, _ = dlgsum("data", "sample")
    assert code == 0 and out.rstrip().endswith("next   dlgsum train")
    for name in ("train", "dev", "test"):
        assert (tmp_path / "data" / f"{name}.csv").read_bytes() == (SAMPLE_FOLDER / f"{name}.csv").read_bytes()
    code, _, err = dlgsum("data", "sample")
    assert code == 2 and "--force" in err
    assert dlgsum("data", "sample", "--force")[0] == 0
    code, out, _ = dlgsum("data", "sample", "my files")
    assert "'data.train=my files/train.csv'" in out
    assert json.loads(dlgsum("data", "sample", "third", "--json")[1])["files"][0] == "third/train.csv"


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["data", "--help"], 0, "split"),
        (["data", "check", "--help"], 0, "dlgsum data check train.csv dev.csv"),
        (["data", "split", "--help"], 0, "--seed"),
        (["data", "sample", "--help"], 0, "DIR"),
        (["data", "split"], 2, "Missing argument"),
        (["data", "split", "nothing.csv", "--val", "2"], 2, "less than 1"),
        (["data", "check", "--no-tokens"], 0, "Nothing odd was found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_heavy_is_imported_without_need(tmp_path, arguments, code, words):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code and words in done.stdout + done.stderr
    # Only reading rows takes Arrow, and Arrow takes pandas where it is installed.
    allowed = ("HEAVY=", "HEAVY=pandas") if "--no-tokens" in arguments else ("HEAVY=",)
    assert done.stderr.endswith(allowed)
