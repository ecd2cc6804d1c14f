"""Start of each function's binary to its first handled event, with the smallest possible function beside it.

Each binary is started again and again against a local Runtime API (`runtime`), in turn; the first event waits for it
already. Measured is the time from starting the process until its answer has come, so what Lambda adds itself
(fetching the package, making the sandbox) is not in it. In a first round, which is not counted, one attack's event
goes through all stages with AWS calls passed on to the emulator; then the same calls are answered from memory
(`replay`, compiled), so that the emulator's slowness is not taken for ours. With `--live` every call goes to the
emulator.

Out: a table of medians, resident memory, and sizes of binary and zip. The exit status says whether every function
stays within its bound, as a multiple of the hello-world function of the same run. `--calls` names each call.

Run by `make coldstart`, which builds the binaries and starts the emulator.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from replay import Replay
from runtime import Function, sqs_event

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "123456789012"
STAGES = ("detect", "enrich", "respond")
BOUNDS = {"ingest": 3.0, "enrich": 3.0, "respond": 3.0, "detect": 10.0}
"""Most that a start may take, as a multiple of hello-world's."""


@dataclass
class Subject:
    """One function that is measured."""

    name: str
    binary: Path
    event: Any
    environment: dict[str, str]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)
    answering: list[float] = field(default_factory=list)

    def once(self, folder: Path, aws: Replay, recording: bool) -> Any:
        """Starts the function for one event; its answer."""
        aws.play(self.name, recording)
        with Function(self.binary, self.environment, folder / f"{self.name}.log") as function:
            answer = function.invoke(self.event)
            self.seconds.append(time.perf_counter() - function.started)
            self.peak.append(function.peak_bytes())
        self.cpu.append(function.total_cpu_seconds())
        done = aws.play(self.name, False)
        self.calls.append(done.calls)
        self.answering.append(done.seconds)
        failures = (answer.value or {}).get("batchItemFailures") if isinstance(answer.value, dict) else None
        if answer.error or failures:
            log = (folder / f"{self.name}.log").read_text()[-3000:]
            raise RuntimeError(f"{self.name} did not handle its event: {answer.error or failures}\n{log}")
        return answer.value


class World:
    """The stores that the functions use, in the emulator."""

    def __init__(self, endpoint: str, functions_endpoint: str) -> None:
        session = boto3.Session("test", "test", region_name="us-east-1")

        def client(service: str) -> Any:
            return session.client(service, endpoint_url=endpoint)

        self.sqs = client("sqs")
        s3, secrets = client("s3"), client("secretsmanager")
        for bucket in ("start-data", "start-rules"):
            s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket="start-rules", VersioningConfiguration={"Status": "Enabled"})
        s3.put_object(Bucket="start-rules", Key="rules/own.yml", Body=OPERATORS_RULE)
        client("sns").create_topic(Name="alerts")
        create_table(client("dynamodb"))
        self.urls = {
            name: self.sqs.create_queue(QueueName=f"start-{name}")["QueueUrl"]
            for stage in STAGES
            for name in (stage, f"{stage}-dead")
        }
        keys = secrets.create_secret(Name="start-keys")["ARN"]
        admin = secrets.create_secret(Name="start-admin", SecretString="correct horse battery staple")["ARN"]
        self.environment = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": functions_endpoint,
            "SENTINEL_TABLE": "start",
            "SENTINEL_DATA_BUCKET": "start-data",
            "SENTINEL_RULES_BUCKET": "start-rules",
            "SENTINEL_SOURCE": "bus",
            "SENTINEL_BUS": "default",
            # Asked only of messages that failed, of which there are none here.
            "SENTINEL_BUS_QUEUE_URL": self.urls["detect"],
            "SENTINEL_ACCOUNT": ACCOUNT,
            "SENTINEL_MODE": "observe",
            "SENTINEL_OWN_ROLE": f"arn:aws:iam::{ACCOUNT}:role/respond",
            "SENTINEL_TOPIC_ARN": f"arn:aws:sns:us-east-1:{ACCOUNT}:alerts",
            "SENTINEL_ALARM_TOPIC_ARN": f"arn:aws:sns:us-east-1:{ACCOUNT}:alarms",
            "SENTINEL_SCHEDULE_GROUP": "default",
            "SENTINEL_SCHEDULE_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/schedule",
            "SENTINEL_RESPOND_QUEUE_ARN": f"arn:aws:sqs:us-east-1:{ACCOUNT}:start-respond",
            "SENTINEL_KEYS_SECRET_ARN": keys,
            "SENTINEL_ADMIN_SECRET_ARN": admin,
        }
        for stage in STAGES:
            self.environment[f"SENTINEL_{stage.upper()}_QUEUE_URL"] = self.urls[stage]
            self.environment[f"SENTINEL_{stage.upper()}_DEAD_QUEUE_URL"] = self.urls[f"{stage}-dead"]

    def take(self, stage: str) -> list[str]:
        """The bodies of the messages in a stage's queue, which are deleted."""
        bodies = []
        for _ in range(20):
            got = self.sqs.receive_message(QueueUrl=self.urls[stage], MaxNumberOfMessages=10, WaitTimeSeconds=0)
            for message in got.get("Messages", []):
                bodies.append(message["Body"])
                self.sqs.delete_message(QueueUrl=self.urls[stage], ReceiptHandle=message["ReceiptHandle"])
            if bodies:
                return bodies
            time.sleep(0.1)
        raise RuntimeError(f"nothing came to {stage}'s queue")


OPERATORS_RULE = b"""title: An operator's rule
id: 3f6c1c5e-0f1f-4f57-9c5f-6a2a3d5f3f10
logsource:
  product: aws
  service: cloudtrail
detection:
  selection:
    eventName: NobodyCallsThis
  condition: selection
level: low
"""


def create_table(dynamodb: Any) -> None:
    """The state table, as template.yaml declares it."""
    names = ("pk", "sk", "gsi1pk", "gsi1sk", "gsi2pk", "gsi2sk")

    def keys(pk: str, sk: str) -> list[dict[str, str]]:
        return [{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}]

    dynamodb.create_table(
        TableName="start",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in names],
        KeySchema=keys("pk", "sk"),
        GlobalSecondaryIndexes=[
            {"IndexName": g, "KeySchema": keys(f"{g}pk", f"{g}sk"), "Projection": {"ProjectionType": "KEYS_ONLY"}}
            for g in ("gsi1", "gsi2")
        ],
    )


def attack() -> dict[str, Any]:
    """Somebody stops a trail, as EventBridge tells of it."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    arn = f"arn:aws:iam::{ACCOUNT}:user/mallory"
    record = {
        "eventVersion": "1.09",
        "eventID": "6f1b2f7e-3d64-4a53-9b39-1f4d2f6f0c11",
        "eventTime": now,
        "eventSource": "cloudtrail.amazonaws.com",
        "eventName": "StopLogging",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "198.51.100.7",
        "userAgent": "aws-cli/2.15",
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "readOnly": False,
        "recipientAccountId": ACCOUNT,
        "requestParameters": {"name": "organisation"},
        "responseElements": None,
        "userIdentity": {
            "type": "IAMUser",
            "arn": arn,
            "accountId": ACCOUNT,
            "userName": "mallory",
            "principalId": "AIDAEXAMPLE",
            "accessKeyId": "AKIAIOSFODNN7EXAMPLE",
        },
    }
    return {
        "version": "0",
        "id": record["eventID"],
        "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.cloudtrail",
        "account": ACCOUNT,
        "time": now,
        "region": "us-east-1",
        "resources": [],
        "detail": record,
    }


def http_request(path: str) -> dict[str, Any]:
    """A request as an HTTP API hands it over (API Gateway Developer Guide, payload format 2.0)."""
    return {
        "version": "2.0",
        "routeKey": "ANY /{proxy+}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "api.example.com", "accept": "application/json"},
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "api",
            "domainName": "api.example.com",
            "domainPrefix": "api",
            "http": {
                "method": "GET",
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "198.51.100.9",
                "userAgent": "coldstart",
            },
            "requestId": "id",
            "routeKey": "ANY /{proxy+}",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1767225600000,
        },
        "isBase64Encoded": False,
    }


def subjects(world: World, aws: Replay, binaries: Path, folder: Path) -> list[Subject]:
    """What is measured. The first event goes through all stages, so that each stage's next one is known."""
    found = [Subject("hello-world", binary(binaries, "hello-world"), {}, {})]

    def add(name: str, event: Any) -> Any:
        subject = Subject(name, binary(binaries, f"{name}-lambda"), event, world.environment)
        answer = subject.once(folder, aws, recording=True)
        subject.seconds.clear()
        subject.cpu.clear()
        subject.peak.clear()
        subject.calls.clear()
        subject.answering.clear()
        found.append(subject)
        return answer

    add("ingest", sqs_event([json.dumps(attack())]))
    for stage in STAGES:
        add(stage, sqs_event(world.take(stage)[:1]))
    health = add("dashboard", http_request("/api/v1/health"))
    if health["statusCode"] != 200:
        raise RuntimeError(f"the dashboard is not well: {health}")
    add("watch", {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})
    add("backtest", {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})
    return found


def zipped_bytes(binary: Path, folder: Path) -> int:
    """Size of the package that is deployed: the binary alone, as `bootstrap`."""
    package = folder / "package.zip"
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(binary, "bootstrap")
    return package.stat().st_size


def stripped(subject: Subject, folder: Path) -> Path:
    """The binary as it is deployed: without symbols, which cargo-lambda takes out."""
    copy = folder / f"stripped-{subject.name}"
    subprocess.run(["strip", "-o", str(copy), str(subject.binary)], check=True)
    return copy


def report(measured: list[Subject], folder: Path, rounds: int) -> bool:
    """Prints the table; whether every function stays within its bound."""
    base, base_cpu = statistics.median(measured[0].seconds), statistics.median(measured[0].cpu)
    print(f"\nStart of the process to its first answer, {rounds} starts each, in turn:\n")
    print("| function | median ms | fastest | slowest | times hello-world | at most | CPU ms | times hello-world | AWS calls | their answers, ms | resident MB | binary MB | zip MB |")
    print("| --- |" + " ---: |" * 12)
    good = True
    for subject in measured:
        median, bound = statistics.median(subject.seconds), BOUNDS.get(subject.name)
        times, cpu = median / base, statistics.median(subject.cpu)
        kept = bound is None or times <= bound
        good &= kept
        cells = [
            subject.name,
            f"{median * 1000:.1f}",
            f"{min(subject.seconds) * 1000:.1f}",
            f"{max(subject.seconds) * 1000:.1f}",
            f"{times:.2f}" + ("" if kept else " **over**"),
            "" if bound is None else f"{bound:.0f}",
            f"{cpu * 1e3:.1f}",
            f"{cpu / base_cpu:.2f}",
            f"{statistics.median(map(len, subject.calls)):.0f}",
            f"{statistics.median(subject.answering) * 1e3:.2f}",
            f"{statistics.median(subject.peak) / 2**20:.0f}",
            f"{subject.binary.stat().st_size / 2**20:.1f}",
            f"{zipped_bytes(subject.binary, folder) / 2**20:.1f}",
        ]
        print("| " + " | ".join(cells) + " |")
    return good


def binary(folder: Path, name: str) -> Path:
    """A binary as cargo leaves it, or as cargo-lambda does."""
    found = [path for path in (folder / name, folder / name / "bootstrap") if path.is_file()]
    if not found:
        sys.exit(f"there is no {name} in {folder}")
    return found[0]


def main() -> int:
    """Measures, prints, and says by its exit status whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", type=Path, default=ROOT / "target/release")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="+", help="measure these and hello-world, not all")
    parser.add_argument("--calls", action="store_true", help="name the AWS calls of each function")
    parser.add_argument("--live", action="store_true", help="pass every AWS call on to the emulator")
    args = parser.parse_args()
    endpoint = os.environ.get("SENTINEL_TEST_EMULATOR")
    if not endpoint:
        sys.exit("run this by `make coldstart`: it starts the emulator and says where")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coldstart-")))
        aws = stack.enter_context(Replay(binary(args.binaries, "replay"), endpoint))
        measured = subjects(World(endpoint, aws.url), aws, args.binaries, folder)
        if args.only:
            measured = [subject for subject in measured if subject.name in ("hello-world", *args.only)]
        for subject in measured:
            subject.binary = stripped(subject, folder)
        for _ in range(args.rounds):
            for subject in measured:
                subject.once(folder, aws, recording=args.live)
        good = report(measured, folder, args.rounds)
        if args.calls:
            for subject in measured:
                print(f"\n{subject.name}:", *(f"\n    {call}" for call in subject.calls[-1]))
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
