"""The fault drill: 1,000 events through the deployed stack while everything that may go wrong on AWS does.

Functions are killed at random points (SIGKILL of their processes), every event comes twice and in another order, messages
between the stages are repeated and delayed, DynamoDB and SQS throttle, and answers of writes get lost (proxy.py). Afterwards:
every alert exists once and is the one `sentinel scan` finds in the same events, the archive read back gives every record once,
each key that had to be contained was deactivated by one call, and the dead-letter queues hold only the poison. Prints the
counts and the seed; the exit status tells.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import checks
from account import Intruder, attack_records, key_states, make_intruder
from checks import passed, same, step
from emulator import Emulator, free_port
from paths import OUT, ROOT, TARGET
from pipeline import QUEUES, Pipeline, shuffled
from proxy import Faults, Proxy

EVENTS = 1000
INTRUDERS = 6
FILE_RECORDS = 40
POISON = "poison of the drill"
FAULTS = Faults(throttle=0.05, duplicate=0.2, delay=0.2, lost_answer=0.01)
# Shorter than six timeouts, so that what a killed function held comes back within the drill; harsher than the template.
VISIBILITY_SECONDS = 20
SENDING_SECONDS = 60
# How long killing and faults go on after the last event was sent.
AFTER_SECONDS = 20
SETTLE_SECONDS = 240


class Killer(threading.Thread):
    """Ends functions' processes at random, without warning."""

    def __init__(self, emulator: Emulator, seed: int) -> None:
        super().__init__(daemon=True, name="killer")
        self._emulator, self._chance = emulator, random.Random(seed)
        self._ended = threading.Event()
        self.kills = 0

    def run(self) -> None:
        while not self._ended.wait(self._chance.uniform(0.3, 2.0)):
            running = self._emulator.bootstraps()
            if not running:
                continue
            try:
                os.kill(self._chance.choice(running), signal.SIGKILL)
                self.kills += 1
            except ProcessLookupError:
                continue  # it ended between the look and the kill

    def stop(self) -> None:
        self._ended.set()
        self.join(5)


def simulated(seed: int, count: int) -> list[dict[str, Any]]:
    """Records of a simulated company with an attack at the end, the newest so many, all before now."""
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 25 * 3600))
    for people in (15, 25, 40, 80):  # how busy a day is depends on the seed and on the day of the week
        command = [str(TARGET / "debug" / "sentinel"), "simulate", "--seed", str(seed), "--people", str(people), "--days", "1",
                   "--attack", "--start", start]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        records = [json.loads(line) for line in told.splitlines()]
        if len(records) >= count:
            return records[-count:]
    raise RuntimeError(f"the simulation gave {len(records)} records, {count} are needed")


def scanned(records: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """The alerts that `sentinel scan` finds in the same records, by id."""
    path = OUT / "drill.ndjson"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return scan(path)[0]


def scan(path: Path) -> tuple[dict[str, tuple[Any, ...]], dict[str, Any]]:
    """The alerts that `sentinel scan` finds in a file or folder, by id, and its summary."""
    told = OUT / "drill-summary.json"
    command = [str(TARGET / "debug" / "sentinel"), "scan", "--format", "ndjson", "--min-level", "informational"]
    alerts = subprocess.run([*command, "--summary", str(told), str(path)], check=True, capture_output=True, text=True).stdout
    return alerts_by_id([json.loads(line) for line in alerts.splitlines()]), json.loads(told.read_text())


def alerts_by_id(alerts: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """What of an alert must be the same however its events came."""
    found: dict[str, tuple[Any, ...]] = {}
    for a in alerts:
        if a["alert_id"] in found:
            raise checks.CheckFailed(f"NOT: every alert exists once: {a['alert_id']}")
        found[a["alert_id"]] = (a["rule"]["title"], a["level"], a["principal"], a["event_count"], sorted(a["event_ids"]))
    return found


def send(pipeline: Pipeline, records: list[dict[str, Any]], chance: random.Random) -> Counter[str]:
    """Every record twice, by bus or file (what only reads: by file, as with the template's default rule), in other orders."""
    parcels: list[tuple[str, list[dict[str, Any]]]] = []
    for _ in range(2):
        ways: dict[str, list[dict[str, Any]]] = {"bus": [], "file": []}
        for made in shuffled(records, chance):
            ways["file" if made.get("readOnly") or chance.random() < 0.3 else "bus"].append(made)
        for way, size in (("bus", 10), ("file", FILE_RECORDS)):
            parcels += [(way, ways[way][n : n + size]) for n in range(0, len(ways[way]), size)]
    chance.shuffle(parcels)
    counts: Counter[str] = Counter()
    for n, (way, part) in enumerate(parcels):
        if way == "bus":
            pipeline.emulator.put_records(part)
        else:
            pipeline.put_file(part, f"drill{n}")
        counts[f"records by {way}"] += len(part)
        if n == len(parcels) // 2:
            for queue in QUEUES:
                pipeline.send(queue, [POISON])
        time.sleep(chance.uniform(0, 2 * SENDING_SECONDS / len(parcels)))
    return counts


def archived(pipeline: Pipeline) -> Path:
    """A folder with the archive's objects."""
    folder = OUT / "drill-archive"
    shutil.rmtree(folder, ignore_errors=True)
    s3, bucket = pipeline.emulator.client("s3"), pipeline.stack.outputs["DataBucketName"]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="archive/")
    for entry in (e for page in pages for e in page.get("Contents", [])):
        path = folder / entry["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
    return folder


def contain_calls(emulator: Emulator) -> Counter[str]:
    """Calls that deactivated a key and were carried out, by key."""
    calls: Counter[str] = Counter()
    for change in emulator.trail("changes")["changes"]:
        asked = change["record"]["requestParameters"] or {}
        if change["record"]["eventName"] == "UpdateAccessKey" and asked.get("status") == "Inactive" and change["status"] == 200:
            calls[asked["accessKeyId"]] += 1
    return calls


def verify(pipeline: Pipeline, records: list[dict[str, Any]], intruders: list[Intruder],
           expected: dict[str, tuple[Any, ...]]) -> Counter[str]:
    """Compares what is there with what must be there."""
    emulator, counts = pipeline.emulator, Counter[str]()
    found = alerts_by_id([pipeline.api.get(f"/alerts/{a['alert_id']}") for a in pipeline.api.all("/alerts", level="informational")])
    counts["alerts"], counts["alerts wanted"] = len(found), len(expected)
    same(found, expected, f"every alert exists once, and is what `sentinel scan` finds ({len(found)})")
    again, told = scan(archived(pipeline))
    counts["archived records"] = told["records"] - told["duplicates"]
    whole = {"records": len(records), "conflicting": 0, "malformed": [], "unknown": {}}
    read = {"records": counts["archived records"], **{k: told[k] for k in ("conflicting", "malformed", "unknown")}}
    same(read, whole, f"the archive read back by `sentinel scan` gives every record once ({len(records)})")
    same(again, expected, "and raises the same alerts")
    for who in intruders:
        pipeline.response_in(who.used, "contained", SETTLE_SECONDS)
        same(key_states(emulator, who.name), {who.used: "Inactive", who.other: "Active"}, f"exactly the used key of {who.name} is Inactive")
    calls = contain_calls(emulator)
    counts["containments"] = sum(calls.values())
    same(dict(calls), {who.used: 1 for who in intruders}, f"each containment happened once ({len(intruders)})")
    dead = pipeline.dead()
    counts["dead messages"] = sum(map(len, dead.values()))
    same(dead, {q.replace("Queue", "DeadQueue"): [POISON] for q in QUEUES}, "the dead-letter queues hold only the poison")
    return counts


def run(seed: int) -> Counter[str]:
    """The drill; gives what it counted."""
    chance, port, counts = random.Random(seed), free_port(), Counter[str]()
    OUT.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cargo", "build", "--locked", "--bin", "sentinel"], cwd=ROOT, check=True)
    with Emulator(functions_port=port, name="drill") as emulator, Proxy(port, emulator.port, seed) as proxy:
        step("deploying template.yaml")
        # Behaviour is scored in the order in which events come; what rules find does not depend on it.
        pipeline = Pipeline(emulator, Mode="automatic", HourlyCap="1000", Models="false")
        pipeline.api.login()
        pipeline.hide_for(VISIBILITY_SECONDS)
        intruders = [make_intruder(emulator, f"intruder-{n}") for n in range(INTRUDERS)]
        attacks = [made for who in intruders for made in attack_records(who, chance)]
        records = simulated(seed, EVENTS - len(attacks)) + attacks
        expected = scanned(records)
        step(f"sending {len(records)} events twice with faults and kills")
        killer = Killer(emulator, seed)
        proxy.faults = FAULTS
        killer.start()
        counts += send(pipeline, records, chance)
        time.sleep(AFTER_SECONDS)
        killer.stop()
        proxy.faults = Faults()
        counts["kills"] = killer.kills
        step(f"{killer.kills} functions killed; {dict(proxy.counts)}; letting it come to rest")
        pipeline.settle(SETTLE_SECONDS, calm=VISIBILITY_SECONDS / 4)
        passed("the queues ran empty")
        counts += verify(pipeline, records, intruders, expected)
        counts += proxy.counts
    for fault in ("kills", "DynamoDB throttled", "SQS throttled", "sends repeated", "sends delayed", "answers lost"):
        checks.check(counts[fault] > 0, f"{fault}: {counts[fault]}")
    return counts


def main() -> int:
    """Runs the drill and prints its counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    seed = parser.parse_args().seed
    print(f"seed {seed}", flush=True)
    try:
        counts = run(seed)
    except checks.CheckFailed as failure:
        print(f"FAILED with seed {seed}: {failure}", file=sys.stderr)
        return 1
    (OUT / "drill.json").write_text(json.dumps({"seed": seed, **counts}, indent=1) + "\n")
    for name, count in sorted(counts.items()):
        print(f"  {count:8}  {name}")
    print(f"all held with seed {seed}, {time.monotonic() - checks.STARTED:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
