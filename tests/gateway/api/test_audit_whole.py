"""The audit log as a whole over the admin API: whether its chains hold, and all of it as JSON lines."""

import json

import pytest
from django.db import connection

from tenants import audit, audit_triggers
from tenants.models import AuditEvent, RootSecret
from tenants.services import update_tenant


@pytest.fixture
def reading(api, auditor):
    return api.signed_in(auditor)


@pytest.fixture
def story(staging, tenant, outsider):
    update_tenant(actor=staging, tenant_id=tenant.id, name="Acme & Sons", rate_limit_rpm=7)


def test_chains_that_hold_are_said_to(reading, story):
    answer = reading.get("audit/verify")
    assert answer.status_code == 200
    assert answer.json() == {
        "object": "audit_verdict",
        "ok": True,
        "rows": AuditEvent.objects.count(),
        "scopes": 3,
        "pruned": 0,
        "findings": [],
    }


def test_one_tenants_chain_is_verified_by_itself(reading, story, tenant):
    rows = AuditEvent.objects.filter(scope=str(tenant.id)).count()
    for reference in (tenant.slug, str(tenant.id)):
        found = reading.get(f"audit/verify?tenant={reference}").json()
        assert (found["ok"], found["rows"], found["scopes"]) == (True, rows, 1)
    assert reading.get("audit/verify?tenant=platform").json()["scopes"] == 1
    assert reading.get("audit/verify?tenant=nobody").status_code == 400


def test_a_changed_row_is_named(reading, story, tenant):
    audit_triggers.remove(connection)
    try:
        changed = AuditEvent.objects.filter(scope=str(tenant.id)).order_by("seq").first()
        assert changed is not None
        AuditEvent.objects.filter(pk=changed.pk).update(actor_label="somebody else")
        found = reading.get("audit/verify").json()
        elsewhere = reading.get("audit/verify?tenant=outsider").json()
    finally:
        audit_triggers.install(connection)
    assert found["ok"] is False
    assert found["findings"] == [
        {
            "kind": "altered",
            "scope": str(tenant.id),
            "seq": changed.seq,
            "message": "Its content was changed.",
        }
    ]
    assert elsewhere["ok"] is True


def test_without_its_key_nothing_is_said_about_the_chains(reading, story, settings):
    RootSecret.objects.filter(purpose="audit").delete()
    answer = reading.get("audit/verify")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "key_unavailable"


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators")
def test_the_export_has_what_the_list_has(reading, story, monkeypatch):
    monkeypatch.setattr("gateway.api.audit._BATCH", 2)
    answer = reading.get("audit/export")
    lines = [json.loads(it) for it in b"".join(answer).splitlines()]
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert "no-store" in answer.headers["cache-control"]
    assert len({row["id"] for row in lines}) == len(lines) == AuditEvent.objects.count()
    assert lines[-1]["action"] == "audit.exported"
    chosen = reading.get("audit/export?action=tenant.updated&tenant=acme")
    (row,) = (json.loads(it) for it in b"".join(chosen).splitlines())
    assert row["action"] == "tenant.updated"
    assert audit.verify().findings == []


@pytest.mark.parametrize("query", ["outcome=x", "since=x", "limit=5", "unknown=1"])
def test_a_filter_of_the_export_that_means_nothing_is_refused_and_no_export(reading, story, query):
    assert reading.get(f"audit/export?{query}").status_code == 400
    assert not AuditEvent.objects.filter(action="audit.exported").exists()
