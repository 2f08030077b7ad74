"""Which credential opens which plane: each its own, none the other's, and without one no setting opens any."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.db import IntegrityError, transaction

from gateway.api import urls
from tenants.models import AuditEvent
from tests.cast import Api
from tests.gateway.door import PROMPT, Door, error_of
from tests.support.server import Server

BODY = {"model": "demo/echo", "messages": PROMPT}
DATA_PLANE = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/demo/echo"),
]
ADMIN_PLANE = [
    (method, "/v1/admin/" + re.sub("<[^>]+>", "00000000-0000-4000-8000-000000000000", route))
    for pattern in urls.urlpatterns
    for route in [str(pattern.pattern)]
    for method, access in getattr(pattern.callback, "view_initkwargs")["access"].items()  # noqa: B009 - Django puts it there
    if not access.public
]

#: Everything that is, could be or elsewhere was a way to let people in without a credential, all of it at once.
OPEN_EVERYTHING = {
    "DEBUG": "1",
    "ALLOWED_HOSTS": "*",
    "TRUSTED_PROXIES": "0.0.0.0/0,::/0",
    "GATEHOUSE_ALLOWED_UPSTREAMS": "0.0.0.0/0,::/0",
    "GATEHOUSE_AUTH_STALE_SECONDS": "1000000",
    "GATEHOUSE_PUBLIC_SIGNUP": "1",
    "GATEHOUSE_AUTO_PROVISION": "1",
    "AUTH_OIDC_ISSUERS": "[]",
    **dict.fromkeys(["GATEHOUSE_ADMIN_TOKEN", "GATEHOUSE_METRICS_TOKEN", "MASTER_KEY"], ""),
    **dict.fromkeys(["AUTH_DISABLED", "DISABLE_AUTH", "NO_AUTH", "GATEHOUSE_NO_AUTH"], "1"),
    **dict.fromkeys(["AUTH", "AUTH_ENABLED", "AUTH_REQUIRED", "REQUIRE_AUTH"], "0"),
    **dict.fromkeys(["GATEHOUSE_AUTH", "GATEHOUSE_AUTH_ENABLED", "GATEHOUSE_EXPRESS"], "off"),
}


def statuses(url: str, doors: list[tuple[str, str]], headers: dict[str, str]) -> set[int]:
    with httpx.Client(base_url=url, trust_env=False, timeout=30, headers=headers) as client:
        return {
            client.request(method, path, json=None if method == "GET" else BODY).status_code
            for method, path in doors
        }


@pytest.mark.sqlite
@pytest.mark.slow
def test_no_setting_opens_a_plane_without_a_credential(gatehouse: Callable[..., Server]):
    server = gatehouse(env=OPEN_EVERYTHING)
    assert len(ADMIN_PLANE) > 25
    nobody = [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer null"},
        {"x-api-key": ""},
        {"x-admin-key": ""},
        {"x-admin-key": "admin"},
        {"x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1"},
    ]
    for headers in nobody:
        for doors in (DATA_PLANE, ADMIN_PLANE, [("GET", "/health/detail")]):
            assert statuses(server.url, doors, headers) == {401}, headers


@pytest.mark.sqlite
@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key", "x-goog-api-key"])
def test_an_operators_token_opens_no_door_of_the_data_plane(door: Door, header: str):
    value = f"Bearer {door.admin.token}" if header == "authorization" else door.admin.token
    before = len(door.oracle.calls)
    assert statuses(door.server.url, DATA_PLANE, {header: value}) == {401}
    answer = door.client.post(DATA_PLANE[0][1], json=BODY, headers={header: value})
    assert error_of(answer)["code"] == "invalid_api_key"
    assert len(door.oracle.calls) == before


@pytest.mark.sqlite
def test_a_tenants_key_opens_no_door_of_the_admin_plane(door: Door):
    for headers in (door.key.bearer, {"x-api-key": door.key.secret}, {"x-admin-key": "x"}):
        doors = [*ADMIN_PLANE, ("GET", "/health/detail")]
        assert statuses(door.server.url, doors, headers) == {401}


@pytest.mark.django_db
@pytest.mark.parametrize("column", ["actor_type", "actor_id", "actor_label", "method"])
def test_the_database_takes_no_audit_row_without_an_actor(api: Api, column: str):
    newest = AuditEvent.objects.order_by("-created_at").values().first()
    assert newest is not None
    row: dict[str, Any] = {name: value for name, value in newest.items() if name != "id"}
    AuditEvent.objects.create(**{**row, "seq": row["seq"] + 1})
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditEvent.objects.create(**{**row, "seq": row["seq"] + 2, column: ""})
