"""A proxy in front of an AWS endpoint that counts the requests of each service and operation.

Counts are what AWS bills by: requests of SQS by units of 64 KB, DynamoDB's writes by KB and reads by 4 KB,
S3's by kind. Sizes are computed from requests and answers as the billed item sizes are. What is written is counted by kind of item too.
"""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SQS_UNIT = 64 * 1024


class Counting(ThreadingHTTPServer):
    """Listens on a port of its own and passes everything on to `upstream`."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.counts: Counter[str] = Counter()
        self.indexed: set[str] = set()
        self.spans: list[tuple[float, float]] = []
        self.hold = 0.0
        """Seconds that an answer takes at least, so that calls go side by side as they would at AWS."""
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take(self) -> Counter[str]:
        """The counts since the last time, and begins anew."""
        with self.lock:
            counts, self.counts = self.counts, Counter()
        return counts

    def take_rounds(self) -> int:
        """How many calls were waited for one after the other since the last time, however many went side by side."""
        with self.lock:
            spans, self.spans = self.spans, []
        return rounds(spans)

    def note(self, name: str, request: Any, answer: Any) -> None:
        """Counts one request that succeeded."""
        with self.lock:
            self.counts[name] += 1
            if name.startswith("dynamodb:"):
                self._dynamodb(name.split(":")[1], request, answer)
            elif name.startswith("sqs:Send"):
                bodies = [request["MessageBody"]] if "MessageBody" in request else [
                    entry["MessageBody"] for entry in request.get("Entries", [])
                ]
                units = max(1, math.ceil(sum(len(b.encode()) for b in bodies) / SQS_UNIT))
                self.counts["sqs messages"] += len(bodies)
                self.counts["sqs send units"] += units

    def _dynamodb(self, operation: str, request: dict[str, Any], answer: dict[str, Any]) -> None:
        if operation in ("UpdateItem", "PutItem", "DeleteItem"):
            self._write(request, 1)
        elif operation == "TransactWriteItems":
            for entry in request["TransactItems"]:
                self._write(next(iter(entry.values())), 2)
        elif operation in ("GetItem", "BatchGetItem", "Query"):
            items = [answer["Item"]] if "Item" in answer else answer.get("Items", [])
            items = items or [i for table in answer.get("Responses", {}).values() for i in table]
            # A consistent read costs a unit for each 4 KB, an eventual one half of it; one that finds nothing, one.
            sizes = [sum(len(name) + _size(value) for name, value in item.items()) for item in items]
            if operation == "Query":
                sizes = [sum(sizes)]
            units = sum(max(1, math.ceil(size / 4096)) for size in sizes) or 1
            # A key for which nothing is found is billed too.
            asked = sum(len(table["Keys"]) for table in request.get("RequestItems", {}).values())
            self.counts["dynamodb read units"] += units + max(0, asked - max(1, len(sizes)))

    def _write(self, request: dict[str, Any], factor: int) -> None:
        values = request.get("ExpressionAttributeValues", request.get("Item", {})) | request.get("Key", {})
        # Placeholders stand for attribute names, which are about as long.
        size = sum(len(name) + _size(value) for name, value in values.items())
        units = factor * max(1, math.ceil(size / 1024))
        self.counts["dynamodb write units"] += units
        self.counts[f"written: {_kind(request)}"] += units
        # An index is written when an item enters it or moves in it.
        key = json.dumps(request.get("Key", {}), sort_keys=True)
        expression = request.get("UpdateExpression", "")
        for index in ("gsi1", "gsi2"):
            listed = f"SET" in expression and index in expression.split("REMOVE")[0]
            if listed and (index + key) not in self.indexed:
                self.indexed.add(index + key)
                self.counts["dynamodb write units"] += factor


def _size(value: Any) -> int:
    """Bytes of an attribute's value as they are billed (DynamoDB Developer Guide, "Item sizes and formats")."""
    kind, inner = next(iter(value.items()))
    if kind == "B":
        return len(inner) * 3 // 4
    if kind == "N":
        return len(inner) // 2 + 1
    if kind == "M":
        return 3 + sum(len(name) + _size(part) + 1 for name, part in inner.items())
    if kind == "L":
        return 3 + sum(_size(part) + 1 for part in inner)
    return len(inner.encode()) if isinstance(inner, str) else 1


def _kind(request: dict[str, Any]) -> str:
    """What kind of item is written: the words of its partition key, and of a correlation which."""
    key = request.get("Key") or request.get("Item") or {}
    words = [w for w in str(key.get("pk", {}).get("S", "")).split("#") if not w.isdigit()]
    return " ".join(words[:2] if words[:1] == ["CORRELATION"] else words[:1])


def rounds(spans: list[tuple[float, float]]) -> int:
    """The longest chain of calls of which each began when the one before had ended."""
    marks = sorted([(end, 0, i) for i, (_, end) in enumerate(spans)] + [(start, 1, i) for i, (start, _) in enumerate(spans)])
    longest, chains = 0, [0] * len(spans)
    for _, begins, i in marks:
        if begins:
            chains[i] = longest + 1
        else:
            longest = max(longest, chains[i])
    return longest


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Counting

    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""

    def _pass(self) -> None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = self._chunks()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        began = time.monotonic()
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "transfer-encoding", "content-length")}
        upstream.request(self.command, self.path, body=body, headers=headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        time.sleep(max(0.0, began + self.server.hold - time.monotonic()))
        with self.server.lock:
            self.server.spans.append((began, time.monotonic()))
        # A write whose condition did not hold is billed like any other (DynamoDB Developer Guide, "Capacity unit consumption").
        refused = answer.status == 400 and b"ConditionalCheckFailed" in content
        if answer.status < 300 or refused:
            self.server.note(*_named(self.command, self.path, self.headers, body, content))
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(key, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _pass


def _named(method: str, path: str, headers: Any, body: bytes, content: bytes) -> tuple[str, Any, Any]:
    """The request's name, `service:Operation`, with what was asked and answered where that is JSON."""
    if target := headers.get("X-Amz-Target"):
        service, operation = target.split(".")
        name = {"DynamoDB_20120810": "dynamodb", "AmazonSQS": "sqs"}.get(service, service)
        return f"{name}:{operation}", json.loads(body or b"{}"), json.loads(content or b"{}")
    if "x-www-form-urlencoded" in headers.get("Content-Type", ""):
        action = parse_qs(body.decode()).get("Action", ["?"])[0]
        return f"query:{action}", None, None
    scope = headers.get("Authorization", "").split("Credential=")[-1].split("/")
    service = scope[3] if len(scope) > 3 else "s3"
    listing = "list-type" in path or path.split("?")[-1].split("&")[0].split("=")[0] == "versions"
    return f"{service}:{'LIST' if listing else method}", None, None
