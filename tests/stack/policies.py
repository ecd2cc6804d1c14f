"""Takes single actions away from deployed roles and gives them back, to see that the policies are what lets functions work."""

from __future__ import annotations

import copy
import json
from typing import Any

from emulator import Emulator


class Withheld:
    """An action that a role lost; `restore` gives it back."""

    def __init__(self, emulator: Emulator, role_arn: str, action: str) -> None:
        self.emulator, self.action = emulator, action
        self.role = role_arn.rsplit("/", 1)[-1]
        iam = emulator.client("iam")
        self._before: dict[str, dict[str, Any]] = {}
        for name in iam.list_role_policies(RoleName=self.role)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=self.role, PolicyName=name)["PolicyDocument"]
            less = without(document, action)
            if less != document:
                self._before[name] = copy.deepcopy(document)
                iam.put_role_policy(RoleName=self.role, PolicyName=name, PolicyDocument=json.dumps(less))
        if not self._before:
            raise ValueError(f"{self.role} has no statement that names {action}")

    def restore(self) -> None:
        """Puts the policies back as they were."""
        iam = self.emulator.client("iam")
        for name, document in self._before.items():
            iam.put_role_policy(RoleName=self.role, PolicyName=name, PolicyDocument=json.dumps(document))


def without(document: dict[str, Any], action: str) -> dict[str, Any]:
    """A policy that allows the same but for one action."""
    less = copy.deepcopy(document)
    kept = []
    for statement in less["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        left = [a for a in actions if a != action]
        if left:
            kept.append({**statement, "Action": left if len(left) < len(actions) else statement["Action"]})
    less["Statement"] = kept
    return less
