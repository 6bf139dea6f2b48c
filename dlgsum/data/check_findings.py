"""From what was counted to what it means: errors that stop a run, warnings and notes, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dlgsum.core.text import plural
from dlgsum.data.check_report import Finding, Leak, Level, Noted, SideReport, SplitReport

_LEVELS: tuple[Level, ...] = ("error", "warning", "note")
_CUT_MATTERS = 0.01  # share of rows cut from which it is more than a note
_UNKNOWN_MATTERS = 0.001  # share of characters
_ONE = {"have ": "has ", "are copies ": "is a copy "}
_SAME_DATA = 0.5  # share of validation rows also trained on from which the two are no longer two

# Kind, level, what it is (after "3 of 40 rows (7.5 %)"), and what to do.
_RULES: tuple[tuple[str, Level, str, str], ...] = (
    ("same_id", "warning", "have an id that another row has", "Give each row an id of its own."),
    ("duplicate", "warning", "are copies of another row (same dialogue, same summary)", "Keep one of each."),
    ("other_summary", "note", "have the dialogue of another row with another summary",
     "Put further references into columns of one row (data.columns.extra_summaries)."),
    ("empty_dialogue", "warning", "have an empty dialogue", "It is predicted as empty text."),
    ("no_speaker", "warning", "have no speaker mark such as '#Person1#:'", "Check data.columns.dialogue."),
    ("one_turn", "warning", "have a single turn", "A turn is a line: check how the newlines were written."),
    ("one_speaker", "note", "have several turns and a single speaker", "A speaker mark may be missing or wrong."),
    ("line_without_speaker", "note", "have a line without speaker mark", "A mark may be missing."),
    ("turns_on_one_line", "warning", "have two turns on one line", "Put a newline before each speaker mark."),
    ("foreign_tag", "warning", "have a tag in the summary that is not in the dialogue",
     "That teaches the model to invent speakers: correct the summary, or drop the row."),
    ("long_summary", "warning", "have a summary that is longer than the dialogue", "Are the columns mixed up?"),
    ("shared_summary", "note", "share their summary with two or more other rows", "Is it a placeholder?"),
)  # fmt: skip


def judge(splits: Sequence[SplitReport], leaks: Sequence[Leak]) -> list[Finding]:
    """Return what to act on, errors first; within a level in the order of the splits, leaks first.

    The only error is that more than half of the validation dialogues are trained on as well: such a validation
    set chooses the model that remembers best, so nothing the run then says is true, and the most likely cause is
    one file named twice. Fewer shared dialogues, and those with other splits, are a warning: scores on them are too
    high, but they still order models. Everything else leaves a run that can be used, and at most warns. Missing
    summaries are a note in ``test``, which may be there to be predicted; topics are a note everywhere, since no
    model sees them.
    """
    findings = [_leak(leak) for leak in leaks]
    for split in splits:
        findings += [*_skipped(split), *_counted(split)]
        findings += _cut(split, "encoder_max_len", "dialogue", "dialogues", split.source_tokens)
        findings += _cut(split, "decoder_max_len", "summary", "summaries", split.target_tokens)
        findings += _unknown(split)
    return sorted(findings, key=lambda finding: _LEVELS.index(finding.level))


def percent(share: float) -> str:
    """Return a share as text; what is neither none nor all never looks like it."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def _leak(leak: Leak) -> Finding:
    same = {leak.first, leak.second} == {"train", "validation"}
    share = leak.share_second if leak.second == "validation" else leak.share_first if same else leak.share_second
    error = same and share > _SAME_DATA
    message = (
        f"{leak.rows_second:,} of the dialogues in {leak.second} ({percent(leak.share_second)}) "
        f"{'is' if leak.rows_second == 1 else 'are'} in {leak.first} too"
        f" (there {percent(leak.share_first)}): "
    )
    if error:
        message += "the model would be chosen by what it remembers. Are both the same file? Use other rows to validate."
    elif "train" in (leak.first, leak.second):
        message += (
            "scores on what is shared are too high. Remove it from one of the two (dlgsum data split keeps equal "
            "dialogues together)."
        )
    else:
        message += "the two are not independent."
    return Finding(
        "error" if error else "warning", f"{leak.first}/{leak.second}", "leak", message, leak.rows_second, share,
        leak.examples,
    )  # fmt: skip


def _skipped(split: SplitReport) -> Iterator[Finding]:
    for reason, noted in split.skipped.items():
        message = f"{plural(noted.count, 'row')} of the file ({percent(noted.share)}) left out: {reason}."
        yield Finding("warning", split.name, "skipped", message, noted.count, noted.share, noted.examples)


def _counted(split: SplitReport) -> Iterator[Finding]:
    for kind, level, what, advice in _RULES:
        noted = split.counts[kind]
        if noted.count:
            yield _finding(level, split, kind, noted, f"{what}. {advice}")
    without = split.counts["no_summary"]
    if 0 < without.count < split.rows:
        yield _finding("warning", split, "no_summary", without, "have no summary, so the file is not scored.")
    elif without.count:
        yield _finding(
            "note" if split.name == "test" else "warning",
            split,
            "no_summary",
            without,
            "have no summary: it can be predicted, not scored.",
        )
    topics = split.counts["no_topic"]
    if 0 < topics.count < split.rows:
        yield _finding("note", split, "no_topic", topics, "have no topic; scores by topic leave such rows out.")


def _finding(level: Level, split: SplitReport, kind: str, noted: Noted, what: str) -> Finding:
    what = _one(what) if noted.count == 1 else what
    message = f"{noted.count:,} of {plural(split.rows, 'row')} ({percent(noted.share)}) {what}"
    return Finding(level, split.name, kind, message, noted.count, noted.share, noted.examples)


def _one(what: str) -> str:
    """Return what several rows do as one row does it."""
    for several, one in _ONE.items():
        if what.startswith(several):
            return one + what.removeprefix(several)
    return what


def _cut(split: SplitReport, setting: str, what: str, several: str, side: SideReport | None) -> Iterator[Finding]:
    if side is None or not side.cut.count:
        return
    texts, are, lose, their = (what, "is", "loses", "its") if side.cut.count == 1 else (several, "are", "lose", "their")
    message = (
        f"{side.cut.count:,} {texts} ({percent(side.cut.share)}) {are} longer than tokenizer.{setting}={side.limit:,} "
        f"and {lose} {percent(side.lost_share_of_cut)} of {their} tokens ({percent(side.lost_share)} of all). "
        f"The longest has {side.lengths.max:,.0f} tokens, 99 % have at most {side.lengths.p99:,.0f}."
    )
    level: Level = "warning" if side.cut.share >= _CUT_MATTERS else "note"
    kind = "cut_source" if setting == "encoder_max_len" else "cut_target"
    yield Finding(level, split.name, kind, message, side.cut.count, side.cut.share, side.cut.examples)


def _unknown(split: SplitReport) -> Iterator[Finding]:
    if not split.unknown or split.unknown_share is None:
        return
    count = sum(character.count for character in split.unknown)
    shown = ", ".join(f"{_printable(found.character)} {found.code} {found.count:,}×" for found in split.unknown[:5])
    more = f", and {len(split.unknown) - 5} or more others" if len(split.unknown) > 5 else ""
    message = (
        f"{percent(split.unknown_share)} of the characters are unknown to the tokenizer: {shown}{more}. "
        "The model can neither read nor write them: replace them, or use another model."
    )
    level: Level = "warning" if split.unknown_share >= _UNKNOWN_MATTERS else "note"
    examples = list(dict.fromkeys(row for found in split.unknown for row in found.examples[:1]))
    yield Finding(level, split.name, "unknown_character", message, count, split.unknown_share, examples)


def _printable(character: str) -> str:
    return f"'{character}'" if character.isprintable() else "unprintable"
