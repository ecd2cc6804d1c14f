"""A proxy between the functions and the emulator that makes AWS misbehave as AWS does, by a seed.

In: the functions' signed requests. Out: the emulator's answers, except that by chance DynamoDB and SQS throttle, an SQS send
waits (so that messages change order) or is delivered once more later, and the answer to a write that was carried out is lost.
Requests are passed on byte by byte: their signatures cover host and body. Nothing happens until `faults` is set.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass

READ_SECONDS = 120


@dataclass(frozen=True)
class Faults:
    """How likely each fault is, and how long messages are held."""

    throttle: float = 0.0  # of DynamoDB and SQS requests
    duplicate: float = 0.0  # of SQS sends
    delay: float = 0.0  # of SQS sends
    lost_answer: float = 0.0  # of DynamoDB writes and SQS sends that were carried out
    delay_seconds: float = 1.5


class Proxy:
    """The proxy, in a thread with its own event loop."""

    def __init__(self, port: int, upstream: int, seed: int) -> None:
        self.port, self.upstream = port, upstream
        self.faults = Faults()
        self.counts: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="proxy")
        self._ready = threading.Event()
        self._later: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _end(self) -> None:
        """Ends what still runs, so that no connection outlives the proxy."""
        running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 24))
        self._ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await _request(reader, writer)
                if request is None:
                    break
                writer.write(await self._answer(*request))
                await writer.drain()
        except asyncio.CancelledError:
            return  # the proxy ends
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            self.counts["connections cut"] += 1  # a killed function ends its connection in the middle
        finally:
            writer.close()

    async def _answer(self, head: bytes, body: bytes) -> bytes:
        target = _header(head, b"x-amz-target").decode()
        service, _, action = target.partition(".")
        sends = service == "AmazonSQS" and action in ("SendMessage", "SendMessageBatch")
        faulty = service.startswith("DynamoDB") or service == "AmazonSQS"
        faults, chance = self.faults, self._chance
        self.counts["requests"] += 1
        if faulty and chance.random() < faults.throttle:
            return self._throttled(service)
        if sends and chance.random() < faults.delay:
            self.counts["sends delayed"] += 1
            await asyncio.sleep(chance.uniform(0.1, faults.delay_seconds))
        answer = await self._forward(head, body)
        worked = answer.startswith(b"HTTP/1.1 200")
        if sends and worked and chance.random() < faults.duplicate:
            self.counts["sends repeated"] += 1
            task = asyncio.ensure_future(self._again(head, body, chance.uniform(0.1, 2 * faults.delay_seconds)))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
        writes = sends or action in ("UpdateItem", "PutItem", "DeleteItem", "TransactWriteItems")
        if faulty and writes and worked and chance.random() < faults.lost_answer:
            self.counts["answers lost"] += 1
            return _error(500, {"__type": "InternalServerError", "message": "injected: the answer was lost"})
        return answer

    def _throttled(self, service: str) -> bytes:
        if service.startswith("DynamoDB"):
            self.counts["DynamoDB throttled"] += 1
            kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
            return _error(400, {"__type": kind, "message": "injected: throughput exceeded"})
        self.counts["SQS throttled"] += 1
        return _error(400, {"__type": "com.amazonaws.sqs#RequestThrottled", "message": "injected: request throttled"})

    async def _again(self, head: bytes, body: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._forward(head, body)

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        """Sends a request on its own connection and reads the whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream, limit=1 << 24)
        try:
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
            writer.write(b"\r\n".join([*lines[:-2], b"Connection: close", b"", b""]) + body)
            await writer.drain()
            answer = await asyncio.wait_for(reader.read(-1), READ_SECONDS)
        finally:
            writer.close()
        top, _, rest = answer.partition(b"\r\n\r\n")
        kept = [line for line in top.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        return b"\r\n".join(kept) + b"\r\n\r\n" + rest


def _error(status: int, told: dict[str, str]) -> bytes:
    body = json.dumps(told).encode()
    return (
        f"HTTP/1.1 {status} Injected\r\nContent-Type: application/x-amz-json-1.0\r\n"
        f"x-amzn-requestid: injected\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, bytes] | None:
    """A request's head (with the empty line) and its body as sent; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    if _header(head, b"expect").lower() == b"100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if _header(head, b"transfer-encoding").lower() != b"chunked":
        return head, await reader.readexactly(int(_header(head, b"content-length") or 0))
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        body += line + await reader.readexactly(size + 2)
        if size == 0:
            return head, body
