"""End to end: the real template and the real binaries on an emulated AWS with IAM enforced.

Deploys, attacks the account with a user's key, and checks what people and IAM see: alerts and incidents through the API, a plan
in `observe`, exactly one key out of service in `automatic`, undo, repetition without effect, poison set aside, and policies
that are needed. Prints each check; exit status 1 at the first that does not hold. Everything it writes lies in target/stack/.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import sys
import time
from typing import Any

import checks
from account import Intruder, attack, attack_records, key_states, make_intruder, record, snapshot, works
from checks import check, passed, same, step, wait
from deploy import deploy, load_template
from emulator import REGION, Emulator
from paths import OUT, ROOT
from pipeline import FUNCTIONS, QUEUES, Pipeline, envelope, shuffled
from policies import Withheld

SEED = 20_261_122
POISON = "this is no message of ours"
# A bucket of trail files that was there before the stack.
EXISTING = "log-archive-of-before"
# Of a rule of the operators, and of one that is tried.
RULE_ID = "3f6c1c5e-0f1f-4f57-9c5f-6a2a3d5f3f11"
# Another account that the stack answers for, and its root user.
MEMBER, EXTERNAL_ID = ("444455556666", "test"), "known-to-both"


def main() -> None:
    """Runs all parts in order; each leaves the stack as the next needs it."""
    OUT.mkdir(parents=True, exist_ok=True)
    with Emulator() as emulator:
        try:
            step("deploying template.yaml")
            # More people attack here in an hour than are contained without asking.
            member = {"MemberRoleName": "CloudSentinelRespond", "MemberExternalId": EXTERNAL_ID, "MemberAccounts": MEMBER[0]}
            pipeline = Pipeline(emulator, Mode="observe", HourlyCap="1000", **member, **existing_bucket(emulator))
            passed("the template is deployed as it is")
            operators_have_a_rule(pipeline)
            emulator.trail("switch", {"on": True})
            the_api_asks_for_a_token(pipeline)
            watched = observe_changes_nothing(pipeline)
            # The queues are empty now: unlike AWS the emulator ends functions at work when their settings change.
            pipeline.update(Mode="automatic")
            strangers = poison_is_set_aside_alone(pipeline)
            contained = automatic_takes_exactly_the_used_key(pipeline)
            undo_gives_the_key_back(pipeline, contained[0])
            a_backtest_runs(pipeline, strangers)
            members = a_member_account_is_answered_for(pipeline)
            posted = posted_logs_only_ask(pipeline)
            told = an_existing_bucket_is_read(pipeline)
            polled = the_event_history_is_polled(pipeline)
            refused = a_refused_action_is_not_taken_for_done(pipeline)
            repetition_changes_nothing(pipeline, [*watched, *contained, *members, posted, *told, *polled, refused, *strangers])
            each_function_needs_its_policy(pipeline)
            only_poison_is_dead(pipeline)
        finally:
            emulator.save_calls()
    print(f"all held, {time.monotonic() - checks.STARTED:.0f} s")


def the_api_asks_for_a_token(pipeline: Pipeline) -> None:
    """Health is open, all else needs a token; the first login must change the password."""
    step("the API")
    api = pipeline.api
    status, told = api.call("GET", "/health")
    check(status == 200 and told["status"] == "ok" and told["response_mode"] == "observe", "health answers without a token", told)
    for path in ("/alerts", "/incidents", "/responses", "/stats"):
        status, told = api.call("GET", path)
        check(status == 401, f"{path} is 401 without a token", (status, told))
    status, told = api.call("GET", "/alerts", token="e30.e30.e30")
    check(status == 401, "a made-up token is 401", (status, told))
    status, told = api.call("POST", "/auth/login", {"username": "admin", "password": "wrong"})
    check(status == 401, "a wrong password is 401", (status, told))
    status, told = api.call("POST", "/auth/login", {"username": "admin", "password": api.first_password()})
    check(status == 200 and told["user"]["must_change_password"], "the first administrator logs in with the secret's password", told)
    status, told = api.call("GET", "/alerts", token=told["token"])
    check(status == 403, "and must change it before anything else", (status, told))
    api.login()
    check(isinstance(api.get("/alerts")["items"], list), "with the new password's token the API answers")
    status, told = api.call("POST", "/auth/login", {"username": "admin", "password": api.first_password()})
    check(status == 401, "the first password is over", (status, told))


def poison_is_set_aside_alone(pipeline: Pipeline) -> list[Intruder]:
    """Sends batches of good messages around a malformed one; the good ones must come out. The dead are counted at the end."""
    step("malformed messages")
    chance = random.Random(SEED)
    people = [_stranger(f"person-{n}") for n in range(9)]
    records = [record(who, "StopLogging", "cloudtrail", {"name": "main"}, chance) for who in people]
    good = [envelope(made) for made in records]
    pipeline.send("IngestBusQueue", [*good[:4], POISON, *good[4:]])
    for queue in QUEUES[1:]:
        pipeline.send(queue, [POISON])
    for who in people:
        wait(f"the alert about {who.name}", lambda arn=who.arn: pipeline.alerts_of(arn))
    passed(f"no other message of a malformed one's batch is lost ({len(people)} of {len(people)} alerts)")
    return people


def _stranger(name: str) -> Intruder:
    """Somebody that IAM does not know."""
    key = ("AKIASTRANGER" + name[-1] * 8, "")
    return Intruder(name, f"arn:aws:iam::123456789012:user/{name}", "AIDASTRANGER", [key], f"{name}-victim")


def observe_changes_nothing(pipeline: Pipeline) -> list[Intruder]:
    """In observe an attack is seen, the plan is recorded, and IAM stays as it is."""
    step("an attack in mode observe")
    emulator = pipeline.emulator
    live, filed = make_intruder(emulator, "mallory"), make_intruder(emulator, "eve")
    attack(emulator, live)
    before = snapshot(emulator)
    pipeline.put_file(attack_records(filed, random.Random(SEED + 1)), "eve")
    for who, way in ((live, "calls against the account"), (filed, "a trail file")):
        seen = wait(f"an alert about {who.name}", lambda arn=who.arn: _high(pipeline.alerts_of(arn)))
        alert = pipeline.api.get(f"/alerts/{seen['alert_id']}")
        passed(f"by {way}: alert \"{alert['title']}\" ({alert['level']}) is visible")
        response = pipeline.response_in(who.used, "observed")
        check(bool(response["reasons"]) and response["mode"] == "observe", "its plan is recorded, with reasons", response)
        incidents = [i for i in pipeline.api.all("/incidents") if who.arn in i["principals"]]
        check(bool(incidents) and incidents[0]["alert_count"] >= 2, "and an incident joins its alerts", incidents)
    pipeline.settle()
    same(snapshot(emulator), before, "nothing in IAM changed")
    for who in (live, filed):
        check(all(works(emulator, who, key) for key in who.keys), f"both keys of {who.name} still work")
    return [live, filed]


def _high(alerts: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((a for a in alerts if a["level"] in ("high", "critical")), None)


def automatic_takes_exactly_the_used_key(pipeline: Pipeline) -> list[Intruder]:
    """In automatic the key that was used is out of service, and nothing else."""
    step("an attack in mode automatic")
    emulator = pipeline.emulator
    live, filed = make_intruder(emulator, "trudy"), make_intruder(emulator, "oscar")
    attack(emulator, live)
    before = snapshot(emulator)
    pipeline.put_file(attack_records(filed, random.Random(SEED + 2)), "oscar")
    for who, way in ((live, "calls against the account"), (filed, "a trail file")):
        response = pipeline.response_in(who.used, "contained")
        check(bool(response["verification"]), f"by {way}: contained, and read back", response)
        same(key_states(emulator, who.name), {who.used: "Inactive", who.other: "Active"}, "exactly the used key is Inactive")
        check(not works(emulator, who, who.keys[0]), "a call signed with it is refused")
        check(works(emulator, who, who.keys[1]), "the other key still works")
        before["users"][who.name]["keys"][who.used] = "Inactive"
    same(snapshot(emulator), before, "nothing else in IAM changed")
    return [live, filed]


def undo_gives_the_key_back(pipeline: Pipeline, who: Intruder) -> None:
    """Undo through the API makes the key work again."""
    step("undo")
    response = pipeline.response_of(who.used)
    status, told = pipeline.api.call("POST", f"/responses/{response['response_id']}/undo", {"note": "a drill"}, pipeline.api.token)
    check(status in (200, 202), "undo is accepted", (status, told))
    pipeline.response_in(who.used, "undone")
    same(key_states(pipeline.emulator, who.name), {who.used: "Active", who.other: "Active"}, "the key is Active again")
    check(works(pipeline.emulator, who, who.keys[0]), "and works again")


def _rule(title: str, action: str) -> str:
    return (f"title: {title}\nid: {RULE_ID}\nlevel: low\nlogsource: {{product: aws, service: cloudtrail}}\n"
            f"detection: {{selection: {{eventName: {action}}}, condition: selection}}\n")


def operators_have_a_rule(pipeline: Pipeline) -> None:
    """Puts a rule that nothing matches where detect looks for operators' rules."""
    s3, bucket = pipeline.emulator.client("s3"), pipeline.stack.outputs["RulesBucketName"]
    s3.put_object(Bucket=bucket, Key="rules/own.yml", Body=_rule("Nobody does this", "NobodyCallsThis").encode())


def a_backtest_runs(pipeline: Pipeline, stopped: list[Intruder]) -> None:
    """A rule that is posted to the API is tried on the archive in the background, on top of the rules in force."""
    step("a backtest")
    api, now = pipeline.api, time.time()
    first, last = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + days * 86_400)) for days in (-1, 1))
    rules = [{"name": "new.yml", "text": _rule("Somebody stops a trail", "StopLogging")}]
    status, told = api.call("POST", "/backtests", {"rules": rules, "from": first, "to": last}, api.token)
    check(status == 202 and told["state"] == "queued", "it is accepted and waits", (status, told))
    _invoke(pipeline, "Backtest")
    seen: dict[str, Any] = {}

    def ended() -> bool:
        seen.update(api.get(f"/backtests/{told['id']}"))
        return seen["state"] not in ("queued", "running")

    wait("the backtest comes to its end", ended)
    check(seen["state"] == "done" and seen["progress"]["days_done"] > 0 and seen["attempts"] == 1, "it is done", seen)
    result = seen["result"]
    check(not result["unreadable"] and result["lost"] == 0, "all of the archive was read, and no alert would be lost", result)
    # The shipped rules, and the operators' own one: the new one has its id, and so another name beside it.
    check(result["baseline"]["rules"] > 100, "it is compared with the rules in force", result["baseline"])
    new = [r for r in result["rules"] if r["change"] == "new"]
    same([r["id"] for r in new], [f"{RULE_ID}@new"], "the operators' rule, as detect took it over, among them")
    check(new[0]["gained"] >= len(stopped), f"the rule would have raised {new[0]['gained']} alerts", new)


def _invoke(pipeline: Pipeline, function: str) -> None:
    """Calls a function as its schedule does, without waiting for the minute to end."""
    name = pipeline.stack.physical(function)
    pipeline.emulator.client("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")


def a_member_account_is_answered_for(pipeline: Pipeline) -> list[Intruder]:
    """With the member account's template deployed there, a key of that account is contained in it, and only it."""
    step("an attack in a member account")
    emulator, outputs = pipeline.emulator, pipeline.stack.outputs
    stranger, who = (make_intruder(emulator, name, MEMBER) for name in ("niaj", "heidi"))
    pipeline.put_file(attack_records(stranger, random.Random(SEED + 20)), stranger.name)
    reasons = pipeline.response_in(stranger.used, "refused")["reasons"]
    check("not connected" in str(reasons), "without its template there nothing can be done, and that is said", reasons)
    # Its events come by file: the emulator makes no bus that other accounts may send to.
    # An alert that came once the role is there would be acted on.
    pipeline.settle()
    parameters = {"RespondRoleArn": outputs["RespondRoleArn"], "ExternalId": EXTERNAL_ID}
    deploy(emulator, load_template(ROOT / "infra" / "member-account.yaml"), parameters, "cloudsentinel-member", MEMBER)
    pipeline.put_file(attack_records(who, random.Random(SEED + 21)), who.name)
    response = pipeline.response_in(who.used, "contained")
    check(response["account"] == who.account and bool(response["verification"]), "contained there, and read back", response)
    same(key_states(emulator, who.name, MEMBER), {who.used: "Inactive", who.other: "Active"}, "exactly the used key is Inactive")
    check(not works(emulator, who, who.keys[0]) and works(emulator, who, who.keys[1]), "and only it is refused")
    same(key_states(emulator, stranger.name, MEMBER), dict.fromkeys((stranger.used, stranger.other), "Active"), "nobody else's is touched")
    return [stranger, who]


def posted_logs_only_ask(pipeline: Pipeline) -> Intruder:
    """What somebody posts to the API never acts by itself, even in automatic; an administrator's approval does."""
    step("an attack that is posted to the API")
    api, emulator = pipeline.api, pipeline.emulator
    who = make_intruder(emulator, "carol")
    wish = {"name": "shipper", "scopes": ["logs:write"], "expires_in_days": 1}
    status, told = api.call("POST", "/tokens", wish, api.token)
    check(status == 201, "a token for logs is made", (status, told))
    shipper = told["token"]
    status, told = api.call("GET", "/alerts", token=shipper)
    check(status in (401, 403), "it reads nothing", (status, told))
    status, told = api.call("POST", "/logs", {"Records": attack_records(who, random.Random(SEED + 5))}, shipper)
    check(status == 202 and told["accepted"] == 3, "its logs are accepted", (status, told))
    response = pipeline.response_in(who.used, "awaiting_approval")
    check(all(works(emulator, who, key) for key in who.keys), "both keys still work: a person is asked", response["reasons"])
    a_new_process_makes_no_schedule_again(pipeline)
    status, told = api.call("POST", f"/responses/{response['response_id']}/approve", {"note": "known to be stolen"}, api.token)
    check(status in (200, 202), "approval is accepted", (status, told))
    pipeline.response_in(who.used, "contained")
    same(key_states(emulator, who.name), {who.used: "Inactive", who.other: "Active"}, "then exactly the used key is Inactive")
    return who


def a_new_process_makes_no_schedule_again(pipeline: Pipeline) -> None:
    """Whoever resumes what waits for approval finds the schedule that ends the wait made: each is an event in the account."""
    emulator, function = pipeline.emulator, pipeline.stack.physical("Respond")

    def schedules() -> int:
        return sum(r["eventSource"] == "scheduler.amazonaws.com" for r in emulator.trail("events")["records"])

    pipeline.settle()
    made, gone = schedules(), emulator.bootstraps(function)
    check(made >= 1 and bool(gone), "a schedule ends the wait", (made, gone))
    for process in gone:
        os.kill(process, signal.SIGKILL)

    def resumed() -> dict[str, Any] | None:
        told = emulator.client("lambda").invoke(FunctionName=function, Payload=b"{}")
        answer: dict[str, Any] = json.loads(told["Payload"].read())
        return None if "FunctionError" in told else answer

    answer = wait("what waits is resumed", resumed, every=1)
    check(answer["open"] >= 1 and not set(emulator.bootstraps(function)) & set(gone), "a new process finds it waiting", answer)
    same(schedules(), made, "and it makes no schedule again")


def existing_bucket(emulator: Emulator) -> dict[str, str]:
    """A bucket of trail files that was there before the stack and tells a topic of them; gives the stack's parameters."""
    topic = emulator.client("sns").create_topic(Name="trail-files")["TopicArn"]
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket=EXISTING)
    told = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=EXISTING, NotificationConfiguration=told)
    return {"TrailBucketName": EXISTING, "TrailNotifications": "SnsToSqs", "TrailTopicArn": topic}


def an_existing_bucket_is_read(pipeline: Pipeline) -> list[Intruder]:
    """Files of a bucket that is not the stack's are taken in, told of by its topic and by EventBridge."""
    step("trail files of an existing bucket")
    emulator = pipeline.emulator
    people = [make_intruder(emulator, "judy"), make_intruder(emulator, "mike")]
    for seed, (who, way) in enumerate(zip(people, ("SNS", "EventBridge"), strict=True)):
        if way == "EventBridge":
            pipeline.settle()
            pipeline.update(TrailNotifications="EventBridge")
            told: dict[str, Any] = {"EventBridgeConfiguration": {}}
            emulator.client("s3").put_bucket_notification_configuration(Bucket=EXISTING, NotificationConfiguration=told)
        pipeline.put_file(attack_records(who, random.Random(SEED + 10 + seed)), who.name, EXISTING)
        response = pipeline.response_in(who.used, "contained")
        check(bool(response["verification"]), f"a file told of by {way} is read: the used key is contained", response)
    return people


def the_event_history_is_polled(pipeline: Pipeline) -> list[Intruder]:
    """With no events from the bus the scheduled poll sees attacks; it keeps the service's pace and needs its permission."""
    step("attacks that only the event history tells of")
    emulator = pipeline.emulator
    pipeline.settle()
    pipeline.update(PollRegions=REGION, BusRuleState="DISABLED")
    action = "cloudtrail:LookupEvents"
    first, second = make_intruder(emulator, "walter"), make_intruder(emulator, "wendy")
    attack(emulator, first)
    _contained_by_poll(pipeline, first)
    at = emulator.trail("lookups")["at"]
    check(len(at) > 3, f"the poll asked {len(at)} times", at)
    # A quarter of a second for what the way from the function to here takes.
    rushed = [(i, j) for i in range(len(at)) for j in range(i + 1, len(at)) if j - i > 2 * (at[j] - at[i] + 0.25)]
    check(not rushed, "and never more than twice a second", [(at[i], at[j]) for i, j in rushed])
    before = pipeline.calls("IngestPoll").get(action, {}).get("denied", 0)
    withheld = Withheld(emulator, pipeline.role("IngestPoll"), action)
    attack(emulator, second)
    # More than once, as the minute's own poll may be at work.
    wait(f"IngestPoll fails as a whole without {action}", lambda: "FunctionError" in _poll(pipeline), every=1)
    denied = pipeline.calls("IngestPoll")[action]["denied"]
    check(denied > before, f"IngestPoll fails as a whole without {action}", denied)
    check(not pipeline.alerts_of(second.arn), "and nothing is seen")
    withheld.restore()
    _contained_by_poll(pipeline, second)
    passed("with it back nothing was lost")
    # What happened without the bus is polled before the polls end, so that no event is missed for what follows.
    pipeline.settle()
    pipeline.update(BusRuleState="ENABLED")
    time.sleep(2)
    wait("a poll reads all of it", lambda: _poll(pipeline).get(REGION, {}).get("complete"), every=1)
    pipeline.settle()
    pipeline.update(PollRegions="")
    return [first, second]


def _poll(pipeline: Pipeline) -> dict[str, Any]:
    """What the poll answers when it is run now: by Region, or with FunctionError."""
    told = pipeline.emulator.client("lambda").invoke(FunctionName=pipeline.stack.physical("IngestPoll"), Payload=b"{}")
    answer: dict[str, Any] = json.loads(told["Payload"].read())
    return answer | {key: told[key] for key in ("FunctionError",) if key in told}


def _contained_by_poll(pipeline: Pipeline, who: Intruder) -> None:
    """Waits for the response to an attack that came by the poll alone: a minute, and what reading the history takes."""
    response = pipeline.response_in(who.used, "contained")
    alerts = [pipeline.api.get(f"/alerts/{a['alert_id']}") for a in pipeline.alerts_of(who.arn)]
    channels = {p["channel"] for alert in alerts for p in alert["provenance"]}
    same(channels, {"cloud_trail_api"}, f"the attack by {who.name} came by the event history alone")
    check(bool(response["verification"]), "and its key is contained", response)


def a_refused_action_is_not_taken_for_done(pipeline: Pipeline) -> Intruder:
    """Where IAM refuses the containment it is recorded as failed, and the key is as it was."""
    step("the containing role without its action")
    emulator = pipeline.emulator
    who = make_intruder(emulator, "ivan")
    withheld = Withheld(emulator, pipeline.own_role(), "iam:UpdateAccessKey")
    attack(emulator, who)
    response = wait("the containment fails", lambda: _refused(pipeline.response_of(who.used)), every=0.5)
    # A later alert about the same key finds the failed try, and asks.
    check(response["state"] in ("failed", "awaiting_approval"), "a refused action is recorded as failed, not as done", response)
    check(not response["verification"], "and nothing was read back", response)
    same(key_states(emulator, who.name), {who.used: "Active", who.other: "Active"}, "and both keys are as they were")
    # With the permission back, an alert that comes later would plan the failed response again, and contain.
    pipeline.settle()
    withheld.restore()
    return who


def _refused(response: dict[str, Any] | None) -> dict[str, Any] | None:
    """The response, once its action was refused."""
    failed = response and any(s["step"] == "act" and s["outcome"] == "failed" for s in response["steps"])
    return response if failed else None


def repetition_changes_nothing(pipeline: Pipeline, attacked: list[Intruder]) -> None:
    """Every event twice more in another order, own actions' events among them, has no second effect."""
    step("every event twice more")
    emulator, chance = pipeline.emulator, random.Random(SEED + 3)
    pipeline.settle()
    records = emulator.trail("events")["records"]
    own = [r for r in records if r["eventName"] == "UpdateAccessKey" and _by(r, pipeline.own_role())]
    check(len(own) >= 3, f"{len(own)} events of our own actions came by the bus", own)
    before, iam = pipeline.results(), snapshot(emulator)
    principals = {(a["principal"], a["level"]) for a in before["alerts"].values()}
    check(not [p for p, _ in principals if pipeline.own_role().rsplit("/", 1)[-1] in p], "none of them made an alert", principals)
    # A key that the dashboard stores, or a role that respond was refused, is told of as anybody's would be: in a whisper.
    ours = [pipeline.role(f).rsplit("/", 1)[-1] for f in FUNCTIONS]
    loud = {p for p, level in principals if level not in ("informational", "low") and any(name in p for name in ours)}
    check(not loud, "nor did our functions' calls make one that asks for somebody", loud)
    same(sorted(r["access_key_id"] for r in before["responses"].values()), sorted(who.used for who in attacked),
         "none of them started a response")
    files = {tag: _stored(pipeline, tag) for tag in ("eve", "oscar", "niaj", "heidi", "judy", "mike")}
    check(all(files.values()), "the trail files are still there", files)
    for turn in range(2):
        emulator.put_records(shuffled(records, chance))
        for tag, filed in files.items():
            pipeline.put_file(shuffled(filed, chance), f"{tag}-{turn}")
        pipeline.settle()
    after = pipeline.results()
    same(_comparable(after), _comparable(before), f"alerts, incidents and responses are the same after {2 * len(records)} more events")
    same(snapshot(emulator), iam, "and so is IAM")


def _stored(pipeline: Pipeline, tag: str) -> list[dict[str, Any]]:
    """The records of a file that was put into a trail bucket before."""
    s3 = pipeline.emulator.client("s3")
    for bucket in (pipeline.stack.outputs["TrailBucketMade"], EXISTING):
        for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            if entry["Key"].endswith(f"_{tag}.json.gz"):
                body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                return list(json.loads(gzip.decompress(body))["Records"])
    return []


def _comparable(results: dict[str, Any]) -> dict[str, Any]:
    """Results without what tells only how often and when copies came."""
    drop = {"provenance", "version"}

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in drop}
        return [strip(v) for v in value] if isinstance(value, list) else value

    stripped: dict[str, Any] = strip(results)
    # What differs is told by these names.
    alerts = stripped["alerts"].items()
    return stripped | {"alerts": {f"{a.get('title')} of {a.get('principal')} ({known_as})": a for known_as, a in alerts}}


def _by(event: dict[str, Any], role: str) -> bool:
    issuer = event["userIdentity"].get("sessionContext", {}).get("sessionIssuer", {})
    return bool(issuer.get("arn") == role)


def each_function_needs_its_policy(pipeline: Pipeline) -> None:
    """Takes one used action from every function, sees each fail for it, gives it back, and sees nothing lost."""
    step("one used action less for every function")
    emulator = pipeline.emulator
    # What every one of their calls needs: an action that only a busy store asks for would be waited for in vain.
    wanted = {
        "IngestBus": "sqs:SendMessage",
        "IngestObjects": "s3:GetObjectVersion",
        "Detect": "sqs:SendMessage",
        "Enrich": "dynamodb:Query",
        "Respond": "dynamodb:UpdateItem",
        "Dashboard": "dynamodb:Query",
        "Watch": "dynamodb:Query",
        "Backtest": "dynamodb:Query",
    }
    live, filed = make_intruder(emulator, "peggy"), make_intruder(emulator, "victor")
    before = {f: pipeline.calls(f).get(a, {}).get("denied", 0) for f, a in wanted.items()}
    withheld = {f: Withheld(emulator, pipeline.role(f), a) for f, a in wanted.items()}
    attack(emulator, live)
    pipeline.put_file(attack_records(filed, random.Random(SEED + 4)), "victor")
    for function in ("Watch", "Backtest"):
        _invoke(pipeline, function)
    for function in FUNCTIONS:
        action = wanted[function]
        if function == "Dashboard":
            status, told = pipeline.api.call("GET", "/alerts", token=pipeline.api.token)
            check(status >= 500, f"without {action} the API fails", (status, told))
        wait(f"{function} is denied {action}",
             lambda f=function, a=action: pipeline.calls(f).get(a, {}).get("denied", 0) > before[f])
        withheld[function].restore()
        passed(f"{function} fails without {action}")
    for who in (live, filed):
        pipeline.response_in(who.used, "contained")
        passed(f"with all actions back nothing was lost: {who.name}'s key is contained")


def only_poison_is_dead(pipeline: Pipeline) -> None:
    """Each dead-letter queue holds its one malformed message."""
    step("dead-letter queues")
    wanted = {queue.replace("Queue", "DeadQueue"): [POISON] for queue in QUEUES}
    found: dict[str, list[str]] = {}

    def all_there() -> bool:
        found.clear()
        found.update(pipeline.dead())
        return found == wanted

    try:
        wait("the malformed messages are set aside", all_there, every=3)
    except checks.CheckFailed:
        same(found, wanted, "every malformed message is in its dead-letter queue, and nothing else")
    passed("every malformed message is in its dead-letter queue, and nothing else")
    denied = {f: {a: c["denied"] for a, c in pipeline.calls(f).items() if c["denied"]} for f in FUNCTIONS}
    print(f"  denied in all: {denied}")


if __name__ == "__main__":
    try:
        main()
    except checks.CheckFailed as failure:
        print(f"FAILED {failure}", file=sys.stderr)
        sys.exit(1)
