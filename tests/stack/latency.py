"""Event to alert and event to contained key on the emulator, with our own code's share told apart from the emulator's.

Each run: a user's key makes one call that a high rule matches; measured until the alert is written and until IAM answered the
call that deactivated the key. The emulator's share is the time it took to answer the functions' calls; our own is the CPU time
of the functions' processes. What is left is waiting: the emulator's polling of queues, its hand-over to functions, and the
mode of its event source mappings. The emulator says nothing about AWS; compare shares, not totals. Prints JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import checks
from account import ADMINISTRATOR, make_intruder
from emulator import Emulator
from paths import OUT
from pipeline import FUNCTIONS, Pipeline

RUNS = 50
TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pids: list[int]) -> float:
    """CPU seconds used so far by processes."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def one(pipeline: Pipeline, name: str) -> dict[str, float]:
    """One attack: seconds to the alert and to the contained key, and the shares."""
    emulator = pipeline.emulator
    emulator.trail("switch", {"on": False, "timeline": False})
    who = make_intruder(emulator, name)
    pipeline.settle(calm=0.5)
    emulator.trail("timeline")
    emulator.trail("switch", {"on": True, "timeline": True})
    roles = {pipeline.role(f) for f in FUNCTIONS if f not in ("Dashboard", "Watch", "Backtest")} | {pipeline.own_role()}
    enrich, own = pipeline.role("Enrich"), pipeline.own_role()
    pids = emulator.bootstraps()
    used, started = cpu(pids), time.time()
    emulator.client("iam", who.keys[0]).attach_user_policy(UserName=who.victim, PolicyArn=ADMINISTRATOR)
    calls: list[dict[str, Any]] = []

    def found(principal: str, action: str, alert: bool) -> dict[str, Any] | None:
        made = (c for c in calls if c["principal"] == principal and c["status"] == 200 and c["at"] >= started)
        return next((c for c in made if c["action"].startswith(action) and (c["alert"] or not alert)), None)

    def contained() -> dict[str, Any] | None:
        calls.extend(emulator.trail("timeline")["calls"])
        return found(own, "iam:UpdateAccessKey", alert=False)

    end = checks.wait(f"{name} is contained", contained, 60, 0.05)
    wrote = ("dynamodb:TransactWriteItems", "dynamodb:UpdateItem", "dynamodb:PutItem")
    alerts = [c for c in (found(enrich, action, alert=True) for action in wrote) if c]
    if not alerts:
        raise checks.CheckFailed(f"NOT: enrich wrote the alert: {sorted({(c['principal'], c['action']) for c in calls})}")
    within = [c["seconds"] for c in calls if c["principal"] in roles and started <= c["at"] <= end["at"]]
    return {
        "event to alert": min(c["at"] for c in alerts) - started,
        "event to contained key": end["at"] - started,
        "of it emulator answering functions": sum(within),
        "of it CPU of our functions": cpu(sorted({*pids, *emulator.bootstraps()})) - used,
        "calls of our functions": float(len(within)),
    }


def main() -> int:
    """Measures and prints p50 and p95."""
    OUT.mkdir(parents=True, exist_ok=True)
    with Emulator(name="latency") as emulator:
        pipeline = Pipeline(emulator, release=True, Mode="automatic", HourlyCap="1000")
        one(pipeline, "warm-up")
        runs = [one(pipeline, f"person-{n}") for n in range(RUNS)]
    told = {}
    for name in runs[0]:
        values = sorted(run[name] for run in runs)
        told[name] = {"p50": round(statistics.median(values), 4), "p95": round(values[max(0, -(-95 * len(values) // 100) - 1)], 4)}
    (OUT / "latency.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps({"runs": RUNS, "unit": "seconds", **told}, indent=1))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except checks.CheckFailed as failure:
        print(f"FAILED {failure}", file=sys.stderr)
        sys.exit(1)
