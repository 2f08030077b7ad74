"""Bad input at the public door: one status, one sentence, and nothing left behind but, of a known caller, a log row."""

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from keys import tokens
from tests.gateway.door import PROMPT, Door, Json, Key, error_of, eventually, nothing_sent, refused

# What is refused at the edge meets no more of the database than whose key it is.
pytestmark = pytest.mark.sqlite

CHAT = "/v1/chat/completions"
GOOD: Json = {"model": "oracle/ok", "messages": PROMPT}


# --- who is it --------------------------------------------------------------------------------------------------------


def bare(door: Door, headers: dict[str, str] | list[tuple[bytes, bytes]]) -> httpx.Response:
    """A good call with exactly these credentials."""
    return door.client.post(CHAT, json=GOOD, headers=headers)


def test_no_key_at_all_says_so(door: Door) -> None:
    with nothing_sent(door):
        answer = bare(door, {})
    assert answer.status_code == 401
    assert error_of(answer)["code"] == "missing_api_key"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert not door.has_row(answer.headers["x-request-id"])


def malformed(key: str) -> dict[str, str]:
    """Authorization headers that no look-up is made for."""
    other_end = "0" if key[-1] != "0" else "1"
    return {
        "no scheme": key,
        "basic": f"Basic {key}",
        "foreign": "Bearer sk-proj-0123456789",
        "truncated": f"Bearer {key[:-1]}",
        "checksum": f"Bearer {key[:-1]}{other_end}",
        "longer": f"Bearer {key}x",
        "two in one": f"Bearer {key}, Bearer {key}",
        "master key": f"Bearer {tokens.generate(tokens.Kind.MASTER_KEY).reveal().decode()}",
        "service token": f"Bearer {tokens.generate(tokens.Kind.SERVICE_TOKEN).reveal().decode()}",
        "prefix alone": "Bearer gwk_",
        "huge": f"Bearer {'x' * 8000}",
        "unknown": f"Bearer {tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode()}",
    }


def ended(door: Door) -> dict[str, Key]:
    """Keys that were good once."""
    tenant = door.new_tenant()
    keys = {
        "expired": door.new_key(),
        "revoked": door.new_key(),
        "paused": door.new_key(),
        "tenant inactive": door.new_key(tenant),
        "deleted": door.new_key(),
        "rotated": door.new_key(),
    }
    for key in keys.values():
        assert bare(door, key.bearer).status_code == 200
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    expiry = {"expires_at": soon.isoformat().replace("+00:00", "Z")}
    gone = f"tenants/{door.tenant.id}/api-keys/{keys['deleted'].id}?permanent=true"
    for method, path, changes in (
        ("PATCH", f"keys/{keys['expired'].id}", expiry),
        ("POST", f"keys/{keys['revoked'].id}/revoke", {}),
        ("PATCH", f"keys/{keys['paused'].id}", {"is_active": False}),
        ("PATCH", f"tenants/{tenant.id}", {"status": "inactive"}),
        ("DELETE", gone, None),
        ("POST", f"keys/{keys['rotated'].id}/rotate", {}),
    ):
        door.admin.call(method, path, changes)
    door.wait_seen()
    time.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds() + 0.05))
    return keys


def test_every_401_is_the_same_to_the_byte(door: Door) -> None:
    """Who guesses learns nothing: neither whether a key ever was, nor what became of it."""
    texts = malformed(door.key.secret) | {
        name: f"Bearer {key.secret}" for name, key in ended(door).items()
    }
    with nothing_sent(door):
        answers = {name: bare(door, {"authorization": text}) for name, text in texts.items()}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(
        texts, 401
    )
    assert len({answer.content for answer in answers.values()}) == 1
    assert error_of(answers["unknown"])["code"] == "invalid_api_key"
    own = {"x-request-id", "request-id", "date"}
    heads = [
        sorted((name, value) for name, value in answer.headers.items() if name not in own)
        for answer in answers.values()
    ]
    assert all(head == heads[0] for head in heads)
    assert not any(door.has_row(a.headers["x-request-id"]) for a in answers.values())


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key", "x-goog-api-key"])
def test_a_key_is_taken_from_each_clients_header(door: Door, name: str) -> None:
    value = f"Bearer {door.key.secret}" if name == "authorization" else door.key.secret
    assert bare(door, {name: value}).status_code == 200


def test_the_same_key_twice_is_one_key_and_two_different_ones_are_none(door: Door) -> None:
    other = door.new_key()
    assert bare(door, {**door.key.bearer, "x-api-key": door.key.secret}).status_code == 200
    for name in ("x-api-key", "api-key", "x-goog-api-key"):
        answer = bare(door, {**door.key.bearer, name: other.secret})
        assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")
    twice = [(b"authorization", f"Bearer {key.secret}".encode()) for key in (door.key, other)]
    assert bare(door, twice).status_code == 401


def test_a_key_in_the_query_is_no_key(door: Door) -> None:
    for name in ("key", "api_key", "access_token"):
        answer = door.client.post(f"{CHAT}?{name}={door.key.secret}", json=GOOD)
        assert error_of(answer)["code"] == "missing_api_key"
        assert door.key.secret not in answer.text


def test_a_tenants_key_does_not_open_the_admin_api(door: Door) -> None:
    answer = door.client.get("/v1/admin/tenants", headers=door.key.bearer)
    assert answer.status_code == 401


# --- what it sends ----------------------------------------------------------------------------------------------------


def body(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def nested(levels: int) -> bytes:
    """A good body with this many objects and arrays inside one another, its own included."""
    inner = b"[" * (levels - 1) + b"]" * (levels - 1)
    return body()[:-1] + b',"x":' + inner + b"}"


BAD_BODIES: dict[str, tuple[bytes | Callable[[], bytes], str | None]] = {
    "nothing": (b"", None),
    "text": (b"hello", None),
    "half": (b'{"model":"oracle/ok"', None),
    "single quotes": (b"{'model':'oracle/ok'}", None),
    "trailing comma": (b'{"model":"oracle/ok",}', None),
    "two objects": (body() + body(), None),
    "ten MB of brackets": (lambda: b"[" * 10_000_000, None),
    "ten MB of open objects": (lambda: b'{"a":' * 2_000_000, None),
    "65 levels": (nested(65), None),
    "a million members": (lambda: b'{"model":"m"' + b',"a":1' * 1_000_000 + b"}", None),
    "a list": (b"[1]", None),
    "a string": (b'"model"', None),
    "a number": (b"1", None),
    "null": (b"null", None),
    "NaN": (body()[:-1] + b',"temperature":NaN}', None),
    "Infinity": (body()[:-1] + b',"temperature":-Infinity}', None),
    "bad UTF-8": (body()[:-1] + b',"user":"\xff"}', None),
    "a control character": (body()[:-1] + b',"user":"\x01"}', None),
    "no model": (b'{"messages":[]}', "model"),
    "model null": (body(model=None), "model"),
    "model a number": (body(model=4), "model"),
    "model a list": (body(model=["oracle/ok"]), "model"),
    "model empty": (body(model=""), "model"),
    "model of 10,000 characters": (body(model="m" * 10_000), "model"),
    "model with a NUL": (body(model="oracle/\0"), "model"),
    "model with a line end": (body(model="oracle/ok\r\nx-injected: 1"), "model"),
    "model half a surrogate": (body()[:-1] + b',"model":"\\ud800"}', None),
    "no messages": (b'{"model":"oracle/ok"}', "messages"),
    "messages empty": (body(messages=[]), "messages"),
    "messages a text": (body(messages="hi"), "messages"),
    "stream a text": (body(stream="yes"), "stream"),
    "stream a number": (body(stream=1), "stream"),
    "stream_options a list": (body(stream=True, stream_options=[]), "stream_options"),
    "max_tokens negative": (body(max_tokens=-1), "max_tokens"),
    "max_tokens a fraction": (body(max_tokens=10.0), "max_tokens"),
    "max_tokens a text": (body(max_tokens="10"), "max_tokens"),
    "max_tokens true": (body(max_tokens=True), "max_tokens"),
    "max_tokens enormous": (body(max_tokens=10**30), "max_tokens"),
    "n zero": (body(n=0), "n"),
    "n too many": (body(n=129), "n"),
}


def test_a_body_that_is_no_request_is_400_and_sent_nowhere(door: Door) -> None:
    answers = {}
    with nothing_sent(door):
        for name, (content, _) in BAD_BODIES.items():
            began = time.monotonic()
            answers[name] = door.post(CHAT, content if isinstance(content, bytes) else content())
            took = time.monotonic() - began
            assert took < 2.0, f"{name} took {took:.1f} s"
        for name, answer in answers.items():
            error = refused(door, answer, 400, "invalid_request")
            assert error["param"] == BAD_BODIES[name][1], name
            assert error["type"] == "invalid_request_error", name
            assert len(error["message"]) < 300, name
            assert "x-injected" not in answer.headers


def test_64_levels_are_fine(door: Door) -> None:
    assert door.post(CHAT, nested(64)).status_code == 200


def test_the_model_that_is_authorised_is_the_one_that_goes_upstream(door: Door) -> None:
    """A second name, or an escaped one, slips past nobody: the last one counts, everywhere."""
    key = door.new_key(allowed_models=["oracle/ok"])
    start = b'{"messages":[{"role":"user","content":"x"}],'
    for tail in (
        b'"model":"oracle/ok","model":"free/ok"}',
        b'"model":"oracle/ok","\\u006dodel":"free/ok"}',
    ):
        refused(door, door.post(CHAT, start + tail, key=key), 403, "model_not_allowed")
    for tail in (
        b'"model":"free/ok","model":"oracle/ok"}',
        b'"model":"free/ok","mod\\u0065l":"oracle\\/ok"}',
    ):
        answer = door.post(CHAT, start + tail, key=key)
        assert answer.status_code == 200
        assert door.upstream_call(answer).body.count(b'"model"') == 1
        assert door.upstream_call(answer).model == "ok"


def test_only_json_is_read(door: Door) -> None:
    types = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")
    bad = [{"content-type": kind} for kind in (*types, "application/xml", "application/jsonx", "")]
    encodings = ("gzip", "br", "zstd", "deflate", "identity, gzip", "x")
    bad += [{"content-encoding": encoding} for encoding in encodings]
    with nothing_sent(door):
        for answer in [door.post(CHAT, GOOD, headers=headers) for headers in bad]:
            refused(door, answer, 415, "unsupported_media_type")
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        assert door.post(CHAT, GOOD, headers={"content-type": kind}).status_code == 200
    assert door.post(CHAT, GOOD, headers={"content-encoding": "identity"}).status_code == 200
    without = [(b"authorization", f"Bearer {door.key.secret}".encode())]
    assert door.client.post(CHAT, content=body(), headers=without).status_code == 200


# --- what it may ------------------------------------------------------------------------------------------------------


def test_an_unknown_model_an_inactive_one_and_anothers_are_the_same_404(door: Door) -> None:
    inactive = door.new_model(f"idle-{uuid4().hex[:8]}", door.provider_id, "ok", is_active=False)
    theirs = door.new_tenant()
    owned = f"own-{uuid4().hex[:8]}"
    provider = door.new_provider(door.oracle.api, None, tenant=theirs.id)
    door.new_model(owned, provider, "ok", tenant=theirs.id)
    assert door.chat(owned, key=door.new_key(theirs)).status_code == 200
    messages = set()
    with nothing_sent(door):
        for name in ("no-such-model", inactive, owned):
            error = refused(door, door.chat(name), 404, "model_not_found")
            assert error["param"] == "model"
            messages.add(error["message"].replace(name, "NAME"))
    assert len(messages) == 1


def test_what_a_key_has_no_right_to_is_403(door: Door) -> None:
    narrow: dict[str, Json] = {
        "model_not_allowed": {"allowed_models": ["free/*"]},
        "scope_missing": {"scopes": ["usage"]},
        "address_not_allowed": {"allowed_addresses": ["203.0.113.0/24"]},
    }
    with nothing_sent(door):
        for code, fields in narrow.items():
            refused(door, door.chat("oracle/ok", key=door.new_key(**fields)), 403, code)
        key = door.new_key(allowed_capabilities=["embedding"])
        refused(door, door.chat("oracle/ok", key=key), 403, "model_not_allowed")
        tenant = door.new_tenant(allowed_models=["free/*"])
        key = door.new_key(tenant, allowed_models=["oracle/*", "free/*"])
        refused(door, door.chat("oracle/ok", key=key), 403, "model_not_allowed")


def test_a_forged_address_opens_nothing(door: Door) -> None:
    key = door.new_key(allowed_addresses=["203.0.113.0/24"])
    headers = {"x-forwarded-for": "203.0.113.7", "x-real-ip": "203.0.113.7"}
    answer = door.post(CHAT, GOOD, key=key, headers=headers)
    refused(door, answer, 403, "address_not_allowed")


def test_a_model_of_another_kind_is_400(door: Door) -> None:
    with nothing_sent(door):
        error = refused(door, door.chat("embed/ok"), 400, "invalid_request")
        assert error["param"] == "model"
        answer = door.post("/v1/embeddings", {"model": "oracle/ok", "input": "x"})
        refused(door, answer, 400, "invalid_request")


def test_only_what_a_key_may_call_is_listed(door: Door) -> None:
    name = f"listed-{uuid4().hex[:8]}"
    door.new_model(name, door.provider_id, "ok")
    door.new_model(f"{name}-idle", door.provider_id, "ok", is_active=False)
    door.new_model(f"{name}-embed", door.provider_id, "ok", capability="embedding")
    key = door.new_key(allowed_models=[f"{name}*"], allowed_capabilities=["chat"])
    listed = door.client.get("/v1/models", headers=key.bearer).json()
    assert [model["id"] for model in listed["data"]] == [name]
    assert listed["object"] == "list"
    one = door.client.get(f"/v1/models/{name}", headers=key.bearer)
    assert (one.status_code, one.json()["id"]) == (200, name)
    for hidden in (f"{name}-idle", f"{name}-embed", "free/*", "no-such-model"):
        answer = door.client.get(f"/v1/models/{hidden}", headers=key.bearer)
        assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")
    assert door.client.get("/v1/models").status_code == 401


def test_too_many_requests_are_429_with_the_time_to_come_back(door: Door) -> None:
    key = door.new_key(rate_limit_rpm=1)
    first = door.chat("oracle/ok", key=key)
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    with nothing_sent(door):
        answer = door.chat("oracle/ok", key=key)
        refused(door, answer, 429, "rate_limit_exceeded")
    # What was leased counts from the end of its lease, which is a moment after the call.
    assert 1 <= int(answer.headers["retry-after"]) <= 61
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert answer.headers["x-ratelimit-reset-requests"]


def test_too_many_at_once_are_429_until_one_has_ended(door: Door) -> None:
    key = door.new_key(max_concurrency=1)
    since = len(door.oracle.calls)
    running = threading.Thread(target=lambda: door.chat("oracle/slow:1", key=key))
    running.start()
    eventually(lambda: len(door.oracle.calls) > since)
    refused(door, door.chat("oracle/ok", key=key), 429, "rate_limit_exceeded")
    running.join()
    assert door.chat("oracle/ok", key=key).status_code == 200


# --- where it knocks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["", "/v1", "/v1/v1"])
def test_a_missing_or_doubled_v1_is_understood(door: Door, base: str) -> None:
    assert door.post(f"{base}/chat/completions", GOOD).status_code == 200
    assert door.client.get(f"{base}/models", headers=door.key.bearer).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/nope",
        "/v1/chat/completions/",
        "/v1/chat/completions/extra",
        "/v1//chat/completions",
        "/v1/Chat/Completions",
        "/v1/v1/v1/chat/completions",
        "/v1/engines/oracle/completions",
        "/v1/models/",
        "/nope",
        "/v1/%2e%2e/admin",
        "/v1/chat%2Fcompletions%00",
    ],
)
def test_an_unknown_door_is_404_in_openais_shape(door: Door, path: str) -> None:
    with nothing_sent(door):
        for method in ("POST", "GET"):
            answer = door.client.request(method, path, headers=door.key.bearer, json=GOOD)
            assert answer.status_code == 404, answer.text
            error = error_of(answer)
            assert (error["code"], error["type"]) == ("not_found", "invalid_request_error")
            assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])
def test_a_wrong_method_is_refused_in_json(door: Door, method: str) -> None:
    with nothing_sent(door):
        answer = door.client.request(method, CHAT, headers=door.key.bearer)
    assert answer.status_code in {404, 405}
    assert answer.headers["content-type"] == "application/json"
    if method != "HEAD":
        assert error_of(answer)["code"]


HOSTILE = (
    "../../admin",
    "..%2f..",
    "a?b=c",
    "a#b",
    "a;b",
    "a\\b",
    "a b",
    "é/日本",
    "%0d%0ax: y",
    "{}",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_models_name_never_becomes_a_path_or_a_header(door: Door, name: str) -> None:
    answer = door.chat(f"oracle/{name}")
    assert answer.status_code == 200
    call = door.upstream_call(answer)
    assert call.path == CHAT
    assert call.model == name
    assert answer.headers["x-gatehouse-target"].isascii()
    assert "x" not in answer.headers


@pytest.mark.parametrize(
    "name", ["..%2f..%2fadmin", "%00", "%0d%0ax-injected:1", "%ff", "a%20b", "x" * 4000]
)
def test_a_hostile_name_in_the_path_is_404(door: Door, name: str) -> None:
    answer = door.client.get(f"/v1/models/{name}", headers=door.key.bearer)
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "model_not_found"
    assert "x-injected" not in answer.headers
    assert len(answer.content) < 1000
    door.row(answer)
