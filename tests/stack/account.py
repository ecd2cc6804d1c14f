"""The account under attack: users with keys, what an intruder does with one, trail files, and IAM as it stands.

In: the emulator. Out: calls made against it with a user's own key, which the recording hook puts on the bus; records of the
same kind for a trail file.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
import time
import uuid
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from emulator import ACCOUNT, REGION, Emulator

ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
MAY = ["iam:CreateAccessKey", "iam:AttachUserPolicy", "iam:GetUser", "cloudtrail:StopLogging", "cloudtrail:DeleteTrail"]
# As which the emulator starts. Any twelve digits are the root user of that account.
ROOT_USER = ("test", "test")
REFUSED = ("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId")


@dataclass
class Intruder:
    """An IAM user with two keys, the first of which is in the wrong hands, and the victim it works on."""

    name: str
    arn: str
    unique_id: str
    keys: list[tuple[str, str]]
    victim: str
    root: tuple[str, str] = ROOT_USER

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]

    @property
    def used(self) -> str:
        return self.keys[0][0]

    @property
    def other(self) -> str:
        return self.keys[1][0]


def make_intruder(emulator: Emulator, name: str, root: tuple[str, str] = ROOT_USER) -> Intruder:
    """A user with two keys and a policy, another user as its victim, and a trail to stop; in the account of `root`."""
    iam = emulator.client("iam", root)
    user = iam.create_user(UserName=name)["User"]
    keys = []
    for _ in range(2):
        made = iam.create_access_key(UserName=name)["AccessKey"]
        keys.append((made["AccessKeyId"], made["SecretAccessKey"]))
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": MAY, "Resource": "*"}]}
    iam.put_user_policy(UserName=name, PolicyName="work", PolicyDocument=json.dumps(policy))
    victim = f"{name}-victim"
    iam.create_user(UserName=victim)
    bucket = f"{name}-trail-bucket"
    emulator.client("s3", root).create_bucket(Bucket=bucket)
    emulator.client("cloudtrail", root).create_trail(Name=f"{name}-trail", S3BucketName=bucket)
    return Intruder(name, user["Arn"], user["UserId"], keys, victim, root)


def attack(emulator: Emulator, intruder: Intruder) -> None:
    """Takes over the victim and blinds the account, with the first key."""
    iam, cloudtrail = (emulator.client(service, intruder.keys[0]) for service in ("iam", "cloudtrail"))
    iam.create_access_key(UserName=intruder.victim)
    iam.attach_user_policy(UserName=intruder.victim, PolicyArn=ADMINISTRATOR)
    cloudtrail.stop_logging(Name=f"{intruder.name}-trail")
    cloudtrail.delete_trail(Name=f"{intruder.name}-trail")


def works(emulator: Emulator, intruder: Intruder, key: tuple[str, str]) -> bool:
    """Whether a call signed with a key is answered; False when the key itself is refused."""
    try:
        emulator.client("iam", key).get_user(UserName=intruder.name)
    except ClientError as error:
        if error.response["Error"]["Code"] in REFUSED:
            return False
        raise
    return True


def key_states(emulator: Emulator, user: str, root: tuple[str, str] = ROOT_USER) -> dict[str, str]:
    """Status of each key of a user."""
    found = emulator.client("iam", root).list_access_keys(UserName=user)["AccessKeyMetadata"]
    return {key["AccessKeyId"]: key["Status"] for key in found}


def snapshot(emulator: Emulator) -> dict[str, Any]:
    """Users, their keys and policies, and roles with theirs: all that a response could have touched."""
    iam = emulator.client("iam")
    users = {}
    for user in iam.list_users()["Users"]:
        name = user["UserName"]
        inline = iam.list_user_policies(UserName=name)["PolicyNames"]
        users[name] = {
            "keys": key_states(emulator, name),
            "attached": sorted(p["PolicyArn"] for p in iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]),
            "inline": {p: iam.get_user_policy(UserName=name, PolicyName=p)["PolicyDocument"] for p in inline},
        }
    roles = {}
    for role in iam.list_roles()["Roles"]:
        name = role["RoleName"]
        inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
        roles[name] = {p: iam.get_role_policy(RoleName=name, PolicyName=p)["PolicyDocument"] for p in inline}
    return copy.deepcopy({"users": users, "roles": roles})


def record(intruder: Intruder, event_name: str, source: str, parameters: dict[str, Any], chance: random.Random,
           at: float | None = None) -> dict[str, Any]:
    """A CloudTrail record of a call with the first key, as a trail file holds it."""
    return {
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "IAMUser", "principalId": intruder.unique_id, "arn": intruder.arn, "accountId": intruder.account,
            "accessKeyId": intruder.used, "userName": intruder.name,
        },
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at or time.time())),
        "eventSource": f"{source}.amazonaws.com",
        "eventName": event_name,
        "awsRegion": REGION,
        "sourceIPAddress": "198.51.100.23",
        "userAgent": "aws-cli/2.15.0",
        "requestParameters": parameters,
        "responseElements": None,
        "requestID": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "eventID": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": intruder.account,
        "eventCategory": "Management",
    }


def attack_records(intruder: Intruder, chance: random.Random, at: float | None = None) -> list[dict[str, Any]]:
    """The attack's records, for an attack that is only told by a trail file."""
    trail = {"name": f"arn:aws:cloudtrail:{REGION}:{intruder.account}:trail/main"}
    return [
        record(intruder, "AttachUserPolicy", "iam", {"userName": intruder.victim, "policyArn": ADMINISTRATOR}, chance, at),
        record(intruder, "StopLogging", "cloudtrail", trail, chance, at),
        record(intruder, "DeleteTrail", "cloudtrail", trail, chance, at),
    ]


def trail_file(records: list[dict[str, Any]], tag: str) -> tuple[str, bytes]:
    """Key and content of a trail file, as CloudTrail names and writes it."""
    now = time.gmtime()
    day, stamp = time.strftime("%Y/%m/%d", now), time.strftime("%Y%m%dT%H%MZ", now)
    account = records[0]["recipientAccountId"] if records else ACCOUNT
    key = f"AWSLogs/{account}/CloudTrail/{REGION}/{day}/{account}_CloudTrail_{REGION}_{stamp}_{tag}.json.gz"
    return key, gzip.compress(json.dumps({"Records": records}).encode(), mtime=0)
