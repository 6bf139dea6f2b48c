"""A stand-in for W&B's server on this machine: it takes runs, and keeps what it was sent."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import wandb

KEY = "a" * 40  # of the form that W&B checks before it asks any server


def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
    """Have W&B of this process keep its files in ``folder``, know no key, and read ``environ`` anew.

    It reads the environment once: call ``wandb.teardown()`` after the test.
    """
    wandb.teardown()
    for name in ("DATA", "CONFIG", "CACHE", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(folder / name.lower()))
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


@dataclass
class Received:
    """One run: history rows in order, summary, what was said of it, and artifacts by name."""

    said: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def config(self) -> dict[str, Any]:
        values = json.loads(self.said.get("config") or "{}")
        return {name: item["value"] for name, item in values.items()}


class WandbServer:
    """Answer W&B's queries as far as logging, uploading and resuming need; ``silent`` takes requests and says nothing.

    Attributes:
        runs: what was received, by the run's id.
        files: uploaded files: the address to the content.
        alerts: title, text and severity.
        unknown: queries that it has no answer to.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Received] = {}
        self.files: dict[str, bytes] = {}
        self.alerts: list[tuple[str, str, str]] = []
        self.silent = threading.Event()
        self.closed = threading.Event()
        self.unknown: set[str] = set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self._http.stand_in = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closed.set()
        self._http.shutdown()
        self._http.server_close()

    def graphql(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        answer = getattr(self, f"_answer_{name}", None)
        if answer is None:
            self.unknown.add(name)
            return {}
        return answer(values)  # type: ignore[no-any-return]

    def stream(self, run: str, content: dict[str, Any]) -> None:
        """Take rows at the offset at which they are said to begin."""
        received = self.runs.setdefault(run, Received())
        files = content.get("files") or {}
        history = files.get("wandb-history.jsonl")
        if history:
            received.lines[history["offset"] :] = history["content"]
        for line in (files.get("wandb-summary.json") or {}).get("content", []):
            received.summary = json.loads(line)
        if content.get("complete"):
            received.exit_code = content.get("exitcode")

    def _bucket(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        return {
            "id": f"id-{name}", "name": name, "displayName": run.said.get("displayName") or name, "description": None,
            "config": run.said.get("config") or "{}", "summaryMetrics": json.dumps(run.summary), "sweepName": None,
            "historyLineCount": len(run.lines), "logLineCount": 0, "eventsLineCount": 0,
            "historyTail": json.dumps(run.lines[-1:]), "eventsTail": "[]", "tags": run.said.get("tags") or [],
            "notes": run.said.get("notes"), "wandbConfig": json.dumps({"t": 1}), "project": _project(run.said),
        }  # fmt: skip

    def _answer_RunResumeStatus(self, values: dict[str, Any]) -> dict[str, Any]:
        known = values["name"] in self.runs
        return {"model": {**_project(values), "bucket": self._bucket(values["name"]) if known else None}}

    def _answer_UpsertBucket(self, values: dict[str, Any]) -> dict[str, Any]:
        new = values["name"] not in self.runs
        run = self.runs.setdefault(values["name"], Received())
        run.said.update({name: value for name, value in values.items() if value is not None})
        return {"upsertBucket": {"bucket": self._bucket(values["name"]), "inserted": new}}

    def _answer_Viewer(self, values: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "u", "entity": "me", "username": "me", "flags": "{}", "email": "", "teams": {"edges": []}}
        return {"viewer": viewer}

    def _answer_ServerFeaturesQuery(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _answer_OrganizationCoreWeaveOrganizationID(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def _answer_NotifyScriptableRunAlert(self, values: dict[str, Any]) -> dict[str, Any]:
        self.alerts.append((values["title"], values["text"], values["severity"]))
        return {"notifyScriptableRunAlert": {"success": True}}

    def _answer_ArtifactType(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _answer_CreateRunFiles(self, values: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": self._place(values["run"], name)} for name in values["files"]]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}

    def _answer_CreateArtifact(self, values: dict[str, Any]) -> dict[str, Any]:
        said = values["input"]
        name = said.get("artifactCollectionName") or said["artifactCollectionNames"][0]
        self.runs[said["runName"]].artifacts[name] = said
        artifact = {"id": name, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _answer_CreateArtifactManifest(self, values: dict[str, Any]) -> dict[str, Any]:
        file = {"id": "f", "uploadUrl": self._place(values["artifactID"], "manifest.json"), "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def _answer_CreateArtifactFiles(self, values: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {"storagePath": file["name"], "uploadUrl": self._place(file["artifactID"], file["name"]),
             "uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}}
            for file in values["input"]["artifactFiles"]
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _answer_CommitArtifact(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": values["artifactID"], "digest": "d"}}}

    def _place(self, of: str, name: str) -> str:
        return f"{self.url}/storage/{of}/{name}"


def _project(said: dict[str, Any]) -> dict[str, Any]:
    return {"id": "p", "name": said.get("project") or "p", "entity": {"id": "e", "name": said.get("entity") or "me"}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *arguments: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client went away
            super().handle()

    def _take(self) -> None:
        stand_in: WandbServer = self.server.stand_in
        content = b"".join(self._body())
        if stand_in.silent.is_set():
            stand_in.closed.wait(60)
            self.close_connection = True
            return
        answer: dict[str, Any] = {}
        if self.path.endswith("/graphql") and content:
            asked = json.loads(content)
            name = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            answer = {"data": stand_in.graphql(name[1] if name else "", asked.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            stand_in.stream(self.path.split("/")[-2], json.loads(content))
        elif self.command == "PUT":
            stand_in.files[self.path.removeprefix("/storage/")] = content
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        yield gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    do_GET = do_POST = do_PUT = do_HEAD = _take
