"""A real HTTP server that alerts are sent to: it answers, refuses, or hangs until it is let go."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "t0psecretpath"  # in every address of the tests


class Endpoint(ThreadingHTTPServer):
    """Paths with ``hang`` are answered when ``let_go`` is set, those with ``bad`` with 500, others with 200."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.let_go = threading.Event()
        self.let_out: list[str] = []  # the requests that hung, and do no longer
        self.arrived: list[tuple[str, dict[str, Any]]] = []
        self.change = threading.Condition()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, name: str) -> str:
        return f"json://127.0.0.1:{self.port}/{name}/{SECRET}"

    def wait_for(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        with self.change:
            assert self.change.wait_for(lambda: len(self.arrived) >= count, 20), self.arrived
            return list(self.arrived)

    def titles(self) -> list[str]:
        return [body["title"].partition(": ")[2] for _, body in self.arrived]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever was cut off at the timeout is no error here."""


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.change:
            self.server.arrived.append((self.path, body))
            self.server.change.notify_all()
        if "hang" in self.path:
            self.server.let_go.wait(60)
            self.server.let_out.append(self.path)
        self.send_response(500 if "bad" in self.path else 200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()
