"""The bundled sample dialogues keep their promises and come out of their generator byte for byte."""

from __future__ import annotations

import csv
import io
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "dlgsum" / "data" / "sample"
STRAY = re.compile(r"  |[ \n][.,?!]|[.,?!]\s?[.,?!]|[{}<>|]|\n\n")
SPLITS = ("train", "dev", "test")
MINIMUM = {"train": 1200, "dev": 150, "test": 150}
PII = ("PhoneNumber", "Address", "DateOfBirth", "PassportNumber", "SSN", "CardNumber", "CarNumber", "Email")
TURN = re.compile(r"#Person[123]#: \S.*\S")
POLITE_END = re.compile(r"(요|니다|니까|죠|고객님|선생님|교수님| 님|네)$")

sys.path.append(str(ROOT / "scripts"))

import make_sample_data  # noqa: E402
from sample_dialogues.josa import attach, final_consonant, particle  # noqa: E402
from sample_dialogues.pools import POOLS  # noqa: E402
from sample_dialogues.render import Row  # noqa: E402
from sample_dialogues.script import load  # noqa: E402


def read(split: str) -> list[dict[str, str]]:
    with (SAMPLE / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def bundled() -> dict[str, list[dict[str, str]]]:
    return {split: read(split) for split in SPLITS}


@pytest.fixture(scope="module")
def generated() -> dict[str, list[Row]]:
    return make_sample_data.generate(42)


@pytest.fixture(scope="module")
def rows(generated: dict[str, list[Row]]) -> list[Row]:
    return [row for split in SPLITS for row in generated[split]]


def summaries(row: dict[str, str]) -> list[str]:
    return [row[name] for name in ("summary", "summary2", "summary3") if name in row]


def everything(bundled: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    return [row for split in SPLITS for row in bundled[split]]


# The generator and the files


def test_same_seed_gives_the_bundled_bytes(generated: dict[str, list[Row]]) -> None:
    for split in SPLITS:
        assert make_sample_data.to_csv(split, generated[split]) == (SAMPLE / f"{split}.csv").read_bytes()


def test_command_line_writes_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_sample_data.main(["--out", str(tmp_path / "new"), "--seed", "42"]) == 0
    for split in SPLITS:
        assert (tmp_path / "new" / f"{split}.csv").read_bytes() == (SAMPLE / f"{split}.csv").read_bytes()
    assert re.search(r"^train +1400 ", capsys.readouterr().out, re.MULTILINE)


def test_another_seed_gives_other_dialogues(generated: dict[str, list[Row]]) -> None:
    other = make_sample_data.generate(7)
    assert [row.dialogue for row in other["dev"]] != [row.dialogue for row in generated["dev"]]


def test_files_are_small_utf8_nfc_with_lf() -> None:
    data = [(SAMPLE / f"{split}.csv").read_bytes() for split in SPLITS]
    assert sum(map(len, data)) < 2_000_000
    for raw in data:
        text = raw.decode("utf-8")
        assert not text.startswith("\ufeff")
        assert "\r" not in text and "\t" not in text and text.endswith("\n")
        assert unicodedata.is_normalized("NFC", text)


@pytest.mark.parametrize("split", SPLITS)
def test_quoting_is_minimal(split: str) -> None:
    text = (SAMPLE / f"{split}.csv").read_text(encoding="utf-8")
    again = io.StringIO(newline="")
    csv.writer(again, lineterminator="\n").writerows(csv.reader(io.StringIO(text, newline="")))
    assert again.getvalue() == text


@pytest.mark.parametrize("split", SPLITS)
def test_columns_names_and_counts(split: str, bundled: dict[str, list[dict[str, str]]]) -> None:
    extra = ["summary2", "summary3"] if split == "test" else []
    part = bundled[split]
    assert list(part[0]) == ["fname", "dialogue", "summary", *extra, "topic"]
    assert len(part) >= MINIMUM[split]
    assert [row["fname"] for row in part] == [f"{split}_{number}" for number in range(len(part))]


# Dialogues


def test_turns_are_well_formed(bundled: dict[str, list[dict[str, str]]]) -> None:
    usual = 0
    for row in everything(bundled):
        turns = row["dialogue"].split("\n")
        assert 4 <= len(turns) <= 20, row["fname"]
        usual += 5 <= len(turns) <= 11
        speakers = [turn.partition(":")[0] for turn in turns]
        assert all(TURN.fullmatch(turn) for turn in turns), row["fname"]
        assert all(turn[-1] in ".?!" for turn in turns), row["fname"]
        assert all(one != two for one, two in pairwise(speakers)), row["fname"]
        firsts = list(dict.fromkeys(speakers))
        assert firsts == [f"#Person{number}#" for number in range(1, len(firsts) + 1)], row["fname"]
    assert usual > 0.7 * sum(map(len, bundled.values()))


def test_spacing_and_punctuation(bundled: dict[str, list[dict[str, str]]]) -> None:
    for row in everything(bundled):
        for value in row.values():
            assert value == value.strip() and value
            assert not STRAY.search(value), value


def test_no_dialogue_is_repeated(bundled: dict[str, list[dict[str, str]]]) -> None:
    dialogues = [row["dialogue"] for row in everything(bundled)]
    assert len(dialogues) == len(set(dialogues))


def test_every_tag_and_a_third_speaker_occur(bundled: dict[str, list[dict[str, str]]]) -> None:
    train = "\n".join(row["dialogue"] for row in bundled["train"])
    for tag in PII:
        assert f"#{tag}#" in train, tag
    known = {f"#{tag}#" for tag in PII} | {"#Person1#", "#Person2#", "#Person3#"}
    for split in SPLITS:
        assert any("#Person3#: " in row["dialogue"] for row in bundled[split])
        for row in bundled[split]:
            found = set(re.findall(r"#\w*#", "\n".join(row.values())))
            assert found <= known, found


def test_politeness_holds_through_a_dialogue(rows: list[Row]) -> None:
    assert {row.level for row in rows} == {"polite", "casual"}
    for row in rows:
        for turn in row.dialogue.split("\n"):
            for sentence in re.findall(r"[^.?!]+", turn.partition(": ")[2]):
                polite = POLITE_END.search(sentence.strip()) is not None
                if row.level == "polite":
                    assert polite, turn
                else:
                    said = sentence.strip()
                    assert said == "여보세요" or not re.search(r"(요|니다|니까|세요)$", said), turn


def test_topics_and_skeletons(bundled: dict[str, list[dict[str, str]]]) -> None:
    skeletons, _ = load(make_sample_data.SKELETONS)
    per_topic = Counter(skeleton.topic for skeleton in skeletons)
    assert len(per_topic) >= 25 and min(per_topic.values()) >= 2
    for split in SPLITS:
        assert {row["topic"] for row in bundled[split]} == set(per_topic)
    assert all(re.fullmatch(r"[가-힣 ]{2,12}", topic) for topic in per_topic)


# Summaries


def test_summary_form(bundled: dict[str, list[dict[str, str]]]) -> None:
    for row in everything(bundled):
        for text in summaries(row):
            assert 25 <= len(text) <= 90, text
            assert text.endswith("니다.") and text.count("니다.") <= 2 and "\n" not in text, text
            assert re.search(r"#Person[123]#|세 사람", text), text


def test_three_different_references(bundled: dict[str, list[dict[str, str]]]) -> None:
    for row in bundled["test"]:
        assert len(set(summaries(row))) == 3


def test_facts_are_in_the_dialogue_and_in_every_wording(rows: list[Row]) -> None:
    for row in rows:
        assert row.facts
        for fact in row.facts:
            assert fact in row.dialogue, (fact, row.dialogue)
            assert all(fact in text for text in row.summaries), (fact, row.summaries)


def test_dropped_proposals_stay_out_of_the_summary(rows: list[Row]) -> None:
    for row in rows:
        rest = list(row.summaries)
        for fact in sorted(row.facts, key=len, reverse=True):
            rest = [text.replace(fact, "") for text in rest]
        for value in row.dropped:
            assert value in row.dialogue
            # A proposal may happen to be a word of the summary's own ("전화"), never one of its facts.
            assert value not in row.facts
            if re.search(r"\d", value):
                assert not any(value in text for text in rest), (value, row.summaries)
    assert sum(bool(row.dropped) for row in rows) > 0.4 * len(rows)


def test_agreed_value_is_said_after_the_dropped_one(rows: list[Row]) -> None:
    later = total = 0
    for row in rows:
        for value in row.dropped:
            total += 1
            later += any(row.dialogue.rfind(fact) > row.dialogue.find(value) for fact in row.facts)
    assert later == total > 0


def test_numbers_names_and_places_of_a_summary_are_said(bundled: dict[str, list[dict[str, str]]]) -> None:
    pools = "name fullname title place landmark city restaurant cafe day date time"
    values = {value for pool in pools.split() for value in POOLS[pool] if len(value) > 2}
    number = re.compile(r"\d+\w*?(?=[가-힣 ,.]|$)|[A-Za-z]+")
    for row in everything(bundled):
        for text in summaries(row):
            said = set(re.findall(r"#\w+#", row["dialogue"]))
            assert set(re.findall(r"#\w+#", text)) <= said, text
            plain = re.sub(r"#\w+#", "", text)
            assert all(found in row["dialogue"] for found in number.findall(plain)), text
            assert all(value in row["dialogue"] for value in values if value in plain), text


def test_opening_turns_are_a_poor_summary(rows: list[Row]) -> None:
    for turns, most in ((1, 0.0), (2, 0.02), (3, 0.05)):
        full = sum(all(fact in "\n".join(row.dialogue.split("\n")[:turns]) for fact in row.facts) for row in rows)
        assert full <= most * len(rows)


def test_first_wording_is_the_usual_one(generated: dict[str, list[Row]]) -> None:
    for split, slack in (("train", 0.05), ("dev", 0.12), ("test", 0.12)):
        part = generated[split]
        assert abs(sum(row.wording == 0 for row in part) / len(part) - 0.7) < slack


def test_the_one_who_asks_is_not_always_the_same_person(rows: list[Row]) -> None:
    first = Counter(text.group() for row in rows if (text := re.match(r"#Person[12]#", row.summaries[0])))
    assert min(first["#Person1#"], first["#Person2#"]) > 0.25 * len(rows)


def test_values_are_met_often_enough(generated: dict[str, list[Row]]) -> None:
    """A pool is small enough for a tiny model to meet each of its values many times in train."""
    text = [row.dialogue for row in generated["train"]]
    for pool in ("name", "time", "evening", "day", "date", "place", "city", "price_m", "people", "item"):
        counts = {value: sum(value in dialogue for dialogue in text) for value in POOLS[pool]}
        assert min(counts.values()) >= 8, (pool, min(counts.items(), key=lambda pair: pair[1]))
    assert len(POOLS["name"]) >= 30 and len(POOLS["place"]) >= 20
    assert any(name.isascii() for name in POOLS["name"])


# Particles


@pytest.mark.parametrize(
    ("word", "form", "expected"),
    [
        ("책", "은", "책은"),
        ("사과", "은", "사과는"),
        ("책", "를", "책을"),
        ("사과", "을", "사과를"),
        ("지은", "와", "지은과"),
        ("민수", "과", "민수와"),
        ("부산", "로", "부산으로"),
        ("제주도", "으로", "제주도로"),
        ("서울", "으로", "서울로"),
        ("3번", "이", "3번이"),
        ("Tom", "은", "Tom은"),
        ("Mike", "은", "Mike는"),
        ("#Person1#", "은", "#Person1#은"),
        ("#Person2#", "과", "#Person2#와"),
        ("#Email#", "으로", "#Email#로"),
        ("지은", "+가", "지은이가"),
        ("민수", "+가", "민수가"),
        ("Tom", "+가", "Tom이"),
        ("지은", "+", "지은이"),
        ("오후 3시", "이에요", "오후 3시예요"),
        ("5만 원", "예요", "5만 원이에요"),
        ("부산", "에", "부산에"),
    ],
)
def test_particle_follows_the_final_sound(word: str, form: str, expected: str) -> None:
    assert attach(word, form) == expected


def test_particle_refuses_what_it_cannot_read() -> None:
    with pytest.raises(ValueError, match="READINGS"):
        final_consonant("Zoe")
    with pytest.raises(ValueError, match="unknown particle"):
        particle("책", "없는조사")


def test_particles_after_values_are_right_in_the_files(rows: list[Row]) -> None:
    """Also catches a particle typed by hand into a skeleton."""
    values: dict[str, set[str]] = defaultdict(set)
    forms_after = r"(은|는|을|를|과|와|으로|로|이에요|예요|이라며|라며)(?=[ ,.?!\n])"
    for row in rows:
        text = "\n".join((row.dialogue, *row.summaries))
        for value in {*row.facts, *row.dropped}:
            for found in re.finditer(re.escape(value) + forms_after, text):
                values[value].add(found[1])
    assert len(values) > 200
    for value, forms in values.items():
        for form in forms:
            assert particle(value, form) == form, (value, form)


def test_tags_carry_glued_particles(bundled: dict[str, list[dict[str, str]]]) -> None:
    text = "\n".join(part for row in everything(bundled) for part in summaries(row))
    for glued in ("#Person1#은", "#Person1#는", "#Person1#이", "#Person1#가", "#Person2#는", "#Person2#가"):
        assert glued in text
    for glued in ("#Person1#과", "#Person2#와", "#Person1#와", "#Person1#의", "#Person2#에게"):
        assert glued in text
    assert not re.search(r"#Person\d# (은|는|이|가|을|를|과|와|의|에게) ", text)
    assert not re.search(r"#Person[23]#(은|이|을|과)(?= )", text)
