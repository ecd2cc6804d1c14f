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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class Replay(ThreadingHTTPServer):
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
            key: Any = (name, _digest(body))
            answers = self.tape.exact.get(key)
            if not answers:
                key, answers = name, self.tape.alike.get(name)
            if not answers:
                return 599, [], f"{name} was not recorded".encode()
            at = self.given.get(key, 0)
            self.given[key] = at + 1
            return answers[min(at, len(answers) - 1)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function that ends hangs up: nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Replay

    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""

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
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in LEFT_OUT}
        upstream.request(self.command, self.path, body=body, headers=headers)
        got = upstream.getresponse()
        content = got.read()
        upstream.close()
        return got.status, [(k, v) for k, v in got.getheaders() if k.lower() not in LEFT_OUT], content

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve


def _name(method: str, path: str, headers: Any) -> str:
    """What a call is, without the names that differ from run to run: target or first part of the path, and query."""
    if target := headers.get("X-Amz-Target"):
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
