"""What is wrong with a request is answered with one status and one sentence, and nothing from inside."""

import json
import time
from unittest import mock
from uuid import uuid4

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.db import OperationalError
from django.test import Client

from gateway.api import parsers
from gateway.api import tenants as tenant_views
from keys.services import issue_key
from tenants.errors import Invalid, Unavailable
from tenants.models import Session, Tenant
from tenants.sealing import UnknownKey

# Words and forms of refusals.
pytestmark = pytest.mark.sqlite


def _without_id(answer):
    return answer.content.replace(answer.headers["x-request-id"].encode(), b"")


# The shape


def test_an_error_has_its_shape_and_the_request_s_id(api):
    answer = api.post("tenants", {"name": ""}, headers={"x-request-id": "my-own-id-1"})
    body = answer.json()
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"code", "message", "fields"}
    assert body["request_id"] == answer.headers["x-request-id"] == "my-own-id-1"
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "offered", ["short", "x" * 65, "with space", "semi;colon", "ümlaut-und-so"]
)
def test_an_id_of_another_form_is_replaced(api, offered):
    answer = api.get("auth/me", headers={"x-request-id": offered})
    assert len(answer.headers["x-request-id"]) == 32


# Not there, and not yours: the same bytes


def test_the_foreign_and_the_unknown_answer_the_same_bytes(api, tenant, outsider, key, staging):
    issue_key(actor=staging, tenant_id=outsider.id, name="theirs")
    foreign = api.delete(f"tenants/{outsider.id}/api-keys/{key.key.id}")
    others = [
        api.delete(f"tenants/{outsider.id}/api-keys/{uuid4()}"),
        api.delete(f"tenants/{uuid4()}/api-keys/{key.key.id}"),
        api.delete(f"tenants/{outsider.id}/api-keys/{key.key.id}?permanent=true"),
        api.delete("tenants/1/api-keys/2"),
        api.get(f"tenants/{uuid4()}"),
        api.get(f"keys/{uuid4()}"),
        api.get("keys/nonsense"),
        api.patch(f"keys/{uuid4()}", {"name": "x"}),
        api.post(f"keys/{uuid4()}/rotate"),
        api.get(f"providers/{uuid4()}"),
        api.get("models/nonsense"),
        api.get(f"logs/{uuid4()}"),
        api.get("no/such/route"),
        api.get("tenants/"),
    ]
    assert foreign.status_code == 404
    for other in others:
        assert (other.status_code, _without_id(other)) == (404, _without_id(foreign))
        kept_apart = ("Cache-Control", "Vary", "Content-Type")
        assert [other.headers[n] for n in kept_apart] == [foreign.headers[n] for n in kept_apart]


def test_an_unknown_path_of_the_data_plane_has_openai_s_shape(db):
    answer = Client().get("/v1/nonsense")
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"] == answer.headers["request-id"]


def test_a_host_that_is_not_ours_is_a_400_in_json(db):
    answer = Client().get("/v1/admin/tenants", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


# Bodies


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"nonsense",
        b'{"name":"a"} trailing',
        b'{"name":"a",}',
        b"{'name':'a'}",
        b"[]",
        b'"name"',
        b"null",
        b"7",
        b'{"name":"a","name":"b"}',
        b'{"name":"a","n\\u0061me":"b"}',
        b'{"name":"a","rate_limit_rpm":NaN}',
        b'{"name":"a","rate_limit_rpm":Infinity}',
        b'{"name":"a","rate_limit_rpm":-Infinity}',
        b'{"name":"a","rate_limit_rpm":1e999}',
        b'{"name":"a","rate_limit_rpm":' + b"9" * 5000 + b"}",
        b'{"name":"\\u0000"}',
        b'{"name":"\\ud800"}',
        b'{"na\\u0000me":"a"}',
        b'{"name":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"name":' + b"[" * 65 + b"]" * 65 + b"}",
        b"[" * 200_000,
        b'{"a":' * 50_000,
        b'"' * 200_001,
        b'\\"' * 100_000 + b"\\",
    ],
    ids=range(26),
)
def test_a_body_that_is_no_strict_json_object_is_a_400(api, raw):
    before = Tenant.objects.count()
    began = time.monotonic()
    answer = api.post("tenants", raw=raw)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert time.monotonic() - began < 5
    assert Tenant.objects.count() == before


def test_a_body_of_64_levels_is_read_and_one_more_is_not():
    assert parsers.parsed(b"[" * 64 + b"]" * 64)
    with pytest.raises(Invalid, match="64 levels"):
        parsers.parsed(b"[" * 65 + b"]" * 65)


def test_brackets_inside_of_texts_do_not_count():
    text = '[{"' * 40 + "\\"
    assert parsers.parsed(json.dumps([text]).encode()) == [text]


def test_a_body_over_256_kib_is_a_413(api):
    body = {"name": "x" * (256 * 1024)}
    answer = api.post("tenants", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert api.post("tenants", {"name": "x" * (255 * 1024)}).status_code == 400


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/jsonx",
        "application/json; charset=utf-16",
        "json",
        "",
        "*/*",
    ],
)
def test_a_body_that_does_not_say_it_is_json_is_a_415(api, content_type):
    answer = api.post("tenants", {"name": "x"}, content_type=content_type)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", "application/json;x=y"]
)
def test_a_body_that_says_it_is_json_is_read(api, content_type):
    answer = api.post("tenants", {"name": "x"}, content_type=content_type)
    assert answer.status_code == 201


async def _posted_in_chunks(*chunks: bytes) -> tuple[int, dict]:
    """Over ASGI, without a Content-Length."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/admin/auth/login",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"transfer-encoding", b"chunked"),
        ],
        "client": ("127.0.0.1", 4711),
    }
    caller = ApplicationCommunicator(ASGIHandler(), scope)
    for chunk in chunks:
        await caller.send_input({"type": "http.request", "body": chunk, "more_body": True})
    await caller.send_input({"type": "http.request", "body": b"", "more_body": False})
    start, body = await caller.receive_output(10), await caller.receive_output(10)
    return start["status"], json.loads(body["body"])


async def test_a_chunked_body_is_read_and_bounded_like_any_other():
    status, body = await _posted_in_chunks(b'{"col', b'our":1}')
    assert (status, list(body["error"]["fields"])) == (400, ["colour"])
    status, body = await _posted_in_chunks(*([b" " * 1024] * 9))
    assert (status, body["error"]["code"]) == (413, "body_too_large")


def test_an_answer_is_json_whatever_is_asked_for(api):
    for accept in ("text/html", "application/xml", "garbage", ""):
        answer = api.get("tenants", headers={"accept": accept})
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert api.get("tenants?format=api").status_code == 400


# Names that code uses are no names of fields


@pytest.mark.parametrize(
    "name", ["actor", "tenant_id", "key_id", "self", "request", "source", "it"]
)
def test_parameters_of_our_functions_cannot_be_reached_from_outside(api, tenant, key, name):
    body = {"name": "x", name: "x"}
    for answer in (
        api.post("tenants", body),
        api.patch(f"tenants/{tenant.id}", body),
        api.post(f"tenants/{tenant.id}/api-keys", body),
        api.patch(f"keys/{key.key.id}", body),
        api.post("providers", {"kind": "demo", **body}),
        api.post("models", {"id": "m", name: "x"}),
        api.post(f"keys/{key.key.id}/rotate", {name: "x"}),
        api.get(f"tenants?{name}=x"),
        api.get(f"keys?{name}=x"),
    ):
        assert answer.status_code == 400
        assert name in answer.json()["error"]["fields"]


@pytest.mark.parametrize("query", ["status=a%00b", "status=" + "x" * 300, "status=a%0ab", "x=1"])
def test_a_parameter_that_cannot_be_is_a_400(api, query):
    assert api.get(f"tenants?{query}").status_code == 400


def test_more_parameters_than_anybody_needs_are_a_400(api):
    query = "&".join(f"p{n}=1" for n in range(2000))
    assert api.get(f"tenants?{query}").status_code == 400


# What we could not do


def test_a_database_that_does_not_answer_is_a_503_and_never_a_401(api):
    with mock.patch.object(
        Session.objects, "select_related", side_effect=OperationalError("secret host db-7")
    ):
        answer = api.get("tenants")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"].isdigit()
    assert "db-7" not in answer.content.decode()


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (OperationalError("secret host db-7"), 503, "unavailable"),
        (UnknownKey("secret kek 7"), 503, "unavailable"),
        (Unavailable("Try later.", code="credential_unreadable"), 503, "credential_unreadable"),
        (RuntimeError("secret detail"), 500, "internal_error"),
        (KeyError("secret"), 500, "internal_error"),
        (RecursionError("secret"), 500, "internal_error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_inside_tells_nothing_from_inside(
    api, monkeypatch, caplog, failure, status, code
):
    monkeypatch.setattr(tenant_views, "create_tenant", mock.Mock(side_effect=failure))
    answer = api.post("tenants", {"name": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "secret" not in answer.content.decode()
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert any(record.exc_info and record.exc_info[1] is failure for record in caplog.records)
