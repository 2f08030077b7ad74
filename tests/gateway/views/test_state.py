"""A key's holder sees the state of that key, and of no other."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from django.db import OperationalError
from django.test import Client

from keys import tokens
from keys.models import KeySecret
from keys.services import Issued, issue_key, revoke_key, rotate_key, update_key
from tenants.actor import Actor
from tenants.models import Tenant
from tenants.services import update_tenant
from tests.cast import Api
from tests.gateway.api.calls import log_row, rollup
from tests.gateway.views.managing import held
from usage.models import Hold

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

MONTH = f"{datetime.now(UTC):%Y-%m}"
STATE = ("/v1/key", "/v1/traces")


def ask(path: str, issued: Issued | None, **headers: str) -> "Answer":
    bearer = (
        {} if issued is None else {"authorization": f"Bearer {issued.credential.reveal().decode()}"}
    )
    answer = Client().get(path, headers={**bearer, **headers})
    held("GET", path, b"", answer)
    return answer


def code_of(answer: "Answer") -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"] == answer.headers["request-id"]
    return answer.status_code, body["error"]["code"]


def hold(key: Issued, **fields: Any) -> Hold:
    row = log_row(key_id=key.key.id)
    values = {"tokens": 70, "nano_usd": 5_000_000, "model": "m", "created_at": row.created_at}
    caller = {
        "tenant_id": key.key.tenant_id,
        "tenant": "acme",
        "key_id": key.key.id,
        "key_prefix": "gwk_abcdef",
    }
    return Hold.objects.create(
        month=row.month, request_id=row.request_id, **{**caller, **values, **fields}
    )


# --- GET /v1/key ------------------------------------------------------------------------------------------------------


def test_a_key_shows_its_limits_and_what_it_spent_and_holds(key: Issued, staging: Actor) -> None:
    update_key(actor=staging, key_id=key.key.id, rate_limit_rpm=60)
    update_tenant(
        actor=staging, tenant_id=key.key.tenant_id, max_concurrency=9, rate_limit_rpm=None
    )
    rollup(
        MONTH, key.key.id, model="a", requests=2, tokens_in=30, tokens_out=12, unpriced_requests=1
    )
    rollup(MONTH, key.key.id, model="b", requests=1, tokens_in=5, tokens_out=3)
    rollup("2020-01", key.key.id, requests=1000)
    hold(key)
    hold(key, tokens=30)
    body = ask("/v1/key", key).json()
    assert (body["object"], body["id"], body["tenant"]) == ("key_state", str(key.key.id), "acme")
    assert body["key_prefix"] == tokens.shown_part(key.credential)
    assert body["limits"]["rate_limit_rpm"] == 60
    assert body["limits"]["tokens_budget"] is None
    assert (body["tenant_limits"]["max_concurrency"], body["tenant_limits"]["rate_limit_rpm"]) == (
        9,
        None,
    )
    assert body["period"] == MONTH
    assert body["spent"] == {
        "requests": 3,
        "tokens_in": 35,
        "tokens_out": 15,
        "tokens_total": 50,
        "cost_usd": "2",
        "unpriced_requests": 1,
    }
    assert body["held"] == {"tokens": 100, "cost_usd": "0.01"}
    assert body["remaining"] == {"tokens": None, "cost_usd": None}
    ends = datetime.fromisoformat(body["reset_at"])
    assert (ends.day, ends.hour, ends > datetime.now(UTC)) == (1, 0, True)
    assert f"{ends - timedelta(seconds=1):%Y-%m}" == MONTH


def test_the_admin_api_tells_the_same_of_it(key: Issued, api: Api) -> None:
    rollup(MONTH, key.key.id, requests=2, tokens_in=30, tokens_out=12)
    hold(key)
    told = api.get(f"keys/{key.key.id}/usage").json()
    body = ask("/v1/key", key).json()
    assert (told["requests_this_month"], told["tokens_total"]) == (
        body["spent"]["requests"],
        body["spent"]["tokens_total"],
    )
    assert (told["cost_usd"], told["held_usd"]) == (
        body["spent"]["cost_usd"],
        body["held"]["cost_usd"],
    )


def test_a_key_that_did_nothing_has_spent_nothing(key: Issued) -> None:
    body = ask("/v1/key", key).json()
    assert set(body["spent"].values()) == {0, "0"}
    assert body["held"] == {"tokens": 0, "cost_usd": "0"}


def test_nothing_secret_is_in_it(key: Issued) -> None:
    text = ask("/v1/key", key).content.decode()
    assert key.credential.reveal().decode() not in text
    fingerprints = [bytes(row.fingerprint).hex() for row in KeySecret.objects.all()]
    assert not any(each in text for each in fingerprints)


# --- GET /v1/traces ---------------------------------------------------------------------------------------------------


def test_the_calls_of_this_key_alone_are_listed_newest_first(
    key: Issued, tenant: Tenant, staging: Actor
) -> None:
    sibling = issue_key(actor=staging, tenant_id=tenant.id, name="sibling")
    now = datetime.now(UTC)
    own = [log_row(key_id=key.key.id, created_at=now - timedelta(minutes=n)) for n in range(5)]
    for stranger in (sibling.key.id, None):
        log_row(**({"key_id": stranger} if stranger else {}), tenant_id=tenant.id)
    first = ask("/v1/traces?limit=3", key).json()
    assert (first["object"], first["has_more"], first["total"]) == ("list", True, None)
    rest = ask(f"/v1/traces?limit=3&cursor={first['next_cursor']}", key).json()
    assert (rest["has_more"], rest["next_cursor"]) == (False, None)
    listed = [row["id"] for row in (*first["data"], *rest["data"])]
    assert listed == [str(row.request_id) for row in own]


def test_a_row_has_the_shape_of_the_log_and_nothing_of_the_providers_account(
    key: Issued, api: Api
) -> None:
    log_row(key_id=key.key.id)
    (told,) = api.get(f"logs?key={key.key.id}").json()["data"]
    (row,) = ask("/v1/traces", key).json()["data"]
    assert {**row, "object": told["object"]} == told
    assert not {"provider_id", "credential_id", "base_url", "tenant_id"} & set(row)


def test_rotation_hides_no_call(key: Issued, staging: Actor) -> None:
    log_row(key_id=key.key.id)
    renewed = rotate_key(actor=staging, key_id=key.key.id)
    assert len(ask("/v1/traces", renewed).json()["data"]) == 1
    assert code_of(ask("/v1/traces", key)) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=1.5",
        "cursor=x",
        "tenant=acme",
        "key=x",
        "limit=1&limit=2",
        "cursor=%00",
    ],
)
def test_a_parameter_that_cannot_be_is_named(key: Issued, query: str) -> None:
    answer = ask(f"/v1/traces?{query}", key)
    assert code_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == query.partition("=")[0]


def test_the_state_of_a_key_takes_no_parameter(key: Issued) -> None:
    assert code_of(ask("/v1/key?id=1", key)) == (400, "invalid_request")


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", STATE)
def test_only_a_good_key_opens_it(path: str, key: Issued, api: Api, staging: Actor) -> None:
    assert code_of(ask(path, None)) == (401, "missing_api_key")
    others = (
        f"Bearer {api.token}",
        "Bearer gwk_nonsense",
        "Basic x",
        f"Bearer {tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode()}",
    )
    refusals = [ask(path, None, authorization=text) for text in others]
    revoke_key(actor=staging, key_id=key.key.id)
    refusals.append(ask(path, key))
    assert {code_of(refusal) for refusal in refusals} == {(401, "invalid_api_key")}
    assert len({refusal.content for refusal in refusals}) == 1
    assert all(refusal.headers["www-authenticate"].startswith("Bearer") for refusal in refusals)


@pytest.mark.parametrize("path", STATE)
def test_two_different_keys_open_nothing_and_one_may_be_in_any_header(
    path: str, key: Issued, tenant: Tenant, staging: Actor
) -> None:
    secret = key.credential.reveal().decode()
    for header in ("x-api-key", "api-key", "x-goog-api-key"):
        assert ask(path, None, **{header: secret}).status_code == 200
    other = issue_key(actor=staging, tenant_id=tenant.id, name="other").credential.reveal().decode()
    assert code_of(ask(path, key, **{"x-api-key": other})) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", STATE)
def test_a_good_key_without_the_right_is_403(path: str, tenant: Tenant, staging: Actor) -> None:
    narrowings: tuple[tuple[dict[str, Any], str], ...] = (
        ({"scopes": ["inference"]}, "scope_missing"),
        ({"allowed_addresses": ["203.0.113.0/24"]}, "address_not_allowed"),
    )
    for fields, code in narrowings:
        narrow = issue_key(actor=staging, tenant_id=tenant.id, name="narrow", **fields)
        assert code_of(ask(path, narrow)) == (403, code)


@pytest.mark.parametrize("path", STATE)
def test_a_look_up_that_could_not_be_made_is_503_and_never_401(path: str, key: Issued) -> None:
    with mock.patch.object(
        KeySecret.objects, "select_related", side_effect=OperationalError("secret host")
    ):
        answer = ask(path, key)
    assert code_of(answer) == (503, "not_ready")
    assert answer.headers["retry-after"]
    assert "secret host" not in answer.content.decode()


@pytest.mark.parametrize("path", STATE)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options", "trace"])
def test_it_is_only_read(path: str, method: str, key: Issued) -> None:
    bearer = {"authorization": f"Bearer {key.credential.reveal().decode()}"}
    answer = getattr(Client(), method)(path, headers=bearer)
    assert code_of(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", STATE)
def test_json_is_answered_whatever_is_asked_for(path: str, key: Issued) -> None:
    for accept in ("text/event-stream", "text/html", "a/b," * 2500, ",;,=", ""):
        answer = ask(path, key, accept=accept)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
