"""What CloudTrail would have written about a call that the emulator just answered.

In: a request as the emulator saw it, who signed it, and its answer. Out: a CloudTrail record (the layout of
https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html), or nothing
where CloudTrail records nothing: data events, and requests whose signature or key was refused. Pure: no emulator here.
"""

from __future__ import annotations

import calendar
import json
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree

# Services whose every call is a data event, or no API call of an account at all.
DATA_SERVICES = frozenset({"execute-api", "sqs", "logs", "monitoring", "xray", "lambda-runtime"})
# Data events of services that have management events too: actions as IAM names them.
DATA_ACTIONS = frozenset(
    {
        "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem",
        "dynamodb:TransactWriteItems", "dynamodb:PartiQLUpdate", "s3:PutObject", "s3:DeleteObject",
        "s3:AbortMultipartUpload", "sns:Publish", "lambda:InvokeFunction", "events:PutEvents",
    }
)
READING = (
    "AssumeRole", "Get", "List", "Describe", "Lookup", "Head", "BatchGet", "Query", "Scan", "Select", "Simulate", "Validate", "Decrypt",
    "GenerateDataKey",
)
# What a refused signature or key answers: CloudTrail knows no principal then and records nothing.
UNAUTHENTICATED = frozenset(
    {
        "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSignatureException",
        "InvalidAccessKeyId", "ExpiredToken", "ExpiredTokenException", "MissingAuthenticationToken", "IncompleteSignature",
        "MissingAuthenticationTokenException", "AccessDeniedByUnsignedRequest",
    }
)
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"})
# Few events a page, so that a poll of a test's account is of many: the service gives at most as many as are asked for.
PAGE = 10
MOST_RESULTS = 50
SECRETS = frozenset({"secretAccessKey", "secretString", "secretBinary", "password", "newPassword", "oldPassword"})


@dataclass(frozen=True)
class Caller:
    """Who signed: the key, the principal's ARN and unique id, and the issuing role's ARN for a session."""

    key: str
    arn: str
    unique_id: str
    account: str
    role_arn: str | None = None
    role_id: str = ""


@dataclass(frozen=True)
class Call:
    """A request and its answer."""

    action: str  # as IAM names it: service:Action
    region: str
    request_id: str
    headers: dict[str, str]
    query: dict[str, Any]
    body: bytes
    status: int
    answer: bytes

    @property
    def service(self) -> str:
        return self.action.partition(":")[0]

    @property
    def name(self) -> str:
        return self.action.partition(":")[2]


def lookup(records: list[dict[str, Any]], asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and answer of LookupEvents over a Region's records, which only ever grow at the end: newest first, both ends of the
    time inclusive. A token keeps to what there was when the first page was asked for.
    https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html
    """
    start, end = float(asked.get("StartTime", 0)), float(asked.get("EndTime", time.time()))
    if start > end:
        return 400, {"__type": "InvalidTimeRangeException", "message": "the end lies before the start"}
    most = asked.get("MaxResults", MOST_RESULTS)
    if not 1 <= most <= MOST_RESULTS:
        return 400, {"__type": "InvalidMaxResultsException", "message": f"{most} is not from 1 to {MOST_RESULTS}"}
    token = re.fullmatch(r"(\d+)/(\d+)", asked.get("NextToken", f"{len(records)}/0"))
    if not token:
        return 400, {"__type": "InvalidNextTokenException", "message": "no token of ours"}
    known, offset = int(token[1]), int(token[2])
    within = [(at, r) for r in records[:known] if start <= (at := _seconds(r["eventTime"])) <= end]
    within.sort(key=lambda pair: -pair[0])
    until = offset + min(most, PAGE)
    events = [
        {
            "EventId": r["eventID"],
            "EventName": r["eventName"],
            "ReadOnly": str(r["readOnly"]).lower(),
            "AccessKeyId": r["userIdentity"].get("accessKeyId", ""),
            "EventTime": at,
            "EventSource": r["eventSource"],
            "Username": r["userIdentity"].get("userName", ""),
            "Resources": [],
            "CloudTrailEvent": json.dumps(r),
        }
        for at, r in within[offset:until]
    ]
    return 200, {"Events": events} | ({"NextToken": f"{known}/{until}"} if until < len(within) else {})


def _seconds(text: str) -> int:
    """Seconds since 1970 of a record's eventTime."""
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def is_reading(name: str) -> bool:
    """Whether CloudTrail would call an API of this name read-only."""
    return name.startswith(READING)


def is_management(action: str) -> bool:
    """Whether a call is recorded by a trail of management events."""
    return action.partition(":")[0] not in DATA_SERVICES and action not in DATA_ACTIONS


def error_of(status: int, answer: bytes) -> tuple[str, str]:
    """Error code and message of an answer, empty for a success. JSON and XML protocols."""
    if status < 400:
        return "", ""
    text = answer.decode("utf-8", "replace")
    if text.lstrip().startswith("{"):
        try:
            told = json.loads(text)
        except ValueError:
            return "InternalError", text[:200]
        code = str(told.get("__type") or told.get("code") or told.get("Code") or "InternalError")
        return code.rpartition("#")[2], str(told.get("message") or told.get("Message") or "")
    code = re.search(r"<Code>([^<]+)</Code>", text)
    message = re.search(r"<Message>([^<]*)</Message>", text)
    return (code.group(1) if code else "InternalError"), (message.group(1) if message else "")


def record(call: Call, caller: Caller) -> dict[str, Any] | None:
    """The CloudTrail record of a call, or None where CloudTrail would write none."""
    if not is_management(call.action):
        return None
    code, message = error_of(call.status, call.answer)
    if code in UNAUTHENTICATED:
        return None
    made: dict[str, Any] = {
        "eventVersion": "1.11",
        "userIdentity": identity(caller),
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "eventSource": f"{call.service}.amazonaws.com",
        "eventName": call.name,
        "awsRegion": "us-east-1" if call.service == "iam" else call.region,
        "sourceIPAddress": call.headers.get("x-forwarded-for", "127.0.0.1").split(",")[0].strip(),
        "userAgent": call.headers.get("user-agent", ""),
        "requestParameters": without_secrets(parameters(call)) or None,
        "responseElements": None,
        "requestID": call.request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": is_reading(call.name),
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": caller.account,
        "eventCategory": "Management",
    }
    if code:
        prefix = "Client." if code == "UnauthorizedOperation" else ""
        made |= {"errorCode": prefix + ("AccessDenied" if code in DENIED and not prefix else code), "errorMessage": message}
    elif not made["readOnly"]:
        made["responseElements"] = without_secrets(elements(call)) or None
    return made


def identity(caller: Caller) -> dict[str, Any]:
    """The userIdentity element."""
    who: dict[str, Any] = {
        "principalId": caller.unique_id,
        "arn": caller.arn,
        "accountId": caller.account,
        "accessKeyId": caller.key,
    }
    if caller.arn.endswith(":root"):
        return {"type": "Root", **who}
    if ":assumed-role/" not in caller.arn:
        return {"type": "IAMUser", **who, "userName": caller.arn.rsplit("/", 1)[-1]}
    role = caller.role_arn or caller.arn
    return {
        "type": "AssumedRole",
        **who,
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": caller.role_id,
                "arn": role,
                "accountId": caller.account,
                "userName": role.rsplit("/", 1)[-1],
            },
            "attributes": {"creationDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "mfaAuthenticated": "false"},
        },
    }


def camel(name: str) -> str:
    """A parameter's name as CloudTrail spells it."""
    return name[:1].lower() + name[1:]


def parameters(call: Call) -> dict[str, Any]:
    """Request parameters of the JSON and the query protocol; of others, what the query string says."""
    kind = call.headers.get("content-type", "")
    if "json" in kind and call.body:
        try:
            given = json.loads(call.body)
        except ValueError:
            return {}
        return {camel(k): v for k, v in given.items()} if isinstance(given, dict) else {}
    flat = {k: v[-1] if isinstance(v, list) else v for k, v in call.query.items()}
    if "form" in kind:
        flat |= {k: v[-1] for k, v in parse_qs(call.body.decode("utf-8", "replace"), keep_blank_values=True).items()}
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        if key in ("Action", "Version") or key.startswith("X-Amz-"):
            continue
        *parents, last = [part for part in key.split(".") if part != "member"]
        into = nested
        for parent in parents:
            into = into.setdefault(camel(parent), {})
            if not isinstance(into, dict):
                return nested
        into[camel(last)] = value
    return {k: lists(v) for k, v in nested.items()}


def lists(value: Any) -> Any:
    """Turns {"1": a, "2": b} of the query protocol into a list."""
    if not isinstance(value, dict):
        return value
    inner = {k: lists(v) for k, v in value.items()}
    if inner and all(k.isdigit() for k in inner):
        return [inner[k] for k in sorted(inner, key=int)]
    return inner


def elements(call: Call) -> dict[str, Any]:
    """Response elements: what an XML answer's result, or a JSON answer, holds."""
    text = call.answer.decode("utf-8", "replace").lstrip()
    if text.startswith("{"):
        try:
            return {camel(k): v for k, v in json.loads(text).items()}
        except (ValueError, AttributeError):
            return {}
    if not text.startswith("<"):
        return {}
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return {}
    result = next((child for child in root if local(child).endswith("Result")), None)
    found = tree(result) if result is not None else {}
    return found if isinstance(found, dict) else {}


def local(element: ElementTree.Element) -> str:
    """A tag without its namespace."""
    return element.tag.rpartition("}")[2]


def tree(element: ElementTree.Element) -> Any:
    """An XML element as plain values; `member` children become a list."""
    children = list(element)
    if not children:
        return element.text
    if all(local(child) == "member" for child in children):
        return [tree(child) for child in children]
    return {camel(local(child)): tree(child) for child in children}


def without_secrets(value: Any) -> Any:
    """A copy without the values that CloudTrail leaves out."""
    if isinstance(value, dict):
        return {k: without_secrets(v) for k, v in value.items() if k not in SECRETS}
    if isinstance(value, list):
        return [without_secrets(v) for v in value]
    return value
