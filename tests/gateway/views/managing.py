"""A client of a tenant's own doors, with one of its keys."""

import json
import re
from typing import TYPE_CHECKING, Any

from django.test import Client
from django.urls import Resolver404, resolve

from keys.services import SCOPES, Issued, issue_key
from tenants.actor import system_actor
from tenants.models import Tenant
from tests.support import promises

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

STAGING = system_actor("staging")


class Holder:
    """Speaks JSON with `/v1/` as the holder of a key. Each answer is held against the OpenAPI document."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> "Answer":
        sent = b"" if body is None else json.dumps(body).encode()
        answer = Client().generic(
            method,
            f"/v1/{path}",
            sent,
            content_type="application/json",
            headers={"authorization": f"Bearer {self.secret}", **headers},
        )
        held(method, f"/v1/{path}", sent, answer)
        return answer

    def get(self, path: str) -> "Answer":
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> "Answer":
        return self.call("POST", path, body)

    def patch(self, path: str, body: Any) -> "Answer":
        return self.call("PATCH", path, body)

    def delete(self, path: str) -> "Answer":
        return self.call("DELETE", path)


def held(method: str, path: str, sent: bytes, answer: "Answer") -> None:
    """Against what the document says of this route: see `tests/support/promises.py`."""
    address, _, query = path.partition("?")
    try:
        route = resolve(address).route.removeprefix("v1/")
    except Resolver404:
        return
    documented = re.sub(r"<\w+:(\w+)>", r"{\1}", route)
    promises.hold(
        method, documented, query, sent, answer.status_code, answer.content, promises.TENANTS
    )


def holder_of(issued: Issued) -> Holder:
    return Holder(issued.credential.reveal().decode())


def key_of(tenant: Tenant, **fields: Any) -> Issued:
    """A key with every scope, unless told otherwise."""
    values = {"name": "manager", "scopes": list(SCOPES), **fields}
    return issue_key(actor=STAGING, tenant_id=tenant.id, **values)


def code_of(answer: "Answer") -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, body["error"]["code"]
