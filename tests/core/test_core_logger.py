# ruff: noqa: T201
"""What is printed and logged reaches the file whole, and the terminal unharmed."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from dlgsum import Logger
from dlgsum.core.console import messages
from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.core.screen import Screen
from dlgsum.core.streams import CopiedStream, LineFile

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


def lines(path: Path) -> list[str]:
    """The lines of a log without their times, which each must have."""
    found = path.read_text(encoding="utf-8").splitlines()
    assert all(re.match(STAMP, line) for line in found), found
    return [re.sub(STAMP, "", line, count=1) for line in found]


def on_terminal(code: str, *arguments: str, **environment: str) -> bytes:
    """Run ``code`` in a process whose three streams are a terminal; return every byte that it sent there."""
    mine, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
        env={**clean, "TERM": "xterm", "COLUMNS": "80", "PYTHONWARNINGS": "", **environment},
    )  # fmt: skip
    os.close(theirs)
    sent = b""
    while True:
        try:
            chunk = os.read(mine, 65536)
        except OSError:  # how Linux says that nobody has the other side open
            break
        if not chunk:
            break
        sent += chunk
    os.close(mine)
    assert process.wait() == 0, sent.decode(errors="replace")
    return sent


def seen(sent: bytes) -> list[str]:
    """What is left on the screen: each row as it was drawn last."""
    rows, at, column = [[]], 0, 0
    for piece in re.findall(r"\n|\r|\x1b\[\d*[A-Za-z]|\x1b\[\?\d+[hl]|.", sent.decode().replace("\r\n", "\n\r")):
        if piece == "\n":
            at += 1
            rows += [[]] if at == len(rows) else []
        elif piece == "\r":
            column = 0
        elif re.fullmatch(r"\x1b\[\d*A", piece):
            at -= int(piece[2:-1] or 1)
        elif re.fullmatch(r"\x1b\[2?K", piece):
            rows[at] = [] if piece == "\x1b[2K" else rows[at][:column]
        elif not piece.startswith("\x1b"):
            rows[at] += [" "] * (column + 1 - len(rows[at]))
            rows[at][column] = piece
            column += 1
    return [text for row in rows if (text := "".join(row).rstrip())]


# --- from a screen to lines ---


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("\r10%|x\r50%|xx\r100%|xxx\n", ["100%|xxx"]),
        ("\r 50%\r     \rdone\n", ["done"]),  # a bar that was cleared leaves nothing
        ("\r 50%\r     \r", []),
        ("\n\n", []),
        ("a\rbc\n", ["bc"]),
        ("\r\x1b[2K 1\r\x1b[2K 2\n\x1b[?25h", [" 2"]),
        ("\x1b]0;title\x07text\n", ["text"]),
    ],
)
def test_a_bar_leaves_its_last_state(sent: str, expected: list[str]) -> None:
    for size in (1, 3, len(sent)):  # control sequences are cut apart by nobody: only between pieces of text
        screen = Screen()
        if size < len(sent) and "\x1b" in sent:
            continue
        done = [line for start in range(0, len(sent), size) for line in screen.feed(sent[start : start + size])]
        assert done == expected and screen.rest() == []


def test_bars_below_one_another_leave_their_last_states() -> None:
    from tqdm import tqdm

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            done.extend(screen.feed(text))
            return len(text)

    screen, done = Screen(), []
    for outer in tqdm(range(3), desc="outer", file=Terminal(), mininterval=0, ncols=60):
        for _ in tqdm(range(40), desc=f"inner {outer}", file=Terminal(), mininterval=0, ncols=60, leave=False):
            pass
    found = [*done, *screen.rest()]
    assert len(found) <= 6, found
    assert "outer: 100%" in found[-1]


# --- the file ---


def test_messages_go_to_the_file_and_the_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "새 폴더" / "deep" / "train.log"
    logger = Logger(path)
    assert logger.write("에폭 1: train_loss=0.5") == len("에폭 1: train_loss=0.5")
    logger.write("bad\nworse", level="error")
    logger.write("hidden", print_also=False)
    assert lines(path) == ["에폭 1: train_loss=0.5", "error: bad", "error: worse", "hidden"]  # before it is closed
    print("by print", file=logger)
    logger.write("token=s3cr3t")
    logger.close()
    logger.close()
    assert lines(path)[4:] == ["by print", "token=***"]
    written = capsys.readouterr()
    assert re.fullmatch(f"{STAMP}에폭 1: train_loss=0.5\n{STAMP}by print\n{STAMP}token=\\*\\*\\*\n", written.out)
    assert re.fullmatch(f"{STAMP}error: bad\n{STAMP}error: worse\n", written.err)
    with pytest.raises(UsageError, match=r"no log level 'loud'\n.*info, warning"):
        logger.write("x", level="loud")


def test_an_old_log_is_continued_and_a_torn_line_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("2026-01-01 00:00:00 torn")
    with Logger(path, print_also=False) as logger:
        logger.write("next")
    assert lines(path) == ["torn", "next"]


def test_a_file_that_cannot_be_made_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match=r"a\.log cannot be written: .*\nName a file"):
        Logger(tmp_path / "file" / "a.log")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_stops_nobody_and_is_said_once(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING), Logger("/dev/full") as logger:
        logger.start_redirect()
        for number in range(3):
            logger.write(f"message {number}")
            print("printed", number)
    assert caplog.text.count("/dev/full takes no more lines") == 1 and "No space left" in caplog.text
    out = capsys.readouterr().out
    assert all(f"message {number}" in out and f"printed {number}" in out for number in range(3))


def test_writers_do_not_tear_each_others_rows(tmp_path: Path) -> None:
    """Two processes write rows of up to 40 kB into one file, through the log and as events."""
    code = (
        "import logging, sys; from pathlib import Path; from dlgsum.core.log import logging_to;"
        "from dlgsum.tracking.run import RunFolder; run = RunFolder(Path(sys.argv[1]))\n"
        "with logging_to(run.log, events=run.events):\n"
        "    for n in range(15):\n"
        "        logging.getLogger('a').info('%s', sys.argv[2] * (1 + 20_000 * (n % 3)))\n"
        "        run.event('tick', text=sys.argv[2] * 9000)\n"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), letter]) for letter in "ab"]
    assert [job.wait() for job in jobs] == [0] * 2
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 30 and all(len(set(row["message"])) == 1 for row in rows if row["event"] == "log")
    assert len((tmp_path / "training.log").read_text().splitlines()) == 2 * 15


# --- the redirection ---


def test_printed_text_is_copied_and_what_was_there_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, before = tmp_path / "a.log", (sys.stdout, sys.stderr)
    logger = Logger(path)
    with pytest.raises(ZeroDivisionError), logger:
        logger.start_redirect()
        assert sys.stdout is not before[0]
        print("한 줄", 2)
        print("warned", file=sys.stderr)
        print("no end yet", end="")
        assert lines(path) == ["한 줄 2", "warned"]
        sys.stdout.writelines([" but", " now\n", "token=s3cr3t\n"])
        print("open", end="")
        _ = 1 / 0
    assert (sys.stdout, sys.stderr) == before
    print("afterwards")
    found = lines(path)
    assert found[:4] == ["한 줄 2", "warned", "no end yet but now", "token=***"] and "open" in found
    assert found.index("error: Traceback (most recent call last):") > 3
    assert "error: ZeroDivisionError: division by zero" in found
    written = capsys.readouterr()
    assert written.out == "한 줄 2\nno end yet but now\ntoken=s3cr3t\nopenafterwards\n"
    assert written.err == "warned\n"


def test_redirection_can_be_nested(tmp_path: Path) -> None:
    before = sys.stdout
    with Logger(tmp_path / "a.log", print_also=False) as logger:
        logger.stop_redirect()  # too many stops are none
        logger.start_redirect()
        logger.start_redirect()
        print("1")
        logger.stop_redirect()
        print("2")
        logger.stop_redirect()
        assert sys.stdout is before
        logger.start_redirect()
        print("3")
    assert sys.stdout is before and lines(tmp_path / "a.log") == ["1", "2", "3"]


@pytest.mark.parametrize("inner_first", [True, False])
def test_two_loggers_take_the_same_text_once_each(
    tmp_path: Path, inner_first: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sys.stdout
    one, two = Logger(tmp_path / "1.log"), Logger(tmp_path / "2.log")
    one.start_redirect()
    two.start_redirect()
    print("both")
    one.write("one's message")
    two.write("two's message")
    for logger in (two, one) if inner_first else (one, two):
        logger.close()
    assert sys.stdout is before
    for number, name in ((1, "one"), (2, "two")):
        assert sum(f"{name}'s message" in line for line in lines(tmp_path / f"{number}.log")) == 1
    assert lines(tmp_path / "1.log")[0] == lines(tmp_path / "2.log")[0] == "both"
    assert capsys.readouterr().out.count("message") == 2


def test_what_somebody_lays_over_it_stays(tmp_path: Path) -> None:
    before = sys.stdout
    logger = Logger(tmp_path / "a.log", print_also=False)
    logger.start_redirect()
    mine = sys.stdout = io.StringIO()
    try:
        logger.close()
        assert sys.stdout is mine
    finally:
        sys.stdout = before


def test_threads_do_not_tear_lines(tmp_path: Path) -> None:
    """On a slow console two prints meet in the middle of a line nearly always."""

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            threading.Event().wait(0.0002)
            return super().write(text)

    before, shown = sys.stdout, Slow()
    sys.stdout = shown
    try:
        with Logger(tmp_path / "a.log") as logger:
            logger.start_redirect()

            def talk(name: str) -> None:
                for number in range(40):
                    print(name * 20, number, name)
                    logger.write(f"{name * 20} {number} {name}")

            threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.stdout = before
    whole = re.compile(r"([a-d])\1{19} \d+ \1")
    found = lines(tmp_path / "a.log")
    assert len(found) == 4 * 40 * 2 and all(whole.fullmatch(line) for line in found)
    console = [re.sub(STAMP, "", line) for line in shown.getvalue().splitlines()]
    assert len(console) == 4 * 40 * 2 and all(whole.fullmatch(line) for line in console)


@pytest.mark.parametrize("encoding", ["ascii", "cp949", "latin-1"])
def test_letters_that_the_console_lacks_become_question_marks(tmp_path: Path, encoding: str) -> None:
    raw, before = io.BytesIO(), sys.stdout
    console = sys.stdout = io.TextIOWrapper(raw, encoding=encoding)
    try:
        with Logger(tmp_path / "a.log") as logger:
            logger.write("뷁 ★ 🙂 한글")
            logger.start_redirect()
            print("뷁 ★ 🙂 인쇄")
            assert sys.stdout.encoding == encoding
    finally:
        sys.stdout = before
    assert lines(tmp_path / "a.log") == ["뷁 ★ 🙂 한글", "뷁 ★ 🙂 인쇄"]
    console.flush()
    shown = raw.getvalue().decode(encoding)
    assert shown.count("?") >= 2 and (encoding != "cp949" or "인쇄" in shown)


def test_the_rest_is_that_of_the_console(tmp_path: Path) -> None:
    mine, theirs = pty.openpty()
    before = sys.stdout
    with os.fdopen(theirs, "w", encoding="utf-8") as sys.stdout:
        terminal = sys.stdout
        try:
            with Logger(tmp_path / "a.log") as logger:
                logger.start_redirect()
                assert sys.stdout.isatty() and sys.stdout.fileno() == theirs and sys.stdout.encoding == "utf-8"
                assert logger.isatty() and logger.fileno() == theirs and logger.encoding == "utf-8"
                assert sys.stdout.buffer is terminal.buffer
            with Logger(tmp_path / "b.log", print_also=False) as logger:
                logger.start_redirect()
                assert not sys.stdout.isatty() and not logger.isatty()
        finally:
            sys.stdout = before
    os.close(mine)


GONE = """
import logging, sys
from pathlib import Path
from dlgsum import Logger
from dlgsum.core.console import messages
from dlgsum.core.log import logging_to
assert sys.stdin.readline() == "the reader is gone\\n"
messages().print("told without a log")
messages().file.flush()
Logger(sys.argv[1]).write("written without a redirection", level="error")
with Logger(sys.argv[1]) as logger, logging_to(Path(sys.argv[2])):
    logger.start_redirect()
    for number in range(3):
        print("printed", number, flush=True)
        print("on standard error", number, file=sys.stderr)
        messages().print("told", number)
        logging.getLogger("a").warning("warned %d", number)
        logger.write(f"written {number}")
        logger.write(f"wrong {number}", level="error")
        print("begun", end="")
        sys.stdout.flush()
        print()
try:
    print("the result", flush=True)
except OSError as error:
    sys.exit(7)
"""


@pytest.mark.parametrize("full", [False, True])
def test_a_console_that_goes_away_ends_nothing_but_the_result(tmp_path: Path, full: bool) -> None:
    if full and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    log, run_log = tmp_path / "a.log", tmp_path / "b.log"
    reader, writer = os.pipe()
    target = os.open("/dev/full", os.O_WRONLY) if full else os.dup(writer)
    process = subprocess.Popen(
        [sys.executable, "-c", GONE, str(log), str(run_log)], stdin=subprocess.PIPE, stdout=target, stderr=target
    )
    for descriptor in (reader, writer, target):
        os.close(descriptor)
    process.communicate(b"the reader is gone\n")
    assert process.returncode == 7, "only what is printed afterwards fails, as it does without us"
    words = [f"{word} {number}" for number in range(3) for word in ("printed", "on standard error", "written")]
    assert set(words) <= set(lines(log)) and lines(log).count("begun") == 3
    told = run_log.read_text()
    assert all(f"told {number}" in told and f"WARNING a: warned {number}" in told for number in range(3))


def test_a_closed_console_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    under, copied = (tmp_path / "console").open("w"), []
    stream = CopiedStream(under, copied.append)
    under.close()
    monkeypatch.setattr(sys, "stderr", under)
    messages().print("told to nobody")
    messages().file.flush()
    stream.write("a\n")
    stream.flush()
    assert copied == ["a"]
    stream.stop()
    with pytest.raises(ValueError, match="closed file"):
        stream.write("b")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_does_not_wait_for_threads_it_does_not_have() -> None:
    code = """if True:
        import faulthandler, io, os, sys, threading
        from dlgsum.core.streams import CopiedStream
        under, copied = io.StringIO(), []
        stream = CopiedStream(under, copied.append)
        stream.write("begun by the parent")
        held, over = threading.Event(), threading.Event()
        def hold():
            with stream._lock:
                held.set(); over.wait()
        threading.Thread(target=hold).start(); held.wait()
        if (child := os.fork()) == 0:
            faulthandler.dump_traceback_later(5, exit=True)
            stream.write("of the child\\n")
            os._exit(0 if copied == ["of the child"] and under.getvalue() == "of the child\\n" else 3)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        over.set()
        stream.write(", ended by it\\n")
        sys.exit(code or copied != ["begun by the parent, ended by it"])
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_long_line_in_small_pieces_costs_no_more_than_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    monkeypatch.setattr("dlgsum.core.streams.colourless", lambda text: looked_at.append(len(text)) or text)
    under, copied, content = io.StringIO(), [], list(range(2000))
    json.dump(content, stream := CopiedStream(under, copied.append))  # in 4001 pieces
    stream.write("\n")
    assert copied == [json.dumps(content)] and under.getvalue() == copied[0] + "\n"
    assert sum(looked_at) == len(under.getvalue()), "each letter once"


def test_only_text_can_be_written() -> None:
    with pytest.raises(TypeError, match="must be str, not bytes"):
        CopiedStream(io.StringIO(), lambda line: None).write(b"x")  # type: ignore[arg-type]


def test_what_was_begun_is_written_when_the_process_ends(tmp_path: Path) -> None:
    code = (
        "import sys; from dlgsum import Logger; Logger(sys.argv[1]).start_redirect(); print('a'); print('b', end='');"
        "undefined"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.log")], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "a\nb"
    found = lines(tmp_path / "a.log")
    assert found[0] == "a" and "b" in found and "NameError: name 'undefined' is not defined" in found


def test_a_writer_in_the_middle_of_a_line_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    path.write_text("half")

    def others_go_on(seconds: float) -> None:
        if seconds and path.read_text() == "half":
            path.write_text("half and half\n")

    monkeypatch.setattr("dlgsum.core.streams.time.sleep", others_go_on)
    file = LineFile(path)
    file.write("next")
    file.close()
    assert path.read_text() == "half and half\nnext\n"


def test_half_characters_are_no_reason_to_stop(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "a.log")
    file.write("name \udcff")
    file.close()
    assert (tmp_path / "a.log").read_text() == "name \\udcff\n"


# --- on a terminal ---

BAR = """
import sys
from dlgsum import Logger
from tqdm import tqdm
with Logger(sys.argv[1]) as logger:
    logger.start_redirect()
    for number in tqdm(range(200), desc="bar", mininterval=0, ncols=60):
        if number == 50:
            print("printed line")
        if number == 100:
            logger.write("an error", level="error")
        if number == 150:
            print("on standard error", file=sys.stderr)
    for outer in tqdm(range(2), desc="outer", mininterval=0, ncols=60):
        for _ in tqdm(range(50), desc="inner", mininterval=0, ncols=60, leave=False):
            pass
        print("after", outer)
"""


def test_a_bar_stays_whole_and_leaves_one_line_in_the_file(tmp_path: Path) -> None:
    sent = on_terminal(BAR, str(tmp_path / "a.log"))
    screen = seen(sent)
    plain = [re.sub(STAMP, "", row) for row in screen]
    assert plain[:3] == ["printed line", "error: an error", "on standard error"]
    assert plain[3].startswith("bar: 100%") and "200/200" in plain[3]
    assert plain[4:6] == ["after 0", "after 1"] and plain[6].startswith("outer: 100%") and len(plain) == 7
    assert re.search(rb"\x1b\[31m" + STAMP.encode() + rb"error: an error", sent)
    assert sent.count(b"bar: ") > 150  # it was drawn all the time
    found = lines(tmp_path / "a.log")
    assert [line for line in found if line.startswith("bar:")][-1].startswith("bar: 100%")
    assert sum(line.startswith("bar:") for line in found) == 1 and len(found) < 15, found
    assert [line for line in found if "|" not in line] == [
        "printed line", "error: an error", "on standard error", "after 0", "after 1",
    ]  # fmt: skip


LOG = """
import logging, sys, warnings
from pathlib import Path
from dlgsum.core.log import logging_to
from dlgsum.core.console import messages
from rich.progress import Progress
from tqdm import tqdm
log = logging.getLogger("x")
with logging_to(Path(sys.argv[1])):
    for number in tqdm(range(100), desc="bar", mininterval=0, ncols=60):
        if number == 30:
            log.warning("a warning")
        if number == 50:
            log.error("an error")
        if number == 60:
            warnings.warn("of Python")
        if number == 80:
            print("printed line")
    with Progress(console=messages(), auto_refresh=False) as progress:
        tasks = [progress.add_task(name, total=10) for name in ("first", "second")]
        for number in range(10):
            for task in tasks:
                progress.update(task, advance=1, refresh=True)
            if number == 5:
                log.warning("beside rich")
                print("printed beside rich")
                sys.stderr.write("on standard error\\n")
                messages().print("told beside rich")
"""


def test_log_messages_leave_bars_of_tqdm_and_rich_whole(tmp_path: Path) -> None:
    sent = on_terminal(LOG, str(tmp_path / "training.log"))
    screen = seen(sent)
    assert screen[:2] == ["warning: a warning", "error: an error"]
    assert re.match(r"warning: UserWarning: of Python \(<string>:\d+\)", screen[2])
    assert screen[3] == "printed line" and screen[4].startswith("bar: 100%")
    assert screen[5:9] == ["warning: beside rich", "printed beside rich", "on standard error", "told beside rich"]
    assert screen[9].startswith("first") and "100%" in screen[9] and screen[10].startswith("second")
    assert len(screen) == 11
    assert b"\x1b[33mwarning: a warning" in sent and b"\x1b[31merror: an error" in sent
    log = (tmp_path / "training.log").read_text()
    assert [line.split(" ", 2)[2] for line in log.splitlines() if "100/100" not in line] == [
        "WARNING x: a warning", "ERROR x: an error", f"WARNING py.warnings: {screen[2].removeprefix('warning: ')}",
        "INFO stdout: printed line", "WARNING x: beside rich", "INFO dlgsum: printed beside rich",
        "INFO dlgsum: on standard error", "INFO dlgsum: told beside rich",
    ]  # fmt: skip
    assert log.count("100/100") == 1 and "first" not in log


def test_colours_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    code = "import sys; from dlgsum import Logger; Logger(sys.argv[1]).write('bad', level='error')"
    assert b"\x1b[31m" in on_terminal(code, str(tmp_path / "a.log"))
    assert b"\x1b[31m" not in on_terminal(code, str(tmp_path / "a.log"), NO_COLOR="1")
    piped = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.log")], capture_output=True)
    assert b"\x1b" not in piped.stderr and b"error: bad" in piped.stderr
    assert "\x1b" not in (tmp_path / "a.log").read_text()
