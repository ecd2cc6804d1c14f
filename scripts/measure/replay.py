"""The endpoint that AWS calls go to while starts are measured: `replay` of `shared/measure`, as a process.

It is compiled because answering in Python takes longer than what is measured.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Done:
    """What was asked since a tape began."""

    calls: list[str]
    seconds: float
    """From having read each call to having answered it."""


class Replay:
    """A running endpoint. Use it in a `with` block: the process is ended at its end."""

    def __init__(self, binary: Path, upstream: str) -> None:
        self.process = subprocess.Popen([str(binary), upstream], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def play(self, tape: str, recording: bool) -> Done:
        """Begins a tape from its start; what was done with the one before."""
        with urllib.request.urlopen(f"{self.url}/-/play?{tape}{'&record' if recording else ''}", timeout=10) as answer:
            done = json.loads(answer.read())
        return Done(done["calls"], done["micros"] / 1e6)
