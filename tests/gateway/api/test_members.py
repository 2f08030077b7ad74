"""A tenant's people see what is their tenant's and nothing else, and their owners change it."""

import re
from typing import Any, cast
from uuid import uuid4

import pytest

from gateway.api import urls
from keys.services import issue_key
from providers.services import set_provider_config
from tenants.account_services import create_account
from tenants.models import AuditEvent, Tenant, User
from tenants.project_services import create_project
from tests.cast import PASSWORD, Api, Console
from tests.gateway.api.calls import log_row


@pytest.fixture
def worlds(tenant, outsider, staging) -> dict[str, Tenant]:
    """Both have one of everything, under names that occur nowhere else."""
    for owner in (tenant, outsider):
        here = {"actor": staging, "tenant_id": owner.id}
        project = create_project(name=f"{owner.slug}-project", **here)
        account = create_account(username=f"{owner.slug}-account", **here)
        issue_key(
            name=f"{owner.slug}-key", project=str(project.id), account=str(account.id), **here
        )
        set_provider_config(provider="openai", api_key=f"sk-{owner.slug}-secret", **here)
        log_row(tenant_id=owner.id, tenant=owner.slug)
    return {"acme": tenant, "outsider": outsider}


@pytest.fixture
def member(tenant_member, worlds) -> Api:
    return Api().signed_in(tenant_member)


@pytest.fixture
def boss(tenant_owner, worlds) -> Api:
    return Api().signed_in(tenant_owner)


LISTS = ["tenants", "keys", "projects", "users", "logs", "holds"]


@pytest.mark.parametrize("path", LISTS)
def test_a_list_has_the_rows_of_ones_own_tenant_alone(member, api, path):
    everything, own = api.get(path), member.get(path)
    assert own.status_code == 200, own.content
    assert "outsider" not in own.content.decode().lower()
    if path != "holds":
        assert "outsider" in everything.content.decode().lower()
        assert len(own.json()["data"]) == 1


@pytest.mark.parametrize("path", ["keys", "projects", "users", "logs", "holds"])
def test_a_filter_that_names_another_tenant_finds_what_one_of_nobody_finds(member, worlds, path):
    answers = [
        member.get(f"{path}?tenant={name}")
        for name in ("outsider", worlds["outsider"].id, "nobody-at-all", uuid4())
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json()["data"] == [] for answer in answers)
    assert len(member.get(f"{path}?tenant=acme").json()["data"]) == (path != "holds")


@pytest.mark.parametrize("path", ["stats", "analytics/summary", "analytics/models"])
def test_figures_are_those_of_ones_own_tenant(member, api, path):
    own = member.get(path).json()
    named = api.get(f"{path}?tenant=acme").json()
    assert own == named
    assert own != api.get(path).json()
    foreign = member.get(f"{path}?tenant=outsider").json()
    assert foreign == member.get(f"{path}?tenant=nobody-at-all").json()
    assert not foreign.get("requests")
    assert not any(foreign.get(name) for name in ("tenants", "keys", "accounts", "data"))


def _own_ids(tenant: Tenant) -> dict[str, str]:
    return {
        "tenant_id": str(tenant.id),
        "key_id": str(tenant.api_keys.get().id),
        "project_id": str(tenant.projects.get().id),
        "user_id": str(tenant.accounts.get().id),
    }


def _routes(ids: dict[str, str]) -> list[tuple[str, str, bool]]:
    """(method, route, whether members come in) of every route that names one thing of a tenant's."""
    found = []
    for pattern in urls.urlpatterns:
        route = str(pattern.name)
        named = re.findall(r"\{([a-z_]+)\}", route)
        if named and set(named) <= ids.keys():
            access = cast(Any, pattern.callback).view_initkwargs["access"]
            found += [(method, route, bool(it.members)) for method, it in access.items()]
    return found


def test_what_is_another_tenants_answers_as_what_does_not_exist(boss, worlds):
    foreign = _own_ids(worlds["outsider"])
    tried = 0
    for method, route, comes_in in _routes(foreign):
        if not comes_in:
            continue
        answers = [
            boss.call(method, route.format(**ids), {}, headers={"x-request-id": "the-same-id"})
            for ids in (foreign, dict.fromkeys(foreign, str(uuid4())))
        ]
        assert [answer.status_code for answer in answers] == [404, 404], (method, route)
        assert answers[0].content == answers[1].content
        tried += 1
    assert tried > 15


def test_a_key_under_the_wrong_tenant_is_not_there(boss, worlds):
    own, foreign = (_own_ids(worlds[name]) for name in ("acme", "outsider"))
    for tenant, key in ((own, foreign), (foreign, own)):
        path = f"tenants/{tenant['tenant_id']}/api-keys/{key['key_id']}"
        assert boss.delete(path).status_code == 404


def test_a_call_of_another_tenant_is_not_there(member, api, worlds):
    (foreign,) = api.get("logs?tenant=outsider").json()["data"]
    (own,) = api.get("logs?tenant=acme").json()["data"]
    assert member.get(f"logs/{foreign['request_id']}").status_code == 404
    card = member.get(f"logs/{own['request_id']}")
    assert card.status_code == 200
    assert "provider_id" not in card.content.decode()


def test_nothing_is_made_in_another_tenant(boss, worlds):
    for path, body in (("projects", {"name": "mine"}),):
        answers = [
            boss.post(path, {**body, "tenant": name}).json()["error"]
            for name in ("outsider", str(worlds["outsider"].id), "nobody-at-all")
        ]
        assert answers[0] == answers[1] == answers[2]
        assert boss.post(path, {**body, "tenant": "acme"}).status_code == 201
    foreign = _own_ids(worlds["outsider"])
    for field in ("project", "account"):
        thing = foreign["project_id" if field == "project" else "user_id"]
        answer = boss.post(f"tenants/{worlds['acme'].id}/api-keys", {"name": "mine", field: thing})
        assert answer.status_code == 400


def test_an_owner_issues_rotates_and_revokes_the_keys_of_their_tenant(boss, worlds, tenant_owner):
    issued = boss.post(f"tenants/{worlds['acme'].id}/api-keys", {"name": "mine"})
    assert issued.status_code == 201
    assert issued.json()["created_by"]["type"] == "member"
    path = f"keys/{issued.json()['id']}"
    assert boss.patch(path, {"is_active": False}).status_code == 200
    assert boss.post(f"{path}/rotate").status_code == 201
    assert boss.post(f"{path}/revoke").status_code == 200
    row = AuditEvent.objects.get(action="key.revoked")
    assert (row.actor_type, row.actor_id) == ("member", str(tenant_owner.id))
    assert row.scope == str(worlds["acme"].id)


def test_a_member_changes_nothing_and_trying_is_written_down(member, worlds):
    ids = _own_ids(worlds["acme"])
    answer = member.post(f"keys/{ids['key_id']}/revoke")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    row = AuditEvent.objects.get(action="access.refused")
    assert (row.actor_type, row.actor_label) == ("member", "the-tenant-member")


def test_a_members_role_in_one_tenant_is_none_in_another(boss, worlds, tenant_owner):
    tenant_owner.memberships.create(tenant=worlds["outsider"], role="member")
    foreign = _own_ids(worlds["outsider"])
    assert boss.get(f"keys/{foreign['key_id']}").status_code == 200
    assert boss.post(f"keys/{foreign['key_id']}/revoke").status_code == 404
    assert len(boss.get("keys").json()["data"]) == 2


def test_who_is_shown_out_of_a_tenant_is_out_at_once(member, tenant_member):
    tenant_member.memberships.all().delete()
    assert member.get("keys").status_code == 401
    assert member.get("auth/me").status_code == 401


def test_the_people_of_a_tenant_that_is_not_served_stay_outside(member, worlds, tenant_member):
    Tenant.objects.filter(slug="acme").update(status="inactive")
    assert member.get("keys").status_code == 401
    credentials = {"username": tenant_member.username, "password": PASSWORD}
    assert Api().post("auth/login", credentials).status_code == 401


def test_a_members_sign_in_says_who_they_are(member, worlds):
    body = member.get("auth/me").json()
    assert (body["object"], body["role"]) == ("member", None)
    assert body["memberships"] == [{"tenant": str(worlds["acme"].id), "role": "member"}]
    assert AuditEvent.objects.filter(action="operator.sign_in", actor_type="member").count() == 1


def test_a_members_password_opens_no_page_of_the_console(tenant_owner):
    answer = Console().submit("sign-in/", {"username": tenant_owner.username, "password": PASSWORD})
    assert answer.status_code == 400


def test_staff_with_a_place_in_a_tenant_change_there_what_they_only_read_elsewhere(
    worlds, viewer, api
):
    viewer.memberships.create(tenant=worlds["acme"], role=User.Role.OWNER)
    both = Api().signed_in(viewer)
    own, foreign = (_own_ids(worlds[name]) for name in ("acme", "outsider"))
    assert both.get(f"keys/{foreign['key_id']}").status_code == 200
    assert both.post(f"keys/{own['key_id']}/revoke").status_code == 200
    assert both.post(f"keys/{foreign['key_id']}/revoke").status_code == 404
