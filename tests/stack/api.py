"""The deployed HTTP API as its users call it: through the emulator's API Gateway, with tokens from the login."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from deploy import Stack

NEW_PASSWORD = "a-long-password-of-the-tests-1"  # noqa: S105 (of an account in an emulator)


class Api:
    """A client of the stack's API."""

    def __init__(self, stack: Stack) -> None:
        # The emulator serves every API under this path; the rest is as API Gateway passes it on.
        self.base = f"{stack.emulator.url}/_aws/execute-api/{stack.outputs['ApiId']}/$default"
        self.stack = stack
        self.token: str | None = None

    def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """Status and decoded answer of a request; never raises for a status."""
        headers = {"content-type": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/api/v1{path}", data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _decoded(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _decoded(error.read())

    def get(self, path: str, **query: str) -> Any:
        """What a path answers to whoever is logged in; raises for any status but 200."""
        full = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        status, told = self.call("GET", full, token=self.token)
        if status != 200:
            raise RuntimeError(f"GET {full}: {status} {told}")
        return told

    def first_password(self) -> str:
        """The first administrator's password, from the secret that the stack made."""
        secrets = self.stack.emulator.client("secretsmanager")
        return str(secrets.get_secret_value(SecretId=self.stack.outputs["AdminPasswordSecret"])["SecretString"])

    def login(self) -> None:
        """Logs in as the first administrator and changes the password, as the first login demands."""
        first = self.first_password()
        status, told = self.call("POST", "/auth/login", {"username": "admin", "password": first})
        if status != 200:
            raise RuntimeError(f"login: {status} {told}")
        change = {"current_password": first, "new_password": NEW_PASSWORD}
        status, told = self.call("POST", "/auth/password", change, told["token"])
        if status != 200:
            raise RuntimeError(f"change of the password: {status} {told}")
        self.token = told["token"]

    def all(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Every item of a listing."""
        items: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.get(path, limit="100", **query, **cursor)
            items += page["items"]
            if not page.get("next_cursor"):
                return items
            cursor = {"cursor": page["next_cursor"]}


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")
