#!/usr/bin/env python3
"""Holds scripts/policies to finding what it is there for: each test changes one thing in a small project.

usage: policies_test.py   (with a Python that has PyYAML and botocore)
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

TEMPLATE = """\
Resources:
  Enrich:
    Type: AWS::Serverless::Function
    Metadata: { BuildMethod: rust-cargolambda, BuildProperties: { Binary: enrich-lambda } }
    Properties:
      Role: !GetAtt EnrichRole.Arn
      Environment: { Variables: { SENTINEL_OWN_ROLE: x } }
      Events:
        Messages: { Type: SQS, Properties: { Queue: !GetAtt EnrichQueue.Arn } }
  EnrichRole:
    Type: AWS::IAM::Role
    Properties:
      Policies:
        - PolicyDocument:
            Statement:
              # Writes its log.
              - Sid: Logs
                Effect: Allow
                Action: [logs:CreateLogStream, logs:PutLogEvents]
                Resource: !GetAtt EnrichLog.Arn
              # Takes messages.
              - Sid: Receive
                Effect: Allow
                Action: [sqs:ReceiveMessage, sqs:DeleteMessage, sqs:GetQueueAttributes]
                Resource: !GetAtt EnrichQueue.Arn
              # Sends messages.
              - Sid: Send
                Effect: Allow
                Action: sqs:SendMessage
                Resource: !GetAtt RespondQueue.Arn
              # Own key.
              - !If
                - HasKey
                - Sid: Key
                  Effect: Allow
                  Action: [kms:Decrypt, kms:GenerateDataKey]
                  Resource: !Ref KmsKeyArn
                - !Ref AWS::NoValue
"""
CONTAINS = """\
    Type: AWS::IAM::Role
    Properties:
      Policies:
        - PolicyDocument:
            Statement:
              # Switches keys.
              - Sid: Keys
                Effect: Allow
                Action: iam:UpdateAccessKey
                Resource: "*"
"""
MEMBER = "Resources:\n  MemberRole:\n" + CONTAINS
SQS = """\
use aws_sdk_sqs::Client;
/// Sends.
pub const SEND: &[&str] = &["sqs:SendMessage"];
async fn send(client: &Client) { client.send_message_batch().send().await; }
"""
IAM = """\
use aws_sdk_iam::Client;
pub const WRITE: &[&str] = &[UPDATE];
const UPDATE: &str = "iam:UpdateAccessKey";
async fn set(client: &Client) { client.update_access_key().send().await; }
"""
PERMISSIONS = """\
[Enrich]
"sqs::SEND" = "RespondQueue"
"""
CALLED = ["sqs:SendMessage"]


class Policies(unittest.TestCase):
    """A project in which everything agrees, and what each disagreement is told as."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("template.yaml", TEMPLATE + "  ContainmentRole:\n" + CONTAINS)
        self.write("infra/member-account.yaml", MEMBER)
        self.write("shared/aws/src/sqs.rs", SQS)
        self.write("shared/aws/src/iam.rs", IAM)
        self.write("shared/aws/src/connect.rs", "use crate::{\n    sqs::SqsQueue,\n};\npub fn queue() -> SqsQueue {\n    SqsQueue::new()\n}\n")
        self.write("functions/enrich/lambda/src/main.rs", "use sentinel_aws::connect;\nfn main() { connect::queue(); read(\"SENTINEL_OWN_ROLE\") }\n")
        self.write("functions/enrich/lambda/permissions.toml", PERMISSIONS)
        self.write("shared/telemetry/src/metrics.rs", 'pub const ALERTS: &str = "sentinel_alerts_total";\n')
        self.write("calls.json", json.dumps({"stack-EnrichRole-1A2B": CALLED, "stack-ContainmentRole-3C4D": ["iam:UpdateAccessKey"]}))

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def change(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        self.assertIn(old, text)
        self.write(path, text.replace(old, new))

    def told(self) -> str:
        """What the script finds wrong."""
        loader = importlib.machinery.SourceFileLoader("policies", str(Path(__file__).with_name("policies")))
        spec = importlib.util.spec_from_loader("policies", loader)
        assert spec
        policies = importlib.util.module_from_spec(spec)
        sys.modules["policies"] = policies
        loader.exec_module(policies)
        policies.ROOT = self.root
        policies.TEMPLATE = self.root / "template.yaml"
        policies.MEMBER = self.root / "infra" / "member-account.yaml"
        policies.ADAPTERS = self.root / "shared" / "aws" / "src"
        policies.DOCS = self.root / "deploy.md"
        policies.DOCS.write_text(f"{policies.BEGIN}\n{policies.END}\n")
        errors = io.StringIO()
        for arguments in (["--write"], ["--calls", str(self.root / "calls.json")]):
            sys.argv = ["policies", *arguments]
            policies.problems.clear()
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                status = policies.main()
        self.assertEqual(status == 0, errors.getvalue() == "")
        return errors.getvalue()

    def test_agreement_is_clean(self) -> None:
        self.assertEqual(self.told(), "")

    def test_a_missing_action(self) -> None:
        self.change("template.yaml", "Action: sqs:SendMessage", "Action: sqs:GetQueueUrl")
        told = self.told()
        self.assertIn("EnrichRole must be allowed sqs:SendMessage on RespondQueue", told)
        self.assertIn("EnrichRole is allowed sqs:GetQueueUrl on RespondQueue, which nothing it runs needs", told)
        self.assertIn("EnrichRole called sqs:SendMessage, which its policy does not allow", told)

    def test_another_resource(self) -> None:
        self.change("template.yaml", "Resource: !GetAtt RespondQueue.Arn", "Resource: !GetAtt DetectQueue.Arn")
        told = self.told()
        self.assertIn("must be allowed sqs:SendMessage on RespondQueue", told)
        self.assertIn("is allowed sqs:SendMessage on DetectQueue", told)

    def test_a_wildcard_and_a_statement_without_a_comment(self) -> None:
        self.change("template.yaml", "              # Sends messages.\n", "")
        self.change("template.yaml", "Action: sqs:SendMessage", "Action: sqs:*")
        told = self.told()
        self.assertIn("sqs:* is a wildcard", told)
        self.assertIn("EnrichRole Send: no comment above", told)

    def test_an_alarm_looks_at_what_is_emitted(self) -> None:
        alarm = """  Alarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      Namespace: CloudSentinel
      MetricName: sentinel_alerts_total
      Dimensions: [{ Name: stage, Value: enrich }]
"""
        self.write("template.yaml", (self.root / "template.yaml").read_text() + alarm)
        self.assertEqual(self.told(), "")
        self.change("template.yaml", "sentinel_alerts_total", "sentinel_alert_total")
        self.assertIn("sentinel_alert_total, which nothing emits", self.told())
        self.change("template.yaml", "sentinel_alert_total", "sentinel_alerts_total")
        self.change("template.yaml", "Value: enrich", "Value: enrih")
        self.assertIn("Alarm looks at dimensions", self.told())
        self.change("template.yaml", "[{ Name: stage, Value: enrih }]", "[{ Name: stage, Value: enrich }, { Name: level, Value: high }]")
        self.assertIn("sentinel_alerts_total has ['stage']", self.told())

    def test_only_the_roles_that_contain_write_iam(self) -> None:
        self.change("template.yaml", "Action: sqs:SendMessage", "Action: [sqs:SendMessage, iam:UpdateAccessKey]")
        self.assertIn("only the roles that respond contains with may write IAM", self.told())

    def test_a_call_that_no_constant_declares(self) -> None:
        self.change("shared/aws/src/sqs.rs", "client.send_message_batch()", "client.send_message_batch(); client.purge_queue()")
        self.assertIn("sqs.rs: purge_queue needs sqs:PurgeQueue, which no constant of sqs declares", self.told())

    def test_a_constant_without_a_call(self) -> None:
        self.change("shared/aws/src/sqs.rs", "client.send_message_batch()", "client")
        self.assertIn("sqs declares sqs:SendMessage, but makes no call", self.told())

    def test_an_adapter_that_no_role_names(self) -> None:
        self.change("functions/enrich/lambda/src/main.rs", "connect::queue();", "connect::queue(); sentinel_aws::iam::set();")
        self.assertIn("uses sentinel_aws::iam, but no role has a capability of it", self.told())

    def test_a_capability_that_is_not_wired(self) -> None:
        self.change("functions/enrich/lambda/src/main.rs", "connect::queue();", "")
        self.assertIn("does not use sentinel_aws::sqs", self.told())

    def test_a_setting_that_is_not_read_and_one_that_is_not_given(self) -> None:
        self.change("template.yaml", "SENTINEL_OWN_ROLE", "SENTINEL_ROLE")
        told = self.told()
        self.assertIn("enrich is given SENTINEL_ROLE, which its code does not read", told)
        self.assertIn("enrich reads SENTINEL_OWN_ROLE, which it is not given", told)

    def test_an_allowed_action_that_was_never_called(self) -> None:
        self.write("calls.json", json.dumps({"stack-EnrichRole-1A2B": ["sqs:ReceiveMessage"]}))
        self.assertIn("EnrichRole may sqs:SendMessage, but never did", self.told())

    def test_a_containing_role_that_called_something_else(self) -> None:
        self.write("calls.json", json.dumps({"stack-ContainmentRole-3C4D": ["iam:DeleteUser"]}))
        told = self.told()
        self.assertIn("ContainmentRole called iam:DeleteUser, which its policy does not allow", told)
        self.assertIn("ContainmentRole may iam:UpdateAccessKey, but never did", told)

    def test_the_member_role_allows_what_the_adapter_calls(self) -> None:
        self.change("infra/member-account.yaml", "iam:UpdateAccessKey", "iam:DeleteAccessKey")
        self.assertIn("MemberRole must allow exactly ['iam:UpdateAccessKey']", self.told())


if __name__ == "__main__":
    unittest.main()
