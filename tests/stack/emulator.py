"""Starts and ends the AWS emulator with the recording hook; gives clients for it.

In: a folder for logs and, for the fault drill, the port of the proxy through which functions shall call AWS. Out: a running
emulator with IAM enforced (AUTH=true), bound to loopback, in its own process group so that the functions' processes it
starts end with it. Without AWS_ENDPOINT_URL in its environment its functions would call the real AWS: it is always set, and
nothing of the caller's own AWS settings is handed down.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from paths import OUT, tools

ACCOUNT = "123456789012"
REGION = "us-east-1"
START_SECONDS = 60
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _die_with_parent() -> None:
    """In the child: end when the test's process is gone, however it ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Emulator:
    """A running emulator. Use it as a context manager."""

    port: int = field(default_factory=free_port)
    functions_port: int | None = None  # where functions send their calls; the emulator itself when None
    account: str = ACCOUNT
    name: str = "emulator"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return OUT / f"{self.name}.log"

    def __enter__(self) -> Emulator:
        signal.signal(signal.SIGTERM, _to_exit)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        temporary = OUT / "tmp" / self.name
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        python = tools() / "emulator" / "bin" / "python"
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.functions_port or self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "MINISTACK_ACCOUNT_ID": self.account,
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "RUST_BACKTRACE": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(python), "-B", str(Path(__file__).with_name("shim.py"))],
                env=environment, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=_die_with_parent,
            )
        atexit.register(self.stop)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        tail = self.log.read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"the emulator did not start within {START_SECONDS} s:\n{tail}")

    def stop(self) -> None:
        """Ends it and the functions' processes it started; does nothing when it has ended."""
        process, self.process = self.process, None
        if process is None:
            return
        for sign, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            try:
                os.killpg(process.pid, sign)
                process.wait(seconds)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        shutil.rmtree(OUT / "tmp" / self.name, ignore_errors=True)

    def bootstraps(self, function: str = "") -> list[int]:
        """Process ids of the functions that run now, or of the one of this name."""
        if self.process is None:
            return []
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                program = (entry / "exe").readlink().name
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            meant = not function or f"AWS_LAMBDA_FUNCTION_NAME={function}".encode() in environment
            if int(parent) == self.process.pid and program == "bootstrap" and meant:
                found.append(int(entry.name))
        return found

    def client(self, service: str, key: tuple[str, str] = ("test", "test"), token: str | None = None,
               region: str = REGION) -> Any:
        """A boto3 client signed with a key; without one, the account's root as which the emulator starts."""
        return boto3.client(
            service, endpoint_url=self.url, region_name=region, aws_access_key_id=key[0], aws_secret_access_key=key[1],
            aws_session_token=token,
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=120),
        )

    def trail(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Speaks with the recording hook."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.url}/_trail/{path}", data=data, method="POST" if data else "GET")
        with urllib.request.urlopen(request, timeout=120) as answer:
            told: dict[str, Any] = json.loads(answer.read())
        return told

    def put_records(self, records: list[dict[str, Any]], region: str = REGION) -> None:
        """Puts CloudTrail records on the default bus, as AWS's services do."""
        self.trail("bus", {"records": records, "region": region, "account": self.account})

    def save_calls(self, path: Path | None = None) -> dict[str, Any]:
        """Writes down who called what so far, for the comparison with the policies."""
        told = self.trail("calls")
        if told["broken"]:
            raise RuntimeError(f"the recording hook failed for a call: see {self.log}")
        path = path or OUT / "calls.json"
        path.write_text(json.dumps(told["calls"], indent=1, sort_keys=True) + "\n")
        return told["calls"]


def _to_exit(*_: object) -> None:
    raise SystemExit(143)
