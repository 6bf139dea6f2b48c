"""Reading users' files: every way they come, and what is said when they cannot be used."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlgsum.config.schema.data import Columns, Data
from dlgsum.core.errors import ConfigError, DataError
from dlgsum.data.sources import SAMPLE_FOLDER, load_file, load_splits, resolve_files

HEADER = ["fname", "dialogue", "summary", "topic"]
GOOD = ["t_0", "#Person1#: 안녕하세요.\n#Person2#: 네, 반갑습니다.", "두 사람이 인사한다.", "인사"]


def write_csv(path: Path, *rows: list[str], header: list[str] = HEADER, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerows([header, *rows])
    return path


def train(path: Path, **settings: object):
    return load_file(path, Data(**settings), name="train", need_summary=True)


def predict(path: Path, **settings: object):
    return load_file(path, Data(**settings), name="test", need_summary=False)


def problem(path: Path, *, need_summary: bool | None = True, **settings: object) -> str:
    with pytest.raises(DataError) as caught:
        load_file(path, Data(**settings), name="x", need_summary=need_summary)
    assert caught.value.exit_code == 3
    assert caught.value.hint, "every message says what to do next"
    return str(caught.value)


class TestResolve:
    def test_bundled_where_nothing_else_is(self, tmp_path):
        files = resolve_files(Data(), folder=tmp_path)
        assert files.bundled and files.train == SAMPLE_FOLDER / "train.csv"
        assert files.test == SAMPLE_FOLDER / "test.csv"
        assert "no train.csv" in files.reason and "bundled" in files.reason

    def test_own_folder(self, tmp_path):
        for name in ("train", "dev"):
            write_csv(tmp_path / "data" / f"{name}.csv", GOOD)
        files = resolve_files(Data(), folder=tmp_path)
        assert (files.train, files.test, files.bundled) == (tmp_path / "data" / "train.csv", None, False)
        write_csv(tmp_path / "data" / "test.csv", GOOD)
        assert resolve_files(Data(), folder=tmp_path).test == tmp_path / "data" / "test.csv"
        assert resolve_files(Data(test="t.csv"), folder=tmp_path).test == tmp_path / "t.csv"
        assert resolve_files(Data(source="sample"), folder=tmp_path).bundled

    def test_half_a_folder_is_said(self, tmp_path):
        write_csv(tmp_path / "data" / "train.csv", GOOD)
        files = resolve_files(Data(), folder=tmp_path)
        assert files.bundled and "train.csv only" in files.reason

    @pytest.mark.parametrize("source", ["auto", "csv"])
    def test_settings_come_first(self, tmp_path, source):
        write_csv(tmp_path / "data" / "train.csv", GOOD)
        write_csv(tmp_path / "data" / "dev.csv", GOOD)
        data = Data(source=source, train="대화.csv", validation="/v.jsonl", test="t.tsv")
        files = resolve_files(data, folder=tmp_path)
        assert files.train == tmp_path / "대화.csv" and files.validation == Path("/v.jsonl")
        assert files.test == tmp_path / "t.tsv" and not files.bundled
        assert "data.train" in files.reason

    def test_sample_says_what_it_ignores(self, tmp_path):
        files = resolve_files(Data(source="sample", train="x.csv"), folder=tmp_path)
        assert files.bundled and "data.train is not used" in files.reason

    def test_a_test_file_alone_joins_the_bundled_ones(self, tmp_path):
        files = resolve_files(Data(test="mine.csv"), folder=tmp_path)
        assert files.bundled and files.test == tmp_path / "mine.csv"

    def test_missing_partners(self, tmp_path):
        with pytest.raises(ConfigError, match=r"data\.validation is not(.|\n)*Set data\.validation=FILE"):
            resolve_files(Data(train="a.csv"), folder=tmp_path)
        with pytest.raises(ConfigError, match=r"data\.train is not(.|\n)*Set data\.train=FILE"):
            resolve_files(Data(validation="a.csv"), folder=tmp_path)
        with pytest.raises(ConfigError) as caught:
            resolve_files(Data(source="csv"), folder=tmp_path)
        assert len(caught.value.problems) == 2
        assert "data.train=FILE data.validation=FILE" in caught.value.hint
        with pytest.raises(ConfigError) as caught:
            resolve_files(Data(source="csv", train="a.csv"), folder=tmp_path)
        assert len(caught.value.problems) == 1 and "data.validation" in str(caught.value)

    def test_a_data_set(self, tmp_path):
        files = resolve_files(Data(source="hub", dataset="owner/name", test="t.csv"), folder=tmp_path)
        assert (files.train, files.validation, files.test) == (None, None, tmp_path / "t.csv")
        assert "data.dataset=owner/name" in files.reason and "data.test replaces its test split" in files.reason
        assert files.sources["train"].describe() == "owner/name, split train"
        assert resolve_files(Data(dataset="owner/name"), folder=tmp_path).train is None, "auto takes it, too"
        with pytest.raises(ConfigError, match=r"data\.dataset, which is not set"):
            resolve_files(Data(source="hub"), folder=tmp_path)
        both = resolve_files(Data(dataset="a/b", train="t.csv", validation="v.csv"), folder=tmp_path)
        assert both.train == tmp_path / "t.csv" and "data.dataset is not used" in both.reason


class TestSettled:
    """What a saved configuration names must lead to the same rows from any folder."""

    def test_own_files(self, tmp_path):
        data = Data(train="t.csv", validation="v.csv")
        settled = resolve_files(data, folder=tmp_path).settled(data)
        assert (settled.source, settled.train, settled.test) == ("csv", str(tmp_path / "t.csv"), None)
        assert resolve_files(settled, folder=Path("/")).train == tmp_path / "t.csv"

    def test_bundled(self, tmp_path):
        assert resolve_files(Data(), folder=tmp_path).settled(Data()).source == "sample"
        data = Data(test="mine.csv")
        settled = resolve_files(data, folder=tmp_path).settled(data)
        assert settled.source == "csv" and settled.train == str(SAMPLE_FOLDER / "train.csv")
        assert settled.test == str(tmp_path / "mine.csv")

    def test_a_data_set(self, tmp_path):
        (tmp_path / "set").mkdir()
        data = Data(dataset="set", dataset_config="c", validation="v.csv")
        settled = resolve_files(data, folder=tmp_path).settled(data)
        assert (settled.source, settled.dataset, settled.dataset_config) == ("hub", str(tmp_path / "set"), "c")
        assert (settled.train, settled.validation) == (None, str(tmp_path / "v.csv"))

    def test_replaced(self, tmp_path):
        files = resolve_files(Data(), folder=tmp_path)
        assert files.replaced(Data(), {}).source == "sample"
        new = files.replaced(Data(), {"train": "t.csv"})
        assert (new.source, new.train, new.test) == ("csv", "t.csv", None), "not judged on the bundled test rows"
        assert new.validation == str(SAMPLE_FOLDER / "dev.csv")
        assert files.replaced(Data(), {"train": "t.csv", "test": "e.csv"}).test == "e.csv"
        data = Data(source="hub", dataset="a/b")
        new = resolve_files(data, folder=tmp_path).replaced(data, {"train": "t.csv"})
        assert (new.source, new.dataset, new.train, new.test) == ("hub", "a/b", "t.csv", None)

    def test_check_opens_nothing(self, tmp_path):
        data = Data(train="t.csv", validation="v.csv")
        (tmp_path / "t.csv").write_bytes(b"\xff\0")
        with pytest.raises(DataError, match=r"v\.csv does not exist"):
            resolve_files(data, folder=tmp_path).check()


class TestFormats:
    def test_csv(self, tmp_path):
        split = train(write_csv(tmp_path / "a.csv", GOOD))
        (row,) = split.rows
        assert (row.id, row.dialogue, row.references, row.topic) == (GOOD[0], GOOD[1], (GOOD[2],), "인사")
        assert split.has_summaries and len(split) == 1 and not split.skipped
        assert split.cleaning == {"nfc": 0, "newlines": 0, "tags": 0, "blanks": 0}

    def test_tsv_and_jsonl_say_the_same(self, tmp_path):
        expected = train(write_csv(tmp_path / "a.csv", GOOD))
        lines = json.dumps(dict(zip(HEADER, GOOD, strict=True)), ensure_ascii=False)
        (tmp_path / "a.jsonl").write_text(f"\n{lines}\r\n\n", encoding="utf-8")
        for path in (write_csv(tmp_path / "a.TSV", GOOD), tmp_path / "a.jsonl"):
            if path.suffix == ".TSV":
                path.write_text(write_csv(tmp_path / "b.tsv", GOOD).read_text())
            split = train(path)
            assert split.rows == expected.rows and split.fingerprint == expected.fingerprint

    def test_byte_order_mark_index_column_and_header_blanks(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["0", *GOOD], header=["", " fname", *HEADER[1:]], encoding="utf-8-sig")
        assert train(path).rows[0].id == "t_0"
        path = write_csv(tmp_path / "b.csv", GOOD, encoding="utf-8-sig")
        assert train(path).rows[0].id == train(path, encoding="utf-8-sig").rows[0].id == "t_0"

    @pytest.mark.parametrize("encoding", ["cp949", "utf-16", "utf-16-le"])
    def test_other_encodings(self, tmp_path, encoding):
        path = write_csv(tmp_path / "a.csv", GOOD, encoding=encoding)
        assert train(path, encoding=encoding).rows[0].dialogue == GOOD[1]

    def test_a_line_separator_inside_json_text(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text('{"fname": "1", "dialogue": "a\u2028b", "summary": "s"}\n', encoding="utf-8")
        assert train(path).rows[0].dialogue == "a\nb"

    def test_a_long_field(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["a", "말" * 200_000, "s", ""])
        assert len(train(path).rows[0].dialogue) == 200_000

    def test_parquet(self, tmp_path):
        rows = [dict(zip(HEADER, GOOD, strict=True)), {**dict.fromkeys(HEADER, "x"), "summary": None}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        split = train(tmp_path / "a.parquet")
        assert split.rows == train(write_csv(tmp_path / "a.csv", GOOD)).rows
        assert [(row.line, row.reason) for row in split.skipped] == [(2, "no summary")]

    def test_parquet_values_that_are_no_text(self, tmp_path):
        rows = {"fname": [1, 2, 3], "dialogue": ["d"] * 3, "summary": [["a", "b"], [], ["c"]], "topic": [b"\xff"] * 3}
        pq.write_table(pa.table(rows), tmp_path / "a.parquet", row_group_size=1)
        split = train(tmp_path / "a.parquet")
        assert [(row.id, row.references, row.topic) for row in split.rows] == [("1", ("a", "b"), ""), ("3", ("c",), "")]

    def test_broken_parquet(self, tmp_path):
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"fname": ["1"], "dialogue": ["d" * 999], "summary": ["s"]}), path)
        content = path.read_bytes()
        path.write_bytes(content[:-30])
        assert "cannot be read as Parquet" in problem(path)
        path.write_bytes(content[:4] + b"\xff" * 60 + content[64:])
        assert "cannot be read as Parquet" in problem(path)
        pq.write_table(pa.table({"fname": pa.array([], pa.string())}), path)
        assert "a header and no row" in problem(path)

    def test_own_column_names(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["1", "대화", "요약"], header=["번호", "본문", "정답"])
        columns = Columns(id="번호", dialogue="본문", summary="정답")
        assert train(path, columns=columns).rows[0].references == ("요약",)
        assert train(path, columns=columns).rows[0].topic == ""

    def test_several_references(self, tmp_path):
        header = ["fname", "dialogue", "summary", "summary2", "summary3"]
        path = write_csv(tmp_path / "a.csv", ["1", "d", "a", "", "c"], header=header)
        assert train(path).rows[0].references == ("a", "c")
        path = tmp_path / "a.jsonl"
        path.write_text('{"fname": 7, "dialogue": "d", "summary": ["a", null, "b"], "topic": ["x"]}\n')
        assert train(path).rows[0].references == ("a", "b")
        assert train(path).rows[0].id == "7"
        assert train(path).rows[0].topic == ""

    def test_samsum_and_dialogsum_columns_are_known(self, tmp_path):
        samsum = train(write_csv(tmp_path / "a.csv", ["1", "d", "s"], header=["id", "dialogue", "summary"]))
        assert samsum.rows[0].id == "1" and samsum.notes == ("'id' is read as the column 'fname'",)
        assert samsum.describe()["notes"] == list(samsum.notes)
        header = ["fname", "dialogue", "summary1", "topic1", "summary2", "topic2", "summary3", "topic3"]
        path = write_csv(tmp_path / "b.csv", ["t", "d", "a", "x", "b", "y", "c", "z"], header=header)
        (row,) = train(path).rows
        assert row.references == ("a", "b", "c") and row.topic == "x"
        assert train(path).notes == (
            "'summary1' is read as the column 'summary'",
            "'topic1' is read as the column 'topic'",
        )
        assert predict(path).notes == ("'topic1' is read as the column 'topic'",)

    def test_configured_columns_are_never_replaced(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["1", "d", "s"], header=["id", "dialogue", "summary"])
        assert "no column 'fname'" in problem(path, columns=Columns(topic="subject"))
        both = write_csv(tmp_path / "b.csv", ["x", "y", "d", "s"], header=["id", "fname", "dialogue", "summary"])
        assert train(both).rows[0].id == "y" and train(both).notes == ()

    def test_a_cell_made_inert_is_read_as_it_was(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["'-1", "'=A1", "''-", "t"], ["'a", "'a", "'", "t"])
        assert [(row.id, row.dialogue, *row.references) for row in train(path).rows] == [
            ("'-1", "=A1", "'-"),  # identifiers are never changed
            ("'a", "'a", "'"),
        ]
        jsonl = tmp_path / "a.jsonl"
        jsonl.write_text('{"fname": "1", "dialogue": "\'=A1", "summary": "s"}')
        assert train(jsonl).rows[0].dialogue == "'=A1"

    def test_a_column_that_only_later_lines_have(self, tmp_path):
        path = tmp_path / "a.jsonl"
        lines = ['{"fname": "1"}'] * 3000 + ['{"fname": "2", "dialogue": "d", "summary": "s"}']
        path.write_text("\n".join(lines))
        assert [row.id for row in train(path).rows] == ["2"]

    def test_cleaning_is_applied_and_counted(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["1", r"Person1: a\nPerson2: b ", "Person1  c", ""], GOOD)
        split = train(path)
        assert split.rows[0].dialogue == "#Person1#: a\n#Person2#: b"
        assert split.rows[0].references == ("#Person1# c",)
        assert split.cleaning == {"nfc": 0, "newlines": 1, "tags": 2, "blanks": 2}
        assert train(path, cleaning=[]).rows[0].dialogue == r"Person1: a\nPerson2: b "
        assert train(path, cleaning=[]).fingerprint != split.fingerprint

    def test_identifiers_are_never_changed(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", [" dev_475 ", "d", "s", ""], ["dev_477", "d", "s", ""])
        assert [row.id for row in train(path).rows] == [" dev_475 ", "dev_477"]

    def test_limit(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", *[[str(i), "" if i == 1 else "d", "s", ""] for i in range(9)])
        split = load_file(path, Data(), name="x", need_summary=True, limit=3)
        assert [row.id for row in split.rows] == ["0", "2", "3"]
        assert [row.line for row in split.skipped] == [3]


class TestTrainingRows:
    def test_unusable_rows_are_passed_over_with_line_and_reason(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text(
            "fname,dialogue,summary,topic\n"
            '1,"a\nb",s,\n'
            "\n"
            "2,  ,s,\n"
            "3,d, ,\n"
            "4,d,s\n"
            "5,d,s,t,more\n"
            " ,d,s,\n"
            "6,d,s,t,\n"
            "1,d,s,\n",
            encoding="utf-8",
        )
        split = train(path)
        assert [row.id for row in split.rows] == ["1", "6", "1"]
        assert [(row.line, row.id, row.reason, row.kept) for row in split.skipped] == [
            (5, "2", "empty dialogue", False),
            (6, "3", "no summary", False),
            (7, "4", "3 fields where the header has 4", False),
            (8, "5", "5 fields where the header has 4", False),
            (9, " ", "no id", False),
            (11, "1", "the id is also on line 2", True),
        ]
        record = split.describe()
        assert json.loads(json.dumps(record)) == record
        assert record["rows"] == 3 and len(record["skipped"]) == 6
        assert record["fingerprint"] == split.fingerprint and record["source"] == str(path)

    def test_json_values_that_are_no_text(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text(
            '{"fname": "1", "dialogue": ["a"], "summary": "s"}\n'
            '{"fname": "2", "dialogue": "a", "summary": {"x": 1}}\n'
            '{"fname": "3", "dialogue": "a", "summary": NaN}\n'
            '{"fname": "4", "dialogue": "a\\u0000", "summary": "s"}\n'
            '{"fname": "\\ud800", "dialogue": "a", "summary": "s"}\n'
            '{"fname": "6", "summary": "s"}\n'
            '{"fname": "7", "dialogue": "a", "summary": "s", "topic": "\\ud800"}\n'
        )
        split = train(path)
        assert [row.id for row in split.rows] == ["7"] and split.rows[0].topic == ""
        assert [row.reason for row in split.skipped] == [
            "the dialogue is a JSON list, not text",
            "the summary is a JSON dict, not text",
            "no summary",
            "the dialogue has a broken character",
            "the id has a broken character",
            "empty dialogue",
        ]
        json.dumps(split.describe(), ensure_ascii=False).encode()

    def test_no_usable_row(self, tmp_path):
        text = problem(write_csv(tmp_path / "a.csv", ["1", "", "s", ""], ["2", "", "s", ""], ["3", "d", "", ""]))
        assert "no usable row" in text and "2 × empty dialogue" in text and "1 × no summary" in text


class TestPredictionRows:
    def test_every_row_stays_in_order(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["b", "d", ""], ["a", "", ""], ["b", "e", ""], header=HEADER[:3])
        split = predict(path)
        assert [row.id for row in split.rows] == ["b", "a", "b"]
        assert [row.dialogue for row in split.rows] == ["d", "", "e"]
        assert [(row.id, row.reason, row.kept) for row in split.skipped] == [
            ("a", "empty dialogue: predicted as empty text", True),
            ("b", "the id is also on line 2", True),
        ]

    def test_blanks_are_an_empty_dialogue_whatever_the_steps(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["a", " \n ", "s", ""], GOOD)
        assert predict(path, cleaning=[]).rows[0].dialogue == ""

    def test_summaries_are_not_needed_and_not_used(self, tmp_path):
        bare = write_csv(tmp_path / "a.csv", ["a", "d"], header=["fname", "dialogue"])
        full = write_csv(tmp_path / "b.csv", ["a", "d", "s", "t"])
        assert predict(bare).fingerprint == predict(full).fingerprint
        assert not predict(full).has_summaries and predict(full).rows[0].references == ()

    def test_untrustworthy_rows_are_an_error(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text("fname,dialogue\n" + "x\n" * 7 + "y,d,e\n,d\n")
        text = problem(path, need_summary=False)
        assert "9 rows that cannot be predicted" in text and "line 2 (x): 1 field where" in text
        assert "and 4 more" in text and "correct each of them" in text
        assert "line 10" not in text

    def test_one_row_is_spoken_of_as_one(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", GOOD, ["", "d", "s", "t"])
        assert "has 1 row that cannot be predicted" in problem(path, need_summary=False)
        assert "Of 1 row: 1 × no id" in problem(write_csv(tmp_path / "b.csv", ["", "d", "s", "t"]))

    def test_optional_summaries(self, tmp_path):
        def load(path: Path):
            return load_file(path, Data(), name="test", need_summary=None)

        assert load(write_csv(tmp_path / "a.csv", GOOD)).has_summaries
        bare = load(write_csv(tmp_path / "b.csv", ["1", "d"], header=["fname", "dialogue"]))
        assert not bare.has_summaries and not bare.skipped
        mixed = load(write_csv(tmp_path / "c.csv", GOOD, ["1", "d", "", ""]))
        assert len(mixed) == 2 and not mixed.has_summaries and mixed.rows[1].references == ()
        assert [(row.line, row.kept) for row in mixed.skipped] == [(4, True)]
        assert "not scored" in mixed.skipped[0].reason


class TestErrors:
    def test_no_such_file(self, tmp_path):
        write_csv(tmp_path / "train.csv", GOOD)
        text = problem(tmp_path / "trian.csv")
        assert "does not exist" in text and f"Did you mean {tmp_path / 'train.csv'}?" in text
        assert "holds: train.csv" in problem(tmp_path / "zzz.jsonl")
        assert "folder" in problem(tmp_path / "no" / "a.csv")
        (tmp_path / "empty").mkdir()
        assert "no data file" in problem(tmp_path / "empty" / "a.csv")

    def test_hangul_name_in_another_unicode_form(self, tmp_path):
        write_csv(tmp_path / "\u1103\u1162\u1112\u116a.csv", GOOD)
        assert "Did you mean" in problem(tmp_path / "대화.csv")

    def test_a_folder(self, tmp_path):
        assert "It holds no such file" in problem(tmp_path)
        write_csv(tmp_path / "a.csv", GOOD)
        text = problem(tmp_path)
        assert "is a folder" in text and ".csv" in text and "a.csv" in text

    def test_nothing_in_it(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_bytes(b"")
        assert "empty (0 bytes)" in problem(path)
        path.write_bytes(b"\n \n")
        assert "only blank lines" in problem(path)
        assert "a header and no row" in problem(write_csv(path))
        assert "a header and no row" in problem(write_csv(path), need_summary=False)

    def test_unreadable(self, tmp_path, monkeypatch):
        def refuse(self, *_, **__):
            raise PermissionError(13, "Permission denied")

        path = write_csv(tmp_path / "a.csv", GOOD)
        monkeypatch.setattr(Path, "open", refuse)
        assert "cannot be read: Permission denied" in problem(path)

    @pytest.mark.parametrize("suffix", [".zip", ".tar", ".gz", ".tgz", ".xz"])
    def test_packed_files_are_not_unpacked(self, tmp_path, suffix):
        path = tmp_path / f"a.csv{suffix}"
        path.write_bytes(b"x")
        assert "Unpack it first" in problem(path)
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        "suffix, hint", [(".json", ".jsonl"), (".xlsx", "CSV"), (".doc", "Convert"), (".pkl", "run code")]
    )
    def test_suffix(self, tmp_path, suffix, hint):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"x")
        text = problem(path)
        assert suffix in text and ".csv, .tsv, .jsonl" in text and hint in text

    def test_missing_columns(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["1", "d", "s"], header=["fname", "Dialog", "abstract"])
        text = problem(path)
        assert "no column 'dialogue' and 'summary'" in text and "fname, Dialog, abstract" in text
        assert "data.columns.dialogue=Dialog" in text and "data.columns.summary=NAME" in text
        text = problem(path, need_summary=False)
        assert "'dialogue'" in text and "summary'" not in text
        assert "none with a name" in problem(write_csv(path, ["1"], header=["", ""]))

    def test_missing_id_column(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["1", "d", "s"], header=["name", "dialogue", "summary"])
        assert "data.columns.id=name" in problem(path)

    def test_another_separator(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text("fname;dialogue;summary\n1;d;s\n")
        text = problem(path)
        assert "separated by ';'" in text and "tabs in .tsv" in text

    def test_a_column_twice(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["1", "d", "s", "s"], header=[*HEADER[:3], "summary"])
        text = problem(path)
        assert "more than once: summary" in text and "Rename" in text

    def test_wrong_encoding(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", GOOD, encoding="cp949")
        text = problem(path, encoding="utf-8")
        assert "is not utf-8" in text and "line 2" in text and "byte " in text
        assert "data.encoding=cp949" in text
        assert "data.encoding=utf-16" in problem(write_csv(path, GOOD, encoding="utf-16"), encoding="utf-8")
        path.write_bytes("fname,dialogue,summary\n1,뷁힣,s\n".encode())
        assert "data.encoding=utf-8" in problem(path, encoding="ascii")
        path.write_bytes(b"fname\n\xff\xff\xff")
        assert "data.encoding=NAME" in problem(path, encoding="utf-8")

    def test_unknown_encoding(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", GOOD)
        text = problem(path, encoding="cp94")
        assert "'cp94'" in text and "utf-8, cp949" in text and "data.encoding=cp949" in text
        assert "data.encoding=utf-8" in problem(path, encoding="rot13")
        assert "data.encoding=utf-8" in problem(path, encoding="a\0b")

    def test_null_bytes(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ["1", "d", "s", ""], encoding="utf-16-le")
        assert "data.encoding=utf-16-le" in problem(path, encoding="utf-8")
        path = write_csv(tmp_path / "b.csv", ["1", "d", "s", ""], encoding="utf-16-be")
        assert "data.encoding=utf-16-be" in problem(path, encoding="utf-8")
        path.write_bytes(b"fname,dialogue,summary\n1,d\0,s\n")
        for encoding in ("utf-8", "auto"):
            text = problem(path, encoding=encoding)
            assert "NUL byte on line 2" in text and "damaged" in text

    def test_broken_quoting(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text('fname,dialogue,summary\n1,d,s\n2,"never closed,s\n3,d,s\n')
        text = problem(path)
        assert "broken quoting" in text and "line 3" in text and "double each quote" in text
        path.write_text('fname,dialogue,summary\n1,"d"x,s\n')
        assert "line 2" in problem(path)

    def test_broken_json(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text('{"fname": 1}\n{"fname": \n')
        text = problem(path)
        assert "no valid JSON on line 2" in text and "one object" in text
        path.write_text("[1]\n")
        assert "a JSON list on line 1; an object is wanted" in problem(path)
        path.write_text("[" * 200_000 + "\n")
        assert "line 1" in problem(path)

    def test_several_broken_lines_of_json_are_named_at_once(self, tmp_path):
        path = tmp_path / "a.jsonl"
        good = '{"fname": "1", "dialogue": "d", "summary": "s"}\n'
        path.write_text(good + '{"fname": \n' + good + "[1]\n" + "oops\n" * 5)
        text = problem(path)
        assert "7 lines that are not JSON objects" in text and "no valid JSON on line 2" in text
        assert "a JSON list on line 4" in text and "line 7" in text and "line 8" not in text and "and 2 more" in text
        path.write_text('{"fname": \n' + good + "[1]\n")
        text = problem(path)
        assert "2 lines" in text and "line 1" in text and "line 3" in text and "more" not in text

    def test_json_lines_under_another_name_are_to_be_renamed(self, tmp_path):
        path = tmp_path / "my.json"
        path.write_text('\n{"fname": "1"}\n\n{"fname": "2"}\n', encoding="utf-8-sig")
        assert "rename it to my.jsonl" in problem(path)
        for content in ('[\n{"fname": "1"},\n{"fname": "2"}]', '{"data": []}', "", '{"a": 1}\n[1]', "\xff\xfe\n1"):
            path.write_text(content, encoding="utf-8")
            assert "Write one JSON object a line into a .jsonl file." in problem(path)

    @pytest.mark.parametrize("name", ["가" * 300 + ".csv", "a" * 300, "x" * 300 + "/a.csv", "a\0.csv"])
    def test_what_cannot_be_a_name_does_not_exist(self, tmp_path, name):
        assert "does not exist" in problem(tmp_path / name)

    def test_a_data_set_whose_name_is_too_long(self, tmp_path):
        data = Data(dataset="a b" * 200)
        with pytest.raises(DataError, match="no such folder"):
            resolve_files(data, folder=tmp_path).check()

    def test_a_folder_that_may_not_be_looked_into(self, tmp_path, monkeypatch):
        def refuse(self):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "exists", refuse)
        assert "cannot be read: Permission denied" in problem(tmp_path / "a.csv")


class TestSplits:
    def test_limits_and_names(self, tmp_path):
        rows = [[str(i), f"d{i}", "s", ""] for i in range(6)]
        for name in ("train", "dev", "test"):
            write_csv(tmp_path / "data" / f"{name}.csv", *rows)
        data = Data(max_train_samples=4, max_eval_samples=2)
        splits = load_splits(resolve_files(data, folder=tmp_path), data)
        assert splits.test is not None
        named = [(split.name, len(split)) for split in (splits.train, splits.validation, splits.test)]
        assert named == [("train", 4), ("validation", 2), ("test", 2)]

    def test_no_test_file(self, tmp_path):
        for name in ("train", "dev"):
            write_csv(tmp_path / "data" / f"{name}.csv", GOOD)
        assert load_splits(resolve_files(Data(), folder=tmp_path), Data()).test is None

    def test_bundled_files_load_whole(self, tmp_path):
        columns = Columns(dialogue="another", id="names")
        for data in (Data(), Data(columns=columns, encoding="cp949")):
            splits = load_splits(resolve_files(data, folder=tmp_path), data)
            assert splits.test is not None
            for split in (splits.train, splits.validation, splits.test):
                assert len(split) > 0 and split.has_summaries and not split.skipped
            assert all(len(row.references) == 3 for row in splits.test.rows)


def test_light_modules_import_nothing_heavy():
    code = (
        "import sys\n"
        "import dlgsum.data.sources, dlgsum.data.clean, dlgsum.data.rows\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
