"""What the recording hook writes about calls: checked without an emulator."""

from __future__ import annotations

import json
import unittest
from typing import Any

import trail

USER = trail.Caller("AKIAEXAMPLE", "arn:aws:iam::123456789012:user/team/ann", "AIDAEXAMPLE", "123456789012")
ROLE = trail.Caller(
    "ASIAEXAMPLE", "arn:aws:sts::123456789012:assumed-role/app/session", "AROAEXAMPLE:session", "123456789012",
    "arn:aws:iam::123456789012:role/path/app", "AROAEXAMPLE",
)
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
MADE = b"""<CreateAccessKeyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><CreateAccessKeyResult><AccessKey>
<UserName>bob</UserName><AccessKeyId>AKIANEW</AccessKeyId><Status>Active</Status><SecretAccessKey>hidden</SecretAccessKey>
</AccessKey></CreateAccessKeyResult></CreateAccessKeyResponse>"""


def call(action: str, body: bytes = b"", status: int = 200, answer: bytes = b"", headers: dict[str, str] | None = None) -> trail.Call:
    """A call with what a test does not care about filled in."""
    return trail.Call(action, "eu-west-1", "request", headers or FORM, {}, body, status, answer)


def recorded(made: trail.Call, caller: trail.Caller = USER) -> dict[str, Any]:
    """The record, which must exist."""
    found = trail.record(made, caller)
    assert found is not None
    return found


class Lookups(unittest.TestCase):
    """LookupEvents over records."""

    def test_pages_hold_each_event_once_newest_first_and_keep_to_what_there_was(self) -> None:
        times = [f"2026-03-01T12:00:{second:02}Z" for second in range(25)]
        records = [recorded(call("iam:CreateUser")) | {"eventTime": at, "eventID": at} for at in times]
        asked: dict[str, Any] = {"StartTime": 1772366402, "EndTime": 1772366423, "MaxResults": 50}
        found: list[str] = []
        for page in range(4):
            status, told = trail.lookup(records, asked)
            self.assertEqual(status, 200)
            found += [json.loads(event["CloudTrailEvent"])["eventID"] for event in told["Events"]]
            records.append(records[5] | {"eventID": f"late {page}"})
            if "NextToken" not in told:
                break
            asked["NextToken"] = told["NextToken"]
        self.assertEqual(found, times[2:24][::-1])

    def test_what_the_service_refuses_is_refused(self) -> None:
        for asked, code in (
            ({"StartTime": 2, "EndTime": 1}, "InvalidTimeRangeException"),
            ({"MaxResults": 51}, "InvalidMaxResultsException"),
            ({"NextToken": "other"}, "InvalidNextTokenException"),
        ):
            status, told = trail.lookup([], asked)
            self.assertEqual((status, told["__type"]), (400, code))


class Records(unittest.TestCase):
    """Records of single calls."""

    def test_a_made_key_is_told_without_its_secret(self) -> None:
        found = recorded(call("iam:CreateAccessKey", b"Action=CreateAccessKey&Version=2010-05-08&UserName=bob", answer=MADE))
        self.assertEqual(found["requestParameters"], {"userName": "bob"})
        self.assertEqual(found["responseElements"]["accessKey"]["accessKeyId"], "AKIANEW")
        self.assertNotIn("hidden", json.dumps(found))
        self.assertEqual((found["eventSource"], found["awsRegion"]), ("iam.amazonaws.com", "us-east-1"))
        self.assertEqual(found["userIdentity"]["userName"], "ann")

    def test_a_session_names_its_role(self) -> None:
        found = recorded(call("iam:UpdateAccessKey"), ROLE)
        issuer = found["userIdentity"]["sessionContext"]["sessionIssuer"]
        self.assertEqual(issuer["arn"], "arn:aws:iam::123456789012:role/path/app")
        self.assertEqual(found["userIdentity"]["type"], "AssumedRole")

    def test_a_denied_call_is_recorded_and_a_refused_key_is_not(self) -> None:
        denied = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        found = recorded(call("iam:DeleteUser", status=403, answer=denied))
        self.assertEqual((found["errorCode"], found["responseElements"]), ("AccessDenied", None))
        refused = b"<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>"
        self.assertIsNone(trail.record(call("iam:DeleteUser", status=403, answer=refused), USER))

    def test_errors_of_json_services_lose_their_prefix(self) -> None:
        told = json.dumps({"__type": "com.amazonaws#TrailNotFoundException", "message": "none"}).encode()
        found = recorded(call("cloudtrail:StopLogging", b'{"Name": "main"}', 400, told, {"content-type": "application/x-amz-json-1.1"}))
        self.assertEqual((found["errorCode"], found["requestParameters"]), ("TrailNotFoundException", {"name": "main"}))

    def test_data_events_are_not_recorded(self) -> None:
        for action in ("dynamodb:PutItem", "sqs:SendMessage", "s3:PutObject", "lambda:InvokeFunction"):
            self.assertIsNone(trail.record(call(action), USER), action)

    def test_members_become_lists(self) -> None:
        body = b"Action=TagUser&UserName=bob&Tags.member.1.Key=a&Tags.member.1.Value=1&Tags.member.2.Key=b&Tags.member.2.Value=2"
        found = recorded(call("iam:TagUser", body))
        self.assertEqual(found["requestParameters"]["tags"], [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}])

    def test_reading_is_marked(self) -> None:
        self.assertTrue(recorded(call("iam:ListUsers"))["readOnly"])
        self.assertFalse(recorded(call("iam:CreateUser"))["readOnly"])


if __name__ == "__main__":
    unittest.main()
