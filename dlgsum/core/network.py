"""Ask whether a server is there, for a bounded time."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from dlgsum.core.masking import masked


def ask(url: str, seconds: float) -> tuple[int | None, str]:
    """Return the status that a HEAD request gets and what was learnt; None when no answer came in ``seconds``.

    What was learnt names the server without the password that an address may hold.
    """
    parts = urlsplit(url)
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    answers: list[int | Exception] = []

    def send() -> None:
        try:
            # The client's own limit is for each step of a request; the one that counts is below.
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=2 * seconds) as answer:
                answers.append(answer.status)
        except urllib.error.HTTPError as error:
            answers.append(error.code)
        except Exception as error:  # whatever goes wrong, the server cannot be used
            answers.append(error)

    # A thread of its own: looking up a name can block for half a minute and knows no timeout.
    started = time.monotonic()
    thread = threading.Thread(target=send, name="ask", daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        return None, f"{server} did not answer within {seconds:g} s"
    answer = answers[0]
    if isinstance(answer, Exception):
        return None, f"{server} cannot be reached ({masked(str(answer))})"
    if answer >= 400:
        return answer, f"{server} refused it (status {answer})"
    return answer, f"{server} answered in {time.monotonic() - started:.1f} s"
