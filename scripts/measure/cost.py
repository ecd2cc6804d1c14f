"""What a million events cost, by the way they come: measured on the release binaries, computed with dated prices.

The functions' own binaries run one process each against a local Runtime API (`runtime`), their AWS calls go
through a counting proxy (`counting`) to the emulator, and this script plays Lambda's part between the queues.
A simulated company is learned for some days first; then a day of it comes as trail files, and another one as
events of EventBridge. Out: a table, and with `--write` the same table in docs/cost.md.

What cannot be measured here is an argument with a default, and is said with the result: how long an AWS call is
waited for, how many events a trail file and an SQS batch hold.

Run by `make cost`, which builds the binaries and starts the emulator.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import prices
from counting import SQS_UNIT, Counting
from runtime import Function, sqs_event

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "123456789012"
STAGES = ("detect", "enrich", "respond")
WRITES_AN_EVENT = 0.25
"""What is written is written for a batch, a principal or an alert, never for an event."""
MILLION = 1_000_000
FULL_CPU_MB = 1769
"""Memory at which a function has one vCPU; with less it has that share (Lambda Developer Guide, "Configure function memory")."""


@dataclass
class Spent:
    """What one path's events took."""

    events: int = 0
    invocations: Counter[str] = field(default_factory=Counter)
    cpu: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    receives: int = 0
    deletes: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)
    log_bytes: int = 0


class Stack:
    """The functions over an emulator, with this script in Lambda's place between the queues."""

    def __init__(self, binaries: Path, endpoint: str, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.proxies: dict[str, Counting] = {}
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        session = boto3.Session("test", "test", region_name="us-east-1")
        self.sqs = session.client("sqs", endpoint_url=endpoint)
        self.s3 = session.client("s3", endpoint_url=endpoint)
        dynamodb = session.client("dynamodb", endpoint_url=endpoint)
        for bucket in ("data", "rules", "trail"):
            self.s3.create_bucket(Bucket=f"cost-{bucket}")
        self.urls = {
            name: self.sqs.create_queue(QueueName=f"cost-{name}")["QueueUrl"]
            for stage in (*STAGES, "objects")
            for name in (stage, f"{stage}-dead")
        }
        create_table(dynamodb)
        common = {
            **keys,
            "SENTINEL_TABLE": "cost",
            "SENTINEL_DATA_BUCKET": "cost-data",
            "SENTINEL_RULES_BUCKET": "cost-rules",
            "SENTINEL_OBJECTS_QUEUE_URL": self.urls["objects"],
            "SENTINEL_TRAIL_BUCKETS": "cost-trail",
            "SENTINEL_BUS": "default",
            "SENTINEL_BUS_QUEUE_URL": self.urls["objects"],
            "SENTINEL_ACCOUNT": ACCOUNT,
            "SENTINEL_MODE": "observe",
            "SENTINEL_OWN_ROLE": f"arn:aws:iam::{ACCOUNT}:role/respond",
            "SENTINEL_TOPIC_ARN": f"arn:aws:sns:us-east-1:{ACCOUNT}:alerts",
            "SENTINEL_SCHEDULE_GROUP": "default",
            "SENTINEL_SCHEDULE_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/schedule",
            "SENTINEL_RESPOND_QUEUE_ARN": f"arn:aws:sqs:us-east-1:{ACCOUNT}:cost-respond",
        }
        session.client("sns", endpoint_url=endpoint).create_topic(Name="alerts")
        for stage in STAGES:
            common[f"SENTINEL_{stage.upper()}_QUEUE_URL"] = self.urls[stage]
            common[f"SENTINEL_{stage.upper()}_DEAD_QUEUE_URL"] = self.urls[f"{stage}-dead"]

        def start(name: str, binary: str, **more: str) -> Function:
            self.proxies[name] = Counting(endpoint)
            environment = {**common, **more, "AWS_ENDPOINT_URL": self.proxies[name].url}
            return stack.enter_context(Function(binaries / binary, environment, folder / f"{name}.log"))

        self.functions = {
            "bus": start("bus", "ingest-lambda", SENTINEL_SOURCE="bus"),
            "objects": start("objects", "ingest-lambda", SENTINEL_SOURCE="objects"),
            **{stage: start(stage, f"{stage}-lambda") for stage in STAGES},
        }

    def invoke(self, name: str, bodies: list[str], spent: Spent) -> None:
        """One invocation with a batch; a failed message ends the measurement."""
        self.proxies[name].take_rounds()
        answer = self.functions[name].invoke(sqs_event(bodies))
        spent.rounds[name] += self.proxies[name].take_rounds()
        failures = (answer.value or {}).get("batchItemFailures")
        if answer.error or failures:
            log = (self.folder / f"{name}.log").read_text()[-3000:]
            raise RuntimeError(f"{name} failed: {answer.error or failures}\n{log}")
        spent.invocations[name] += 1
        spent.messages[name] += len(bodies)
        receives = math.ceil(len(bodies) / 10)
        # A batch of more than 64 KB is received as several requests; it is deleted as one.
        spent.receives += max(receives, math.ceil(sum(len(b.encode()) for b in bodies) / SQS_UNIT))
        spent.deletes += receives

    def pump(self, spent: Spent) -> None:
        """Hands messages from queue to function until none is left."""
        moved = True
        while moved:
            moved = False
            for stage in STAGES:
                while batch := self._receive(stage):
                    self.invoke(stage, [m["Body"] for m in batch], spent)
                    entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(batch)]
                    self.sqs.delete_message_batch(QueueUrl=self.urls[stage], Entries=entries)
                    moved = True

    def _receive(self, stage: str) -> list[dict[str, Any]]:
        got = self.sqs.receive_message(QueueUrl=self.urls[stage], MaxNumberOfMessages=10, WaitTimeSeconds=0)
        return got.get("Messages", [])

    def measured(self, name: str, batches: Iterator[tuple[int, list[str]]]) -> Spent:
        """What it takes to handle batches that come to an ingest function, to the end of the pipeline."""
        spent = Spent()
        for proxy in self.proxies.values():
            proxy.take()
        cpu = {n: f.cpu_seconds() for n, f in self.functions.items()}
        logged = self._logged()
        for events, bodies in batches:
            spent.events += events
            self.invoke(name, bodies, spent)
            self.pump(spent)
        for n, function in self.functions.items():
            spent.cpu[n] = function.cpu_seconds() - cpu[n]
        for n, proxy in self.proxies.items():
            counts = proxy.take()
            spent.calls += counts
        spent.log_bytes = self._logged() - logged
        return spent

    def _logged(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*.log"))


def create_table(dynamodb: Any) -> None:
    """The state table, as template.yaml declares it."""
    names = ("pk", "sk", "gsi1pk", "gsi1sk", "gsi2pk", "gsi2sk")

    def keys(pk: str, sk: str) -> list[dict[str, str]]:
        return [{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}]

    dynamodb.create_table(
        TableName="cost",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in names],
        KeySchema=keys("pk", "sk"),
        GlobalSecondaryIndexes=[
            {"IndexName": g, "KeySchema": keys(f"{g}pk", f"{g}sk"), "Projection": {"ProjectionType": "KEYS_ONLY"}}
            for g in ("gsi1", "gsi2")
        ],
    )


def simulated(sentinel: Path, people: int, days: int, into: Path) -> list[dict[str, Any]]:
    """A simulated company's records, in order of time."""
    with into.open("wb") as out:
        subprocess.run(
            [str(sentinel), "simulate", "--people", str(people), "--days", str(days)], stdout=out, check=True
        )
    with into.open() as lines:
        return [json.loads(line) for line in lines]


def as_files(stack: Stack, records: list[dict[str, Any]], size: int, label: str) -> Iterator[tuple[int, list[str]]]:
    """Trail files of `size` events, each told of by one S3 notification."""
    for number, start in enumerate(range(0, len(records), size)):
        part = records[start : start + size]
        key = f"AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/2026/01/05/{ACCOUNT}_CloudTrail_us-east-1_{label}{number:06}.json.gz"
        body = gzip.compress(json.dumps({"Records": part}).encode())
        stack.s3.put_object(Bucket="cost-trail", Key=key, Body=body)
        notification = {
            "Records": [
                {
                    "eventVersion": "2.1",
                    "eventSource": "aws:s3",
                    "awsRegion": "us-east-1",
                    "eventName": "ObjectCreated:Put",
                    "s3": {"bucket": {"name": "cost-trail"}, "object": {"key": key, "size": len(body)}},
                }
            ]
        }
        yield len(part), [json.dumps(notification)]


def as_bus(records: list[dict[str, Any]], size: int) -> Iterator[tuple[int, list[str]]]:
    """Batches of `size` EventBridge events, one an SQS message."""
    for start in range(0, len(records), size):
        part = records[start : start + size]
        bodies = [
            json.dumps(
                {
                    "version": "0",
                    "id": record["eventID"],
                    "detail-type": "AWS API Call via CloudTrail",
                    "source": f"aws.{record['eventSource'].split('.')[0]}",
                    "account": record["recipientAccountId"],
                    "time": record["eventTime"],
                    "region": record["awsRegion"],
                    "resources": [],
                    "detail": record,
                }
            )
            for record in part
        ]
        yield len(part), bodies


def table(path: str, spent: Spent, args: argparse.Namespace) -> tuple[list[str], float]:
    """The rows of one path: what, how much a million events, USD."""
    per = MILLION / spent.events
    rows: list[tuple[str, str, float]] = []

    def add(what: str, amount: float, unit: str, price: float) -> None:
        if amount:
            rows.append((what, f"{amount * per:,.0f} {unit}", amount * per * price))

    arriving = spent.messages["bus"] or spent.messages["objects"]
    whole = "bus" if path == "EventBridge" else "objects"
    add("SQS: events or notifications sent to us", arriving, "requests", prices.SQS_REQUEST)
    add("SQS: receives and deletes", spent.receives + spent.deletes, "requests", prices.SQS_REQUEST)
    add("SQS: sends between stages", spent.calls["sqs send units"], "requests", prices.SQS_REQUEST)
    add("Lambda: requests", sum(spent.invocations.values()), "requests", prices.LAMBDA_REQUEST)
    for name in (whole, *STAGES):
        memory = args.memory[name]
        waiting = spent.rounds[name] * args.wait_ms / 1000
        seconds = spent.cpu[name] * FULL_CPU_MB / min(memory, FULL_CPU_MB) + waiting
        gb_seconds = seconds * memory / 1024
        label = "ingest" if name == whole else name
        add(f"Lambda: {label}, {memory} MB", gb_seconds, "GB-seconds", prices.LAMBDA_GB_SECOND[args.architecture])
    add("DynamoDB: writes", spent.calls["dynamodb write units"], "units", prices.DYNAMODB_WRITE)
    add("DynamoDB: reads", spent.calls["dynamodb read units"], "units", prices.DYNAMODB_READ)
    add("S3: puts and lists", spent.calls["s3:PUT"] + spent.calls["s3:LIST"], "requests", prices.S3_PUT)
    add("S3: gets", spent.calls["s3:GET"], "requests", prices.S3_GET)
    add("CloudWatch: logs and metrics written", spent.log_bytes / 1e6, "MB", prices.LOG_GB / 1e3)
    total = sum(row[2] for row in rows)
    lines = [f"| {what} | {amount} | {usd:.4f} |" for what, amount, usd in rows]
    return [*lines, f"| **{path}, total** | | **{total:.3f}** |"], total


def report(paths: dict[str, Spent], args: argparse.Namespace) -> tuple[str, bool]:
    """The tables, and whether they stay within the bounds."""
    lines: list[str] = []
    good = True
    for path, spent in paths.items():
        cpu = {n: spent.cpu[n] / spent.events * 1e6 for n in spent.cpu if spent.invocations[n]}
        lines += ["", f"### By {path}", "", "| what | for a million events | USD |", "| --- | ---: | ---: |"]
        rows, total = table(path, spent, args)
        lines += rows
        each = ", ".join(f"{'ingest' if n in ('bus', 'objects') else n} {us:.0f}" for n, us in cpu.items())
        lines += ["", f"CPU microseconds an event: {each}. {spent.events:,} events measured."]
        bound = {"S3": 0.25, "EventBridge": 0.90}[path]
        if total > bound:
            good = False
            lines.append(f"**Over the bound of {bound:.2f}.**")
        kinds: Counter[str] = Counter()
        for name, units in spent.calls.items():
            if name.startswith("written: "):
                kinds[name.split()[1].lower()] += units
        writes = spent.calls["dynamodb write units"] / spent.events
        largest = ", ".join(f"{kind} {units / spent.events:.3f}" for kind, units in kinds.most_common(5))
        lines.append(f"Units written to DynamoDB an event: {writes:.3f}; most of them for {largest}.")
        if writes > WRITES_AN_EVENT:
            good = False
            lines.append(f"**Over the bound of {WRITES_AN_EVENT}.**")
    return "\n".join(lines) + "\n", good


def main() -> int:
    """Measures, prints, and says by its exit status whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", type=Path, default=ROOT / "target/release")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--days", type=int, default=6, help="the last two are measured, the others learned")
    parser.add_argument("--file-events", type=int, default=200, help="events of one trail file")
    parser.add_argument("--batch-events", type=int, default=50, help="events of one batch from EventBridge")
    parser.add_argument("--wait-ms", type=float, default=15.0, help="waiting for one AWS call")
    parser.add_argument("--architecture", choices=("arm64", "x86_64"), default="arm64")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/cost.md")
    args = parser.parse_args()
    args.memory = memory_of_functions()
    endpoint = os.environ.get("SENTINEL_TEST_EMULATOR")
    if not endpoint:
        sys.exit("run this by `make cost`: it starts the emulator and says where")
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="cost-") as folder:
        running = Stack(args.binaries, endpoint, Path(folder), stack)
        records = simulated(args.binaries / "sentinel", args.people, args.days, Path(folder) / "records.json")
        by_day: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            by_day.setdefault(record["eventTime"][:10], []).append(record)
        days = [by_day[day] for day in sorted(by_day)][: args.days]
        *learned, files, bus = days
        for number, day in enumerate(learned):
            running.measured("objects", as_files(running, day, args.file_events, f"learn{number}"))
        for proxy in running.proxies.values():
            proxy.hold = args.wait_ms / 1000
        paths = {
            "S3": running.measured("objects", as_files(running, files, args.file_events, "day")),
            "EventBridge": running.measured("bus", as_bus(bus, args.batch_events)),
        }
        peaks = {name: function.peak_bytes() / 2**20 for name, function in running.functions.items()}
        print(json.dumps({path: dict(spent.calls) for path, spent in paths.items()}), file=sys.stderr)
    text, good = report(paths, args)
    text += "\nMost memory resident, MB: " + ", ".join(f"{n} {mb:.0f}" for n, mb in peaks.items()) + ".\n"
    print(text)
    if args.write:
        write(text)
    return 0 if good else 1


def memory_of_functions() -> dict[str, int]:
    """The functions' memory in MB, from template.yaml."""
    text = (ROOT / "template.yaml").read_text()
    names = {"bus": "IngestBus", "objects": "IngestObjects", "detect": "Detect", "enrich": "Enrich", "respond": "Respond"}
    found = {}
    for name, resource in names.items():
        declared = re.search(rf"^  {resource}:\n    Type: AWS::Serverless::Function\n(?:(?!^  \w).*\n)*?      MemorySize: (\d+)", text, re.M)
        if not declared:
            raise RuntimeError(f"template.yaml has no MemorySize of {resource}")
        found[name] = int(declared.group(1))
    return found


def write(text: str) -> None:
    """Puts the tables between the marks in docs/cost.md."""
    page = ROOT / "docs/cost.md"
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    sys.exit(main())
