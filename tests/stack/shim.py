"""Runs the emulator in this process with a recording hook around its request path.

Out: (a) while switched on, an `AWS API Call via CloudTrail` event on the default bus for every call that changes something,
as CloudTrail itself does on AWS, so that the template's own rules fire, and the same events by LookupEvents, whose answer by
the emulator alone knows no pages; (b) every call by who made it, for the comparison of policies with what the code calls.
Under `/_trail/` the tests switch it, read it, and put ready-made records on the bus (PutEvents refuses `aws.*` sources here
as on AWS).

Written against ministack 1.5.33, whose private functions it wraps: the version is pinned where it is installed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import trail
from ministack import app as emulator
from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id, get_region, set_request_account_id, set_request_region
from ministack.services import cloudtrail

ACCOUNT = os.environ["MINISTACK_ACCOUNT_ID"]
REGION = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
PREFIX = "/_trail/"

_lock = threading.Lock()
_state: dict[str, Any] = {"on": False, "timeline": False, "events": []}
# principal -> action -> {"count", "denied", "failed", "resources"}
_calls: dict[str, dict[str, dict[str, Any]]] = {}
# every call in order while switched on, for latencies: when it was answered, by whom, how long the emulator took
_timeline: list[dict[str, Any]] = []
# changes of access keys in order, by which the drill counts containments
_changes: list[dict[str, Any]] = []
# when LookupEvents was answered, by a clock that only goes forward
_lookups: list[float] = []
_WATCHED = frozenset({"iam:UpdateAccessKey", "iam:DeleteAccessKey", "iam:PutUserPolicy", "iam:PutRolePolicy"})
# IAM knows no actions for batches: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html
_BATCHES = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}
_extract = iam_actions.extract_iam_action
_resource = iam_actions.extract_resource_arn
_dispatch = emulator._dispatch_service_request
_application = emulator.app


def iam_action(*request: Any) -> str | None:
    """The action that IAM checks for a request; the emulator alone would check one that AWS doesn't have for a batch."""
    action = _extract(*request)
    return _BATCHES.get(action, action) if action else None


def resource_arn(service: str, method: str, path: str, headers: dict[str, str], body: bytes, params: dict[str, Any],
                 region: str, account: str) -> str:
    """The resource that IAM checks; the emulator alone takes every schedule for one of the group `default`."""
    found = _resource(service, method, path, headers, body, params, region, account)
    if service != "scheduler" or ":schedule/default/" not in found:
        return found
    told = params.get("groupName") or (json.loads(body).get("GroupName") if body else None) or "default"
    group = told[0] if isinstance(told, list) else told
    return found.replace(":schedule/default/", f":schedule/{group}/")


def caller_of(headers: dict[str, str], query: dict[str, Any]) -> trail.Caller | None:
    """Who signed a request, by the emulator's own records; None for an unknown key."""
    key = emulator.extract_access_key_id(headers, query) or ""
    who = iam_evaluator.resolve_caller_identity(key)
    if not who:
        return None
    arn = who["userArn"]
    role_arn, role_id = None, ""
    if ":assumed-role/" in arn:
        from ministack.services import iam

        name = arn.split(":assumed-role/")[1].split("/")[0]
        role = iam._roles.get_scoped(who["accountId"], None, name) or {}
        role_arn, role_id = role.get("Arn"), role.get("RoleId", "")
    return trail.Caller(key, arn, who.get("userId", ""), who["accountId"], role_arn, role_id)


def actions_of(service: str, action: str, body: bytes, region: str, resource: str) -> list[tuple[str, str]]:
    """The actions IAM checks for a call, each with its resource: a DynamoDB transaction is several."""
    if service == "dynamodb":
        inner = iam_actions.dynamodb_transaction_checks(action, body, region, get_account_id())
        if inner:
            return inner
    return [(action, resource)]


def note(caller: trail.Caller, checked: list[tuple[str, str]], status: int, code: str) -> None:
    """Counts a call under its principal."""
    who = caller.role_arn or caller.arn
    with _lock:
        for action, resource in checked:
            seen = _calls.setdefault(who, {}).setdefault(action, {"count": 0, "denied": 0, "failed": 0, "resources": []})
            seen["count"] += 1
            seen["denied"] += code in trail.DENIED
            seen["failed"] += status >= 500
            if resource and resource not in seen["resources"] and len(seen["resources"]) < 50:
                seen["resources"].append(resource)


def put_on_bus(records: list[dict[str, Any]]) -> None:
    """Puts CloudTrail records on the default bus, as the services themselves do."""
    bus = emulator._get_module("eventbridge")
    for made in records:
        source = made["eventSource"].removesuffix(".amazonaws.com")
        kind = "AWS Console Sign In via CloudTrail" if made.get("eventType") == "AwsConsoleSignIn" else "AWS API Call via CloudTrail"
        entry = {"Source": f"aws.{source}", "DetailType": kind, "Detail": json.dumps(made)}
        bus._put_events({"Entries": [entry]}, allow_aws_source=True)


def observe(service: str, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any],
            request_id: str, status: int, answer: bytes, seconds: float) -> None:
    """Records one call that was answered, and how long the emulator took."""
    params = emulator._routing_params(method, path, headers, body, query)
    action = iam_action(service, method, path, headers, body, params)
    caller = caller_of(headers, query)
    if action is None or caller is None:
        return
    region = emulator.extract_region(headers)
    resource = resource_arn(service, method, path, headers, body, params, region, get_account_id())
    code, _ = trail.error_of(status, answer)
    if code not in trail.UNAUTHENTICATED:
        note(caller, actions_of(service, action, body, region, resource), status, code)
    if _state["timeline"]:
        _timeline.append({
            "at": time.time(), "seconds": seconds, "principal": caller.role_arn or caller.arn, "action": action,
            "status": status, "alert": service == "dynamodb" and b"#ALERT#" in body,
        })
    call = trail.Call(action, region, request_id, headers, query, body, status, answer)
    made = trail.record(call, caller)
    if made is None or made["readOnly"]:
        return
    with _lock:
        if action in _WATCHED:
            _changes.append({"at": time.time(), "status": status, "record": made})
        if not _state["on"]:
            return
        _state["events"].append(made)
    put_on_bus([made])


def lookup_events(asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Answers LookupEvents from the calls that were put on the bus; the emulator has checked signature and policy before."""
    with _lock:
        _lookups.append(time.monotonic())
        records = [made for made in _state["events"] if made["awsRegion"] == get_region()]
    status, told = trail.lookup(records, asked)
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(told).encode()


async def dispatch(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any], request_id: str) -> Any:
    """The emulator's dispatch, and the record of it."""
    started = time.monotonic()
    status, told, answer = await _dispatch(method, path, headers, body, query, request_id)
    try:
        params = emulator._routing_params(method, path, headers, body, query)
        service = emulator.detect_service(method, path, headers, params)
        seen = answer if isinstance(answer, (bytes, bytearray)) else b""
        observe(service, method, path, headers, body, query, request_id, status, bytes(seen), time.monotonic() - started)
    except Exception:
        emulator.logger.exception("trail: a call was not recorded")
        _state["broken"] = True
    return status, told, answer


async def control(path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Answers the tests' own requests."""
    given = json.loads(body) if body else {}
    if path == "switch":
        with _lock:
            _state.update({name: bool(given[name]) for name in ("on", "timeline") if name in given})
        return 200, {"on": _state["on"], "timeline": _state["timeline"]}
    if path == "bus":
        set_request_account_id(given.get("account", ACCOUNT))
        set_request_region(given.get("region", REGION))
        put_on_bus(given["records"])
        return 200, {"put": len(given["records"])}
    if path == "calls":
        with _lock:
            return 200, {"calls": _calls, "broken": bool(_state.get("broken"))}
    if path == "events":
        with _lock:
            return 200, {"records": list(_state["events"])}
    if path == "lookups":
        with _lock:
            return 200, {"at": list(_lookups)}
    if path == "timeline":
        taken, _timeline[:] = list(_timeline), []
        return 200, {"calls": taken}
    if path == "changes":
        with _lock:
            return 200, {"changes": list(_changes)}
    return 404, {"error": path}


async def entry(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """The ASGI application: the tests' own paths here, everything else the emulator's."""
    if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
        await _application(scope, receive, send)
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    status, told = await control(scope["path"].removeprefix(PREFIX), body)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


if __name__ == "__main__":
    iam_actions.extract_iam_action = iam_action
    cloudtrail._DISPATCH["LookupEvents"] = lookup_events
    iam_actions.extract_resource_arn = resource_arn
    emulator._dispatch_service_request = dispatch
    emulator.app = entry
    emulator.main()
