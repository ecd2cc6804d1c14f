"""A Lambda function's process driven by a local Runtime API.

What it speaks is described in the AWS Lambda Developer Guide, "Using the Lambda runtime API": the process asks
for the next invocation, and posts its response or its error. One `Function` is one process, as on Lambda one
execution environment is: invocations come one after the other.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PREFIX = "/2018-06-01/runtime/"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Answer:
    """What a function answered: its value, or the error it reported."""

    value: Any
    error: Any
    seconds: float


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.invocations: queue.Queue[tuple[str, bytes, int]] = queue.Queue()
        self.answers: dict[str, queue.Queue[Answer]] = {}
        self.asked = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function that is ended hangs up: nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""

    def do_GET(self) -> None:
        self.server.asked.set()
        request_id, body, deadline = self.server.invocations.get()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(deadline))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:local")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.removeprefix(PREFIX).split("/")
        value = json.loads(body) if body else None
        if parts[0] == "init":
            for waiting in self.server.answers.values():
                waiting.put(Answer(None, value, 0.0))
        elif parts[-1] in ("response", "error"):
            error = parts[-1] == "error"
            self.server.answers[parts[1]].put(Answer(None if error else value, value if error else None, 0.0))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Function:
    """A running function. Use it in a `with` block: the process is ended at its end."""

    def __init__(self, binary: Path, environment: dict[str, str], log: Path, timeout: float = 60.0) -> None:
        self.server = _Server()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.timeout = timeout
        self.log = log.open("ab")
        whole = {
            "PATH": os.environ["PATH"],
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_address[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": binary.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_GROUP_NAME": "local",
            "AWS_LAMBDA_LOG_STREAM_NAME": "local",
            "AWS_REGION": "us-east-1",
            **environment,
        }
        self.used: resource.struct_rusage | None = None
        self.started = time.perf_counter()
        self.process = subprocess.Popen([str(binary)], env=whole, stdout=self.log, stderr=self.log)

    def __enter__(self) -> "Function":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        _, status, self.used = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.server.shutdown()
        self.server.server_close()
        self.log.close()

    def invoke(self, event: Any) -> Answer:
        """Hands over one event and waits for the answer."""
        request_id = str(uuid.uuid4())
        answer: queue.Queue[Answer] = queue.Queue()
        self.server.answers[request_id] = answer
        deadline = int((time.time() + self.timeout) * 1000)
        begun = time.perf_counter()
        self.server.invocations.put((request_id, json.dumps(event).encode(), deadline))
        while True:
            try:
                got = answer.get(timeout=0.5)
                break
            except queue.Empty:
                if self.process.poll() is not None:
                    raise RuntimeError(f"the function ended with {self.process.returncode}:\n{Path(self.log.name).read_text()[-3000:]}") from None
                if time.perf_counter() - begun > self.timeout:
                    raise TimeoutError(f"no answer within {self.timeout} s: see {self.log.name}") from None
        del self.server.answers[request_id]
        return Answer(got.value, got.error, time.perf_counter() - begun)

    def cpu_seconds(self) -> float:
        """CPU time of the process so far, user and system (proc(5), `stat`)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def total_cpu_seconds(self) -> float:
        """CPU time of its whole life, user and system, exact to the microsecond. After the `with` block."""
        if self.used is None:
            raise RuntimeError("it still runs")
        return self.used.ru_utime + self.used.ru_stime

    def peak_bytes(self) -> int:
        """Most memory the process had resident (proc(5), `status`, `VmHWM`)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the kernel does not tell VmHWM")


def sqs_event(bodies: list[str], queue_arn: str = "arn:aws:sqs:us-east-1:123456789012:local") -> dict[str, Any]:
    """A batch as Lambda's SQS event source hands it over (Lambda Developer Guide, "Using Lambda with Amazon SQS")."""
    now = str(int(time.time() * 1000))

    def record(body: str) -> dict[str, Any]:
        return {
            "messageId": str(uuid.uuid4()),
            "receiptHandle": str(uuid.uuid4()),
            "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": now,
                "SenderId": "local",
                "ApproximateFirstReceiveTimestamp": now,
            },
            "messageAttributes": {},
            "md5OfBody": "",
            "eventSource": "aws:sqs",
            "eventSourceARN": queue_arn,
            "awsRegion": "us-east-1",
        }

    return {"Records": [record(body) for body in bodies]}
