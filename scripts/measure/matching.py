"""Prints what matching costs beside parsing alone, as one table.

usage: matching.py [--events N] [--runs N] [--instructions | --load]

Shares of processor time are medians of alternating runs (`functions/detect/benches/table.rs`). With `--instructions`,
valgrind counts instead how many instructions a record takes, which a busy machine does not change. With `--load` it
says what loading the rules takes on one processor, and on all.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ["cargo", "bench", "-p", "sentinel-detect", "--bench", "table"]


def built() -> str:
    """Builds the benchmark and names its file."""
    lines = subprocess.run([*BENCH, "--no-run", "--message-format", "json"], cwd=ROOT, check=True,
                           stdout=subprocess.PIPE, text=True).stdout.splitlines()
    made = [json.loads(line) for line in lines if '"executable"' in line]
    return next(m["executable"] for m in made if m.get("executable") and m["target"]["name"] == "table")


def instructions(binary: str, rules: str, way: str, events: int) -> int:
    """Instructions for one pass over so many events, loading left out."""
    with tempfile.NamedTemporaryFile() as out:
        counted = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", "--toggle-collect=table::counted",
             binary, "--events", str(events), "--count", rules, way],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr
    return int(re.search(r"Collected : (\d+)", counted)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--load", action="store_true")
    args = parser.parse_args()
    binary = built()
    if args.load:
        print("on one processor", flush=True)
        subprocess.run(["taskset", "-c", "0", binary, "--load"], check=True)
        print("on all of them", flush=True)
        subprocess.run([binary, "--load"], check=True)
        return
    if not args.instructions:
        subprocess.run([binary, "--events", str(args.events or 100_000), "--runs", str(args.runs)], check=True)
        return
    events = args.events or 4_365
    listed = subprocess.run([binary, "--events", "10", "--runs", "1"], check=True, stdout=subprocess.PIPE, text=True)
    rows = [(fields[0], fields[2]) for line in listed.stdout.splitlines()[2:] if (fields := line.split())]
    parse = instructions(binary, rows[0][0], "parse", events)
    print(f"{'rules':<14}{'way':>8}{'parse':>10}{'both':>10}{'share':>8}   instructions a record")
    for name, way in rows:
        both = instructions(binary, name, way, events)
        print(f"{name:<14}{way:>8}{parse // events:>10}{both // events:>10}{parse / both:>8.3f}")


if __name__ == "__main__":
    main()
