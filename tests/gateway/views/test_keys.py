"""`/v1/keys`: a key manages keys, and none of them can ever do more than it."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from keys.models import APIKey
from keys.self_service import MOST_A_MINUTE
from keys.services import SCOPES, rotate_key, update_key
from keys.warrants import Warrant, grant_of
from tenants import audit
from tenants.models import Account, AuditEvent, Project
from tenants.project_services import create_project
from tests.gateway.views.managing import STAGING, Holder, code_of, holder_of, key_of

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
NARROW = {
    "scopes": ["inference", "keys"],
    "allowed_models": ["gpt-*", "o3"],
    "allowed_capabilities": ["chat", "embedding"],
    "allowed_addresses": ["127.0.0.0/8"],
    "rate_limits": ["100/h"],
    "rate_limit_rpm": 60,
    "burst": 5,
    "max_concurrency": 3,
    "tokens_budget": 1000,
    "cost_budget_usd": "5",
    "log_content": True,
    "expires_at": SOON,
}


@pytest.fixture
def narrow(tenant):
    return key_of(tenant, **NARROW)


def test_a_key_issues_a_key_that_is_shown_once_and_opens_the_door(tenant):
    manager = key_of(tenant)
    answer = holder_of(manager).post("keys", {"name": "new", "team": "blue"})
    assert answer.status_code == 201
    body = answer.json()
    assert (body["source"], body["status"], body["team"]) == ("self-service", "active", "blue")
    assert body["scopes"] == ["inference", "usage"]
    assert body["created_by"] == {"type": "key", "id": str(manager.key.id), "label": "manager"}
    assert Holder(body["key"]).get("key").json()["id"] == body["id"]
    shown = holder_of(manager).get(f"keys/{body['id']}").json()
    assert "key" not in shown
    assert body["key"] not in holder_of(manager).get("keys").content.decode()
    (row,) = AuditEvent.objects.filter(action="key.issued", actor_type="key")
    assert (row.actor_id, row.actor_label, row.method) == (str(manager.key.id), "manager", "key")
    assert (row.scope, row.source, row.target_id) == (str(tenant.id), "api", body["id"])
    assert row.request_id == answer.headers["x-request-id"]
    assert audit.verify().findings == []


def test_what_was_not_asked_for_is_as_the_maker_has_it(narrow):
    body = holder_of(narrow).post("keys", {"name": "new"}).json()
    expected = {
        **NARROW,
        "scopes": ["inference"],
        "expires_at": SOON.isoformat().replace("+00:00", "Z"),
    }
    assert {name: body[name] for name in expected} == expected


def test_what_goes_beyond_the_maker_is_cut(narrow):
    asked = {
        "name": "new",
        "scopes": ["usage", "inference", "mcp"],
        "allowed_models": ["gpt-4*", "o3", "claude-*"],
        "allowed_capabilities": ["chat", "image"],
        "allowed_addresses": ["0.0.0.0/0", "fd00::/8"],
        "rate_limits": ["500/h", "7/s"],
        "rate_limit_rpm": 10,
        "burst": 50,
        "max_concurrency": 2,
        "tokens_budget": None,
        "cost_budget_usd": "17.5",
        "cost_budget_day_usd": "2",
        "log_content": False,
        "expires_at": "2199-01-01T00:00:00Z",
    }
    body = holder_of(narrow).post("keys", asked).json()
    told = {name: body[name] for name in asked}
    assert told == {
        "name": "new",
        "scopes": ["inference"],
        "allowed_models": ["gpt-4*", "o3"],
        "allowed_capabilities": ["chat"],
        "allowed_addresses": ["127.0.0.0/8"],
        "rate_limits": ["100/h", "7/s"],
        "rate_limit_rpm": 10,
        "burst": 5,
        "max_concurrency": 2,
        "tokens_budget": 1000,
        "cost_budget_usd": "5",
        "cost_budget_day_usd": "2",
        "log_content": True,
        "expires_at": SOON.isoformat().replace("+00:00", "Z"),
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scopes", ["usage", "mcp"]),
        ("allowed_models", ["claude-*"]),
        ("allowed_capabilities", ["image"]),
        ("allowed_addresses", ["fd00::/8"]),
    ],
)
def test_nothing_in_common_is_a_400_that_names_the_field(narrow, field, value):
    answer = holder_of(narrow).post("keys", {"name": "new", field: value})
    assert code_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == field
    assert APIKey.objects.count() == 1


def test_a_plain_key_mints_nothing(tenant):
    plain = holder_of(key_of(tenant, scopes=["inference", "usage", "projects", "mcp"]))
    for method, path in (
        ("GET", "keys"),
        ("POST", "keys"),
        ("GET", f"keys/{uuid4()}"),
        ("PATCH", f"keys/{uuid4()}"),
        ("DELETE", f"keys/{uuid4()}"),
        ("POST", f"keys/{uuid4()}/rotate"),
    ):
        assert code_of(plain.call(method, path, {})) == (403, "scope_missing")
    assert APIKey.objects.count() == 1


def test_its_own_key_is_narrowed_and_rotated_but_not_widened(narrow):
    own = f"keys/{narrow.key.id}"
    holder = holder_of(narrow)
    wide = {
        **dict.fromkeys(("allowed_models", "allowed_capabilities", "allowed_addresses")),
        **dict.fromkeys(("rate_limits", "rate_limit_rpm", "burst", "tokens_budget", "expires_at")),
        "scopes": list(SCOPES),
        "cost_budget_usd": "999",
        "log_content": False,
    }
    before = holder.get(own).json()
    assert holder.patch(own, wide).json() == before
    assert holder.patch(own, {"rate_limit_rpm": 7, "allowed_models": ["gpt-4*"]}).status_code == 200
    assert holder.patch(own, {"rate_limit_rpm": 60}).json()["rate_limit_rpm"] == 7
    assert holder.patch(own, {"allowed_models": ["gpt-*"]}).json()["allowed_models"] == ["gpt-4*"]
    narrowed = holder.get(own).json()
    rotated = holder.post(f"{own}/rotate", {"grace_period_seconds": 60})
    assert rotated.status_code == 201
    assert code_of(holder.patch(own, {"name": "x"})) == (403, "grants_exceeded")
    after = Holder(rotated.json()["key"]).get(own).json()
    changed = {"key_prefix", "previous_secret_expires_at"}
    assert {name for name, value in after.items() if value != narrowed[name]} == changed


def test_a_secret_in_its_grace_makes_nothing_that_outlives_it(tenant):
    manager = key_of(tenant)
    rotated = rotate_key(actor=STAGING, key_id=manager.key.id, grace_period_seconds=600)
    old = holder_of(manager)
    assert code_of(old.post(f"keys/{manager.key.id}/rotate")) == (403, "grants_exceeded")
    made = old.post("keys", {"name": "new"}).json()
    until = datetime.fromisoformat(made["expires_at"])
    assert until == rotated.previous_secret_expires_at
    assert holder_of(rotated).post("keys", {"name": "new"}).json()["expires_at"] is None


def test_a_key_that_may_do_more_is_seen_and_ended_but_neither_changed_nor_taken_over(
    tenant, narrow
):
    wide = key_of(tenant, name="wide")
    path, holder = f"keys/{wide.key.id}", holder_of(narrow)
    assert holder.get(path).status_code == 200
    for answer in (
        holder.post(f"{path}/rotate"),
        holder.patch(path, {"name": "mine"}),
        holder.patch(path, {"scopes": ["inference"]}),
    ):
        assert code_of(answer) == (403, "grants_exceeded")
    assert holder_of(wide).get("key").json()["name"] == "wide"
    refused = AuditEvent.objects.filter(outcome="refused", actor_type="key")
    assert {row.error_code for row in refused} == {"grants_exceeded"}
    assert {row.scope for row in refused} == {str(tenant.id)}
    assert holder.delete(path).status_code == 204
    assert code_of(holder.delete(path)) == (409, "key_revoked")
    assert code_of(holder_of(wide).get("key")) == (401, "invalid_api_key")


def test_absent_stays_null_clears_and_a_value_sets_on_a_key_that_it_made(tenant):
    holder = holder_of(key_of(tenant))
    made = holder.post("keys", {"name": "new", "rate_limit_rpm": 5, "allowed_models": ["m"]}).json()
    path = f"keys/{made['id']}"
    changed = holder.patch(path, {"rate_limit_rpm": None, "name": "renamed"}).json()
    assert (changed["rate_limit_rpm"], changed["name"]) == (None, "renamed")
    assert changed["allowed_models"] == ["m"]
    assert holder.patch(path, {"is_active": False}).json()["status"] == "paused"
    assert code_of(Holder(made["key"]).get("key")) == (401, "invalid_api_key")
    assert holder.patch(path, {"is_active": True}).json()["status"] == "active"
    for body in ({}, {"team": "x"}, {"tenant": "x"}, {"source": "admin"}, {"warrant": None}):
        assert code_of(holder.patch(path, body)) == (400, "invalid_request")


def test_a_key_of_a_project_sees_and_makes_keys_of_that_project_alone(tenant):
    web, app = (create_project(actor=STAGING, tenant_id=tenant.id, name=it) for it in ("w", "a"))
    own = key_of(tenant, project=str(web.id))
    stranger, loose = key_of(tenant, project=str(app.id)), key_of(tenant)
    holder = holder_of(own)
    assert [row["id"] for row in holder.get("keys").json()["data"]] == [str(own.key.id)]
    for other in (stranger, loose):
        for method, path in (
            ("GET", f"keys/{other.key.id}"),
            ("PATCH", f"keys/{other.key.id}"),
            ("DELETE", f"keys/{other.key.id}"),
            ("POST", f"keys/{other.key.id}/rotate"),
        ):
            body = {"name": "x"} if method == "PATCH" else None
            assert code_of(holder.call(method, path, body)) == (404, "not_found")
    made = holder.post("keys", {"name": "new"}).json()
    assert made["project"] == str(web.id)
    for project in (str(app.id), None):
        moved = holder.patch(f"keys/{made['id']}", {"project": project})
        assert code_of(moved) == (403, "grants_exceeded")
    assert code_of(holder.post("keys", {"name": "n", "project": str(app.id)}))[0] == 403
    assert len(holder_of(loose).get("keys").json()["data"]) == 4


def test_who_pays_stays_who_pays(tenant):
    payer, other = (Account.objects.create(tenant=tenant, username=it) for it in ("p", "o"))
    own = key_of(tenant, account=str(payer.id))
    holder = holder_of(own)
    assert holder.post("keys", {"name": "new"}).json()["account"] == str(payer.id)
    answer = holder.post("keys", {"name": "new", "account": str(other.id)})
    assert code_of(answer) == (403, "grants_exceeded")
    for account in (str(other.id), None):
        answer = holder.patch(f"keys/{own.key.id}", {"account": account})
        assert code_of(answer) == (403, "grants_exceeded")
    free = holder_of(key_of(tenant))
    assert free.post("keys", {"name": "n", "account": str(other.id)}).json()["account"] == str(
        other.id
    )


def test_a_key_of_the_configuration_file_can_only_be_revoked(tenant):
    managed = key_of(tenant, source="config")
    holder, path = holder_of(key_of(tenant)), f"keys/{managed.key.id}"
    assert code_of(holder.patch(path, {"name": "x"})) == (409, "managed_by_config")
    assert code_of(holder.post(f"{path}/rotate")) == (409, "managed_by_config")
    assert holder.delete(path).status_code == 204


def test_staff_of_the_house_have_no_name_here(tenant, api):
    staffed = api.post(f"tenants/{tenant.id}/api-keys", {"name": "by staff"}).json()
    api.post(f"keys/{staffed['id']}/revoke", {"reason": "lost"})
    shown = holder_of(key_of(tenant)).get(f"keys/{staffed['id']}").json()
    nobody = {"type": "operator", "id": None, "label": None}
    assert (shown["created_by"], shown["revoked_by"]) == (nobody, nobody)
    assert shown["revoked_reason"] == "lost"


def test_lists_are_paged_and_can_leave_out_what_opens_nothing(tenant):
    holder = holder_of(key_of(tenant))
    made = [holder.post("keys", {"name": f"k{n}"}).json()["id"] for n in range(4)]
    holder.delete(f"keys/{made[0]}")
    holder.patch(f"keys/{made[1]}", {"is_active": False})
    first = holder.get("keys?limit=3").json()
    rest = holder.get(f"keys?limit=3&cursor={first['next_cursor']}").json()
    assert [len(first["data"]), len(rest["data"]), first["total"]] == [3, 2, 5]
    live = holder.get("keys?active_only=true").json()["data"]
    assert {row["name"] for row in live} == {"manager", "k2", "k3"}
    assert code_of(holder.get("keys?tenant=acme")) == (400, "invalid_request")


def test_a_key_that_ended_between_the_door_and_the_change_changes_nothing(tenant, monkeypatch):
    manager = key_of(tenant)
    cut = Warrant.cut

    def late(self, values, **more):
        update_key(actor=STAGING, key_id=manager.key.id, is_active=False)
        return cut(self, values, **more)

    monkeypatch.setattr(Warrant, "cut", late)
    answer = holder_of(manager).post("keys", {"name": "new"})
    assert code_of(answer) == (401, "invalid_api_key")
    assert APIKey.objects.count() == 1


def test_a_key_makes_so_many_changes_a_minute_and_a_refusal_for_that_is_no_row(tenant, monkeypatch):
    monkeypatch.setattr("keys.self_service.MOST_A_MINUTE", 5)
    assert MOST_A_MINUTE > 60
    holder = holder_of(key_of(tenant))
    for _ in range(3):
        assert holder.post("keys", {"name": "new"}).status_code == 201
    for _ in range(2):
        assert code_of(holder.post("keys", {"name": ""})) == (400, "invalid_request")
    rows = AuditEvent.objects.count()
    for method, path in (("POST", "keys"), ("PATCH", f"keys/{uuid4()}"), ("DELETE", "keys/x")):
        answer = holder.call(method, path.replace("x", str(uuid4())), {"name": "n"})
        assert code_of(answer) == (429, "rate_limit_exceeded")
        assert answer.headers["retry-after"] == "60"
    assert AuditEvent.objects.count() == rows
    assert holder.get("keys").status_code == 200


def test_a_body_in_chunks_is_read_and_what_is_no_json_is_refused(tenant, client):
    holder = holder_of(key_of(tenant))
    for raw in (b"{", b"[]", b'{"name":"a","name":"b"}', b'{"name":NaN}'):
        answer = client.generic(
            "POST",
            "/v1/keys",
            raw,
            content_type="application/json",
            headers={"authorization": f"Bearer {holder.secret}"},
        )
        assert code_of(answer) == (400, "invalid_request")
    assert Project.objects.count() == 0


def test_the_grant_of_every_key_that_was_made_lies_within_its_makers(narrow):
    """What the judge says of rows, not of what was answered."""
    holder = holder_of(narrow)
    for asked in ({}, {"allowed_models": None}, {"rate_limits": ["1/s"], "scopes": list(SCOPES)}):
        assert holder.post("keys", {"name": "new", **asked}).status_code == 201
    narrow.key.refresh_from_db()
    own = grant_of(narrow.key, narrow.key.expires_at)
    for key in APIKey.objects.exclude(pk=narrow.key.pk):
        from_row = grant_of(key, key.expires_at)
        assert from_row.scopes <= own.scopes
        assert dict(own.most or {}).items() <= dict(from_row.most or {}).items()
