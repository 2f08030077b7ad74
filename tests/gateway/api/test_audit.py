"""Every change over the admin API leaves exactly one row that says who, and none is made without."""

from unittest import mock

import pytest
from django.db import DatabaseError

from keys.models import APIKey
from providers.models import Provider
from tenants import audit
from tenants.models import AuditEvent, ConfigChange, Tenant

FIELDS = {
    "id",
    "object",
    "scope",
    "seq",
    "created_at",
    "actor",
    "method",
    "action",
    "target",
    "outcome",
    "error_code",
    "duration_ms",
    "details",
    "request_id",
    "source",
    "address",
    "user_agent",
    "prev_hash",
    "row_hash",
}


def _rows_since(before: int) -> list[AuditEvent]:
    rows = list(AuditEvent.objects.order_by("created_at", "seq"))
    return rows[before:]


def _mutations(tenant, key):
    """(method, path, body, action), in an order in which each can succeed."""
    own = f"tenants/{tenant.id}"
    return [
        ("POST", "tenants", {"name": "New"}, "tenant.created"),
        ("PATCH", own, {"name": "Renamed"}, "tenant.updated"),
        ("PUT", f"{own}/provider-config", {"provider": "openai"}, "provider_config.set"),
        ("DELETE", f"{own}/provider-config", None, "provider_config.removed"),
        ("POST", f"{own}/api-keys", {"name": "k"}, "key.issued"),
        ("PATCH", f"keys/{key.id}", {"name": "renamed"}, "key.updated"),
        ("PATCH", f"keys/{key.id}", {"is_active": False}, "key.paused"),
        ("POST", f"keys/{key.id}/rotate", {}, "key.rotated"),
        ("POST", f"keys/{key.id}/revoke", {}, "key.revoked"),
        ("DELETE", f"{own}/api-keys/{key.id}?permanent=true", None, "key.deleted"),
        ("POST", "providers", {"name": "p", "kind": "demo"}, "provider.created"),
        ("POST", "models", {"id": "m"}, "model.created"),
        ("PATCH", "models/m", {"is_active": False}, "model.updated"),
        ("DELETE", "models/m", None, "model.deleted"),
        ("DELETE", f"{own}?confirm=true", None, "tenant.deleted"),
    ]


def _call(api, method, path, body, **kwargs):
    return api.call(method, path, **({} if body is None else {"body": body}), **kwargs)


def test_each_change_leaves_exactly_one_row_with_its_actor(api, operator, tenant, key):
    for number, (method, path, body, action) in enumerate(_mutations(tenant, key.key)):
        before = AuditEvent.objects.count()
        request_id = f"request-{number:04d}"
        headers = {"x-request-id": request_id, "user-agent": "story/1"}
        answer = _call(api, method, path, body, headers=headers)
        assert answer.status_code in (200, 201, 204), (action, answer.content)
        (row,) = _rows_since(before)
        assert (row.action, row.outcome, row.error_code) == (action, "ok", "")
        assert (row.actor_type, row.actor_id, row.actor_label) == (
            "operator",
            str(operator.id),
            "the-operator",
        )
        assert (row.method, row.source, row.request_id) == ("session", "api", request_id)
        assert (row.address, row.user_agent) == ("127.0.0.1", "story/1")
        assert row.duration_ms >= 0
    assert not audit.verify().findings


def test_signing_in_and_out_are_rows_too(api, operator):
    api.post("auth/logout")
    actions = AuditEvent.objects.filter(actor_id=str(operator.id)).order_by("seq")
    assert list(actions.values_list("action", flat=True)) == [
        "operator.sign_in",
        "operator.sign_out",
    ]


def test_a_change_that_cannot_be_written_down_is_not_made(api, tenant, key):
    """No row, no change: whatever is tried, the answer is 503 and everything is as it was."""

    def picture():
        return (
            list(Tenant.objects.order_by("id").values()),
            list(APIKey.objects.order_by("id").values()),
            list(Provider.objects.values()),
            AuditEvent.objects.count(),
            ConfigChange.objects.count(),
        )

    before = picture()
    possible_at_once = [
        change
        for change in _mutations(tenant, key.key)
        if change[3] not in ("provider_config.removed", "model.updated", "model.deleted")
    ]
    with mock.patch.object(audit, "write", side_effect=DatabaseError("the disk is full")):
        for method, path, body, action in possible_at_once:
            answer = _call(api, method, path, body)
            assert (answer.status_code, action) == (503, action)
            assert answer.json()["error"]["code"] == "unavailable"
            assert answer.headers["Retry-After"].isdigit()
            assert "disk" not in answer.content.decode()
            assert picture() == before


def test_what_is_refused_is_written_down_as_refused(api, tenant, key):
    api.post(f"keys/{key.key.id}/revoke")
    for method, path, body, action, code in (
        ("POST", f"keys/{key.key.id}/revoke", {}, "key.revoked", "key_revoked"),
        ("POST", "tenants", {"name": ""}, "tenant.created", "invalid_request"),
        ("POST", "tenants", {"name": "x", "slug": "acme"}, "tenant.created", "conflict"),
        (
            "DELETE",
            f"tenants/{tenant.id}/provider-config",
            None,
            "provider_config.removed",
            "not_found",
        ),
    ):
        before = AuditEvent.objects.count()
        assert _call(api, method, path, body).status_code in (400, 404, 409)
        (row,) = _rows_since(before)
        assert (row.action, row.outcome, row.error_code) == (action, "refused", code)
        assert row.actor_label == "the-operator"


def test_what_a_role_may_not_do_is_written_down(api, viewer, tenant):
    reading = api.signed_in(viewer)
    before = AuditEvent.objects.count()
    assert reading.delete(f"tenants/{tenant.id}?confirm=true").status_code == 403
    (row,) = _rows_since(before)
    assert (row.action, row.outcome, row.error_code) == ("access.refused", "refused", "forbidden")
    assert row.actor_label == "the-viewer"
    assert row.target_label == "DELETE v1/admin/tenants/<uuid:tenant_id>"
    assert row.details == {"tenant_id": str(tenant.id)}


def test_a_credential_is_nowhere_in_the_audit(api, auditor, tenant):
    planted = "sk-planted-in-the-story-1"
    api.post("providers", {"name": "p", "kind": "openai", "api_key": planted})
    api.put(f"tenants/{tenant.id}/provider-config", {"provider": "openai", "api_key": planted})
    issued = api.post(f"tenants/{tenant.id}/api-keys", {"name": "k"}).json()
    api.post(f"keys/{issued['id']}/revoke", {"reason": f"was {issued['key']}"})
    text = api.signed_in(auditor).get("audit?limit=200").content.decode()
    assert "provider.created" in text
    assert planted not in text
    assert issued["key"] not in text


def test_auditors_and_owners_read_it_and_nobody_else(api, auditor, owner, viewer, operator):
    for user, status in ((auditor, 200), (owner, 200), (viewer, 403), (operator, 403)):
        assert api.signed_in(user).get("audit").status_code == status


def test_a_row_shows_everything_but_its_salt(api, auditor, operator, tenant):
    api.patch(f"tenants/{tenant.id}", {"name": "Renamed"})
    reading = api.signed_in(auditor)
    body = reading.get("audit?action=tenant.updated").json()
    assert (body["object"], body["total"], body["has_more"]) == ("list", None, False)
    (row,) = body["data"]
    assert set(row) == FIELDS
    assert row["actor"] == {"type": "operator", "id": str(operator.id), "label": "the-operator"}
    assert row["target"] == {"kind": "tenant", "id": str(tenant.id), "label": "Acme (acme)"}
    assert row["details"] == {"name": {"from": "Acme", "to": "Renamed"}}
    assert row["scope"] == str(tenant.id)
    assert len(row["row_hash"]) == len(row["prev_hash"]) == 64


def test_rows_are_found_by_every_filter(api, auditor, operator, tenant, outsider, key):
    headers = {"x-request-id": "the-one-request"}
    api.patch(f"tenants/{tenant.id}", {"name": "Renamed"}, headers=headers)
    api.patch(f"tenants/{outsider.id}", {"name": ""})
    reading = api.signed_in(auditor)

    def found(query: str):
        answer = reading.get(f"audit?limit=200&{query}")
        assert answer.status_code == 200, answer.content
        return answer.json()["data"]

    everything = found("")
    assert len(everything) == AuditEvent.objects.count()
    cases = {
        "tenant=acme": lambda row: row["scope"] == str(tenant.id),
        f"tenant={tenant.id}": lambda row: row["scope"] == str(tenant.id),
        "tenant=platform": lambda row: row["scope"] == "platform",
        "tenant=nobody": lambda row: False,
        "actor=the-operator": lambda row: row["actor"]["label"] == "the-operator",
        f"actor={operator.id}": lambda row: row["actor"]["id"] == str(operator.id),
        "action=key.issued": lambda row: row["action"] == "key.issued",
        "target=api_key": lambda row: row["target"]["kind"] == "api_key",
        f"target={tenant.id}": lambda row: row["target"]["id"] == str(tenant.id),
        "outcome=refused": lambda row: row["outcome"] == "refused",
        "source=system": lambda row: row["source"] == "system",
        "request_id=the-one-request": lambda row: row["request_id"] == "the-one-request",
        "since=2020-01-01T00:00:00Z": lambda row: True,
        "until=2020-01-01T00:00:00Z": lambda row: False,
        f"until={everything[0]['created_at']}": lambda row: row is not everything[0],
        f"since={everything[0]['created_at']}": lambda row: row is everything[0],
    }
    for query, wanted in cases.items():
        assert found(query) == [row for row in everything if wanted(row)], query
    assert len(found("request_id=the-one-request")) == 1
    assert len(found("tenant=outsider&outcome=refused")) == 1


@pytest.mark.parametrize(
    "query",
    ["outcome=fine", "source=here", "since=yesterday", "until=7", "colour=blue", "actor=a&actor=b"],
)
def test_a_filter_that_cannot_be_is_a_400(api, auditor, query):
    assert api.signed_in(auditor).get(f"audit?{query}").status_code == 400
