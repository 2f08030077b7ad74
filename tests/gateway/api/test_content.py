"""Bodies of calls, for those who may read them: each reading is in the audit log before anything is read."""

import base64
from uuid import uuid4

import msgspec
import pytest
from django.db import DatabaseError

from tenants import audit, keyring
from tenants.keyring import KEYRING
from tenants.models import AuditEvent, RootSecret
from tenants.services import delete_tenant
from tests.cast import Api, Console
from tests.gateway.api.calls import log_row
from tests.gateway.console.test_provider_pages import text_of
from tests.gateway.door import Door
from usage import contents
from usage.models import RequestContent, RequestLog

ASKED = b'{"model":"gpt","messages":[{"role":"user","content":"nobody else\'s na\xc3\xafvety"}]}'
SAID = b'{"choices":[]}'


def keep(call: RequestLog, request=ASKED, response=SAID, truncated=()) -> RequestContent:
    bodies = msgspec.msgpack.encode(contents.Bodies(request, response, list(truncated)))
    return RequestContent.objects.create(
        month=call.month,
        request_id=call.request_id,
        tenant_id=call.tenant_id,
        created_at=call.created_at,
        sealed=keyring.seal_for(
            call.tenant_id,
            contents.PURPOSE,
            contents.place(call.tenant_id, call.request_id),
            bodies,
        ),
    )


@pytest.fixture
def call(tenant) -> RequestLog:
    return log_row(tenant_id=tenant.id, correlation_id="req_of_the_caller")


@pytest.fixture
def reader(auditor) -> Api:
    return Api().signed_in(auditor)


def readings(**fields) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action="content.read", **fields))


def test_an_auditor_reads_both_sides_and_that_is_written_down(reader, tenant, call):
    keep(call)
    for reference in (call.request_id, "req_of_the_caller"):
        answer = reader.get(f"logs/{reference}/content")
        assert answer.status_code == 200, answer.content
        assert answer.json() == {
            "id": str(call.request_id),
            "object": "log_content",
            "request_id": "req_of_the_caller",
            "request": ASKED.decode(),
            "request_encoding": "text",
            "response": SAID.decode(),
            "response_encoding": "text",
            "truncated": [],
        }
        assert "no-store" in answer.headers["cache-control"]
    rows = readings(outcome="ok", scope=str(tenant.id))
    assert len(rows) == 2
    assert {(row.actor_label, row.target_id) for row in rows} == {
        ("the-auditor", str(call.request_id))
    }
    assert "vety" not in repr([row.details for row in rows])
    assert not audit.verify().findings


def test_what_is_no_text_comes_in_base64_and_half_a_character_is_left_out(reader, call):
    keep(call, b"\xff\x00\x01", "日本".encode()[:5], ["response"])
    body = reader.get(f"logs/{call.request_id}/content").json()
    assert (base64.b64decode(body["request"]), body["request_encoding"]) == (
        b"\xff\x00\x01",
        "base64",
    )
    assert (body["response"], body["response_encoding"]) == ("日", "text")
    assert body["truncated"] == ["response"]


def test_only_auditors_and_owners_read(owner, auditor, operator, viewer, call):
    keep(call)
    path = f"logs/{call.request_id}/content"
    for user, status in ((owner, 200), (auditor, 200), (operator, 403), (viewer, 403)):
        assert Api().signed_in(user).get(path).status_code == status
    assert len(readings()) == 2
    assert Api().get(path).status_code == 401


def test_of_a_call_of_which_nothing_was_kept_there_is_nothing(reader, call):
    for reference in (call.request_id, uuid4()):
        assert reader.get(f"logs/{reference}/content").status_code == 404
    assert not readings()


def test_without_the_row_in_the_audit_log_nothing_leaves(reader, call, monkeypatch):
    keep(call)

    def fail(entry):
        raise DatabaseError("full")

    monkeypatch.setattr(audit, "write", fail)
    answer = reader.get(f"logs/{call.request_id}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert b"nobody" not in answer.content
    assert not readings()


@pytest.mark.parametrize("place", [0, 7, -1])
def test_what_was_tampered_with_is_not_shown_and_that_is_written_down(reader, call, place):
    row = keep(call)
    changed = bytearray(row.sealed)
    changed[place] ^= 1
    RequestContent.objects.filter(pk=row.pk).update(sealed=bytes(changed))
    answer = reader.get(f"logs/{call.request_id}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "content_unreadable")
    assert [row.error_code for row in readings(outcome="failed")] == ["content_unreadable"]


def test_a_body_does_not_open_as_that_of_another_call(reader, tenant, call):
    row, other = keep(call), log_row(tenant_id=tenant.id)
    RequestContent.objects.filter(pk=row.pk).update(request_id=other.request_id, month=other.month)
    answer = reader.get(f"logs/{other.request_id}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "content_unreadable")


def test_what_a_tenant_left_behind_is_gone_for_good(reader, staging, tenant, call):
    keep(call)
    remembered = KEYRING.root(keyring.TENANT, tenant.id)
    delete_tenant(actor=staging, tenant_id=tenant.id)
    KEYRING._remember((keyring.TENANT, tenant.id), remembered)  # as in another process
    assert not RootSecret.objects.filter(tenant_id=tenant.id).exists()
    answer = reader.get(f"logs/{call.request_id}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "content_shredded")
    assert b"vety" not in answer.content
    assert [row.scope for row in readings(outcome="failed")] == [str(tenant.id)]


# The console


def test_the_console_asks_before_it_shows_them(auditor, operator, call):
    keep(call)
    browser = Console().signed_in(auditor)
    page = f"requests/{call.request_id}/"
    assert f"/console/{page}content/" in browser.get(page).content.decode()
    asked = browser.get(f"{page}content/")
    assert (asked.status_code, "nobody else" in text_of(asked)) == (200, False)
    assert not readings()
    shown = browser.submit(f"{page}content/")
    assert "nobody else's naïvety" in text_of(shown)
    assert [(row.source, row.actor_label) for row in readings()] == [("console", "the-auditor")]
    other = Console().signed_in(operator)
    assert "content/" not in other.get(page).content.decode()
    assert other.get(f"{page}content/").status_code == 403


def test_the_console_says_what_cannot_be_read(auditor, tenant, staging, call):
    keep(call)
    browser = Console().signed_in(auditor)
    delete_tenant(actor=staging, tenant_id=tenant.id)
    answer = browser.submit(f"requests/{call.request_id}/content/")
    assert answer.status_code == 410
    assert "nobody can read this any more" in text_of(answer)
    assert browser.get(f"requests/{log_row().request_id}/content/").status_code == 404


# What a real call leaves


@pytest.mark.data_plane
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_read_is_what_was_sent_and_what_came(door: Door, stream: bool) -> None:
    tenant = door.new_tenant(content_logging=True)
    key = door.new_key(tenant, log_content=True)
    answer = door.chat("oracle/ok", key=key, stream=stream)
    door.row(answer)
    body = door.admin.call("GET", f"logs/{answer.headers['x-request-id']}/content")
    assert body["request"].encode() == answer.request.content
    assert body["response"].encode() == answer.content
    assert body["truncated"] == []
