"""Where things lie: the checkout, the emulator's tools, and the folder for everything a run writes."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
OUT = TARGET / "stack"


def tools() -> Path:
    """The folder of installed tools, as the Makefile names it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TOOLS") or cache / "cloudsentinel" / "tools")
