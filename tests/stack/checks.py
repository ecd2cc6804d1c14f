"""Says what was checked, with the evidence where it does not hold, and waits for what takes time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
# Seconds until what has not happened counts as lost. A crowded machine is several times slower than a quiet one.
PATIENCE = 300.0
STARTED = time.monotonic()


class CheckFailed(AssertionError):
    """Something that must hold does not."""


def passed(text: str) -> None:
    """Says that something was found to hold."""
    print(f"  ok   {time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


def step(text: str) -> None:
    """Says what comes next."""
    print(f"{time.monotonic() - STARTED:13.1f} s  {text}", flush=True)


def check(holds: bool, text: str, evidence: Any = None) -> None:
    """Fails with the evidence unless something holds."""
    if not holds:
        raise CheckFailed(f"NOT: {text}\n{evidence!r}"[:4000])
    passed(text)


def same(found: Any, wanted: Any, text: str) -> None:
    """Fails unless two values are equal; shows the first difference."""
    if found != wanted:
        raise CheckFailed(f"NOT: {text}\n{difference(found, wanted)}"[:4000])
    passed(text)


def difference(found: Any, wanted: Any, path: str = "") -> str:
    """Where two values first differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys(), key=str):
            if found.get(key) != wanted.get(key):
                return difference(found.get(key), wanted.get(key), f"{path}.{key}")
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for n, (a, b) in enumerate(zip(found, wanted, strict=True)):
            if a != b:
                return difference(a, b, f"{path}[{n}]")
    return f"{path or 'value'}: found {found!r}\n  wanted {wanted!r}"


def wait(what: str, probe: Callable[[], T | None], seconds: float = PATIENCE, every: float = 0.25) -> T:
    """Asks until the probe gives something, and gives that; fails when it takes too long."""
    until = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > until:
            raise CheckFailed(f"NOT within {seconds:.0f} s: {what}")
        time.sleep(every)
