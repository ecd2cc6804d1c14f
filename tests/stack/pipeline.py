"""The deployed pipeline from outside: what goes in, when it is quiet, what lies in the dead-letter queues, what came out."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import checks
from account import trail_file
from api import Api
from deploy import Stack, build, deploy, load_template, upload
from emulator import ACCOUNT, REGION, Emulator
from paths import OUT, ROOT

QUEUES = ("IngestBusQueue", "IngestObjectsQueue", "DetectQueue", "EnrichQueue", "RespondQueue")
DEAD_QUEUES = tuple(name.replace("Queue", "DeadQueue") for name in QUEUES)
FUNCTIONS = ("IngestBus", "IngestObjects", "Detect", "Enrich", "Respond", "Dashboard", "Watch", "Backtest")
# What differs from the defaults: this machine's processor, a trail bucket made by the stack, no protection against removal.
PARAMETERS = {"Architecture": "x86_64", "Trail": "bucket", "DeletionProtection": "false", "RetrySeconds": "2"}
DEPLOYER_POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Pipeline:
    """A deployed stack with everything a test asks of it."""

    def __init__(self, emulator: Emulator, release: bool = False, **parameters: str) -> None:
        OUT.mkdir(parents=True, exist_ok=True)
        self.emulator = emulator
        template = load_template(ROOT / "template.yaml")
        self.template = upload(emulator, template, build(template, release))
        # Not the root user, whose every use is an alert.
        iam = emulator.client("iam")
        iam.create_user(UserName="deployer")
        iam.put_user_policy(UserName="deployer", PolicyName="deploy", PolicyDocument=json.dumps(DEPLOYER_POLICY))
        key = iam.create_access_key(UserName="deployer")["AccessKey"]
        self.deployer = (key["AccessKeyId"], key["SecretAccessKey"])
        self.parameters = {**PARAMETERS, **parameters}
        self.stack = self.update()
        self.api = Api(self.stack)

    def update(self, **parameters: str) -> Stack:
        """Deploys, or deploys again with other parameters."""
        self.parameters |= parameters
        self.stack = deploy(self.emulator, self.template, self.parameters, key=self.deployer)
        return self.stack

    def hide_for(self, seconds: int) -> None:
        """Shortens how long a message that was taken stays hidden, so that what a killed function held comes back soon."""
        sqs = self.emulator.client("sqs")
        for queue in QUEUES:
            sqs.set_queue_attributes(QueueUrl=self.stack.physical(queue), Attributes={"VisibilityTimeout": str(seconds)})

    def role(self, function: str) -> str:
        """ARN of a function's role."""
        return self.stack.outputs[f"{function}RoleArn"]

    def own_role(self) -> str:
        """ARN of the role under which containment acts."""
        return f"arn:aws:iam::{ACCOUNT}:role/{self.stack.physical('ContainmentRole')}"

    # ---- in ----

    def put_file(self, records: list[dict[str, Any]], tag: str, bucket: str = "") -> None:
        """Has a trail file with these records arrive in a bucket, or in the stack's own."""
        key, body = trail_file(records, tag)
        self.emulator.client("s3").put_object(Bucket=bucket or self.stack.outputs["TrailBucketMade"], Key=key, Body=body)

    def send(self, queue: str, bodies: list[str]) -> None:
        """Puts messages into a queue, ten a request."""
        sqs, url = self.emulator.client("sqs"), self.stack.physical(queue)
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])]
            told = sqs.send_message_batch(QueueUrl=url, Entries=entries)
            if told.get("Failed"):
                raise RuntimeError(f"{queue}: {told['Failed']}")

    # ---- state ----

    def depth(self, queue: str) -> dict[str, int]:
        """Messages of a queue: ready, taken, delayed."""
        sqs = self.emulator.client("sqs")
        told = sqs.get_queue_attributes(QueueUrl=self.stack.physical(queue), AttributeNames=["All"])["Attributes"]
        return {
            "ready": int(told["ApproximateNumberOfMessages"]),
            "taken": int(told["ApproximateNumberOfMessagesNotVisible"]),
            "delayed": int(told["ApproximateNumberOfMessagesDelayed"]),
        }

    def busy(self) -> dict[str, dict[str, int]]:
        """The queues that have something to do; respond's delayed messages are due times, not work."""
        depths = {queue: self.depth(queue) for queue in QUEUES}
        return {q: d for q, d in depths.items() if d["ready"] or d["taken"] or (d["delayed"] and q != "RespondQueue")}

    def settle(self, seconds: float = checks.PATIENCE, calm: float = 2.0) -> None:
        """Waits until no queue has had anything to do for a while, and no response is between two steps."""
        until, since = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() - since < calm:
            busy: Any = self.busy() or self.under_way()
            if busy:
                since = time.monotonic()
            if time.monotonic() > until:
                raise checks.CheckFailed(f"NOT within {seconds:.0f} s: all work is done: {busy}")
            time.sleep(0.25)

    def under_way(self) -> dict[str, str]:
        """Responses that go on by themselves, most of them waiting for a due time; none are seen before a login."""
        if not self.api.token:
            return {}
        passing = ("approved", "acting", "verifying", "undoing")
        return {r["response_id"]: r["state"] for r in self.api.all("/responses") if r["state"] in passing}

    def dead(self) -> dict[str, list[str]]:
        """Bodies in the dead-letter queues, by queue; what is looked at stays there."""
        sqs = self.emulator.client("sqs")
        found: dict[str, list[str]] = {}
        for queue in DEAD_QUEUES:
            url, bodies = self.stack.physical(queue), []
            while True:
                got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=2, WaitTimeSeconds=0)
                if not got.get("Messages"):
                    break
                bodies += [m["Body"] for m in got["Messages"]]
            if bodies:
                found[queue] = sorted(bodies)
        return found

    # ---- out ----

    def results(self) -> dict[str, Any]:
        """Alerts, incidents and responses with all their details, by id."""
        api = self.api
        return {
            "alerts": {a["alert_id"]: api.get(f"/alerts/{a['alert_id']}") for a in api.all("/alerts", level="informational")},
            "incidents": {i["incident_id"]: api.get(f"/incidents/{i['incident_id']}") for i in api.all("/incidents")},
            "responses": {r["response_id"]: api.get(f"/responses/{r['response_id']}") for r in api.all("/responses")},
        }

    def alerts_of(self, principal: str) -> list[dict[str, Any]]:
        """Alerts about a principal, of any level."""
        return [a for a in self.api.all("/alerts", principal=principal) if a["principal"] == principal]

    def response_of(self, key: str) -> dict[str, Any] | None:
        """The response about an access key, if there is one."""
        found = [r for r in self.api.all("/responses") if r["access_key_id"] == key]
        if len(found) > 1:
            raise checks.CheckFailed(f"NOT one response for {key}: {found}")
        return found[0] if found else None

    def response_in(self, key: str, state: str, seconds: float = checks.PATIENCE) -> dict[str, Any]:
        """Waits until the response about a key is in a state."""
        last: dict[str, Any] = {}

        def probe() -> dict[str, Any] | None:
            found = self.response_of(key)
            last["seen"] = found and (found["state"], found["reasons"], found["steps"])
            return found if found and found["state"] == state else None

        try:
            return checks.wait(f"the response about {key} is {state}", probe, seconds, 0.5)
        except checks.CheckFailed as error:
            raise checks.CheckFailed(f"{error}; last seen: {last}") from None

    def calls(self, function: str) -> dict[str, dict[str, Any]]:
        """What a function called so far, by action."""
        found: dict[str, dict[str, Any]] = self.emulator.trail("calls")["calls"].get(self.role(function), {})
        return found


def envelope(record: dict[str, Any]) -> str:
    """A record as EventBridge hands it to a queue."""
    source = record["eventSource"].removesuffix(".amazonaws.com")
    return json.dumps(
        {
            "version": "0", "id": record["eventID"], "detail-type": "AWS API Call via CloudTrail", "source": f"aws.{source}",
            "account": ACCOUNT, "time": record["eventTime"], "region": REGION, "resources": [], "detail": record,
        }
    )


def shuffled(records: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """The same records in another order."""
    other = list(records)
    chance.shuffle(other)
    return other
