"""Answers of an AWS endpoint, recorded once and given again at once.

What a function's start takes is its own time only when the endpoint answers without delay; an emulator does not.
So each function runs once with its calls passed on to the emulator, and from then on the same calls get the same
answers out of memory.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LEFT_OUT = ("connection", "transfer-encoding", "content-length", "date", "server")


@dataclass
class Tape:
    """The answers to one function's calls."""

    exact: dict[tuple[str, str], list[Any]] = field(default_factory=lambda: defaultdict(list))
    alike: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def keep(self, name: str, body: bytes, answer: Any) -> None:
        """Keeps an answer under what was asked."""
        self.exact[name, _digest(body)].append(answer)
        self.alike[name].append(answer)


class Replay(ThreadingTCPServer):
    """Listens on a port of its own. Records while `recording`, else answers from the current tape."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.lock = threading.Lock()
        self.recording = True
        self.tape = Tape()
        self.calls = 0
        self.given: dict[Any, int] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def play(self, tape: Tape, recording: bool) -> None:
        """Begins a tape from its start."""
        with self.lock:
            self.tape, self.recording, self.calls, self.given = tape, recording, 0, {}

    def answer(self, name: str, body: bytes) -> Any:
        """The next answer to a call like this, the last one again when there are no more."""
        with self.lock:
            key: Any = name
            answers = self.tape.alike.get(name)
            if not answers:
                return 599, [], f"{name} was not recorded".encode()
            # Telling calls of one kind apart takes longer than answering them.
            if len(answers) > 1 and (exact := self.tape.exact.get((name, _digest(body)))):
                key, answers = (name, _digest(body)), exact
            at = self.given.get(key, 0)
            self.given[key] = at + 1
            return answers[min(at, len(answers) - 1)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function that ends hangs up: nothing to tell."""


class _Handler(StreamRequestHandler):
    """HTTP/1.1 as the SDK speaks it. The standard library's handler takes longer for a request than the functions do."""

    disable_nagle_algorithm = True
    rbufsize = 1 << 16
    server: Replay

    def handle(self) -> None:
        """Answers one request after another until the function hangs up."""
        while line := self.rfile.readline():
            self.command, self.path, _ = line.decode().split(" ", 2)
            self.headers = {}
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = header.decode().partition(":")
                self.headers[name.lower()] = value.strip()
            self._serve()

    def _serve(self) -> None:
        body = self._body()
        name = _name(self.command, self.path, self.headers)
        with self.server.lock:
            self.server.calls += 1
            recording = self.server.recording
        if recording:
            status, headers, content = self._pass_on(body)
            with self.server.lock:
                self.server.tape.keep(name, body, (status, headers, content))
        else:
            status, headers, content = self.server.answer(name, body)
        head = "".join(f"{key}: {value}\r\n" for key, value in headers)
        head = f"HTTP/1.1 {status} -\r\n{head}content-length: {len(content)}\r\n\r\n"
        self.wfile.write(head.encode() + (content if self.command != "HEAD" else b""))

    def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k not in LEFT_OUT}
        upstream.request(self.command, self.path, body=body, headers=headers)
        got = upstream.getresponse()
        content = got.read()
        upstream.close()
        return got.status, [(k, v) for k, v in got.getheaders() if k.lower() not in LEFT_OUT], content

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


def _name(method: str, path: str, headers: Any) -> str:
    """What a call is, without the names that differ from run to run: target or first part of the path, and query."""
    if target := headers.get("x-amz-target"):
        return str(target)
    parts = urlsplit(path)
    query = ",".join(sorted(key for key, _ in parse_qsl(parts.query, keep_blank_values=True)))
    depth = "below" if parts.path.strip("/").count("/") else "at"
    return f"{method} {depth} {parts.path.strip('/').split('/')[0]} {query}"


CHANGES = re.compile(rb"\d{4}-\d\d-\d\dT[0-9:.]+Z|\b\d{10,}\b|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Times and random ids, which differ from run to run."""


def _digest(body: bytes) -> str:
    try:
        # The SDK writes the members of a map in another order each time.
        body = json.dumps(json.loads(body), sort_keys=True).encode()
    except ValueError:
        pass
    return hashlib.sha256(CHANGES.sub(b"?", body)).hexdigest()
