"""Who is a tenant's person: made, promoted and shown out by its owners or by the house; or invited."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import time_machine

from tenants import invitation_services, member_services
from tenants.actor import system_actor
from tenants.errors import Conflict, NotFound
from tenants.models import AuditEvent, Invitation, Membership, User
from tenants.services import create_tenant
from tenants.tries import MOST
from tests.cast import PASSWORD, Api
from tests.support.addresses import new_address
from tests.support.threads import at_once

NEW_PASSWORD = "another lamp, another window"


@pytest.fixture
def boss(tenant_owner) -> Api:
    """The tenant's owner."""
    return Api().signed_in(tenant_owner)


@pytest.fixture
def members(tenant) -> str:
    return f"tenants/{tenant.id}/members"


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def place_of(user: User) -> Membership:
    return user.memberships.get()


# --- members ----------------------------------------------------------------------------------------------------------


def test_an_owner_makes_a_member_who_signs_in(boss, members):
    answer = boss.post(members, {"username": "ann", "email": "ann@example.com"})
    assert answer.status_code == 201
    body = answer.json()
    assert (body["object"], body["role"], body["email"]) == ("member", "member", "ann@example.com")
    ann = Api().signed_in(User.objects.get(username="ann"), body.pop("password"))
    assert code_of(ann.get("keys")) == (403, "password_change_required")
    shown = boss.get(f"{members}/{body['id']}").json()
    assert shown == {**body, "last_login": shown["last_login"]}
    assert {row["username"] for row in boss.get(members).json()["data"]} == {
        "ann",
        "the-tenant-owner",
    }


def test_a_member_sees_who_else_is_there_and_changes_nobody(boss, members, tenant_member):
    member = Api().signed_in(tenant_member)
    assert member.get(members).json()["total"] == 2
    path = f"{members}/{place_of(tenant_member).id}"
    for attempt in (
        member.post(members, {"username": "ann"}),
        member.patch(path, {"role": "owner"}),
        member.delete(path),
        member.post("invitations", {"tenant": "acme"}),
        member.get("invitations"),
    ):
        assert code_of(attempt) == (403, "forbidden")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"username": "ann", "role": "king"}, 400),
        ({"username": "ann", "role": "operator"}, 400),
        ({"username": "ann", "password": "short"}, 400),
        ({"username": "THE-TENANT-OWNER"}, 409),
        ({"username": "ann", "is_active": False}, 400),
    ],
)
def test_a_member_that_cannot_be_is_refused(boss, members, body, status):
    assert boss.post(members, body).status_code == status


def test_a_tenants_owner_puts_nobody_in_who_was_not_asked(boss, members, foreign_owner, api):
    body = {"user": str(foreign_owner.id), "role": "member"}
    assert boss.post(members, body).status_code == 400
    assert api.post(members, body).status_code == 201
    assert code_of(api.post(members, body)) == (409, "conflict")
    assert api.post(members, {"user": "nobody"}).status_code == 400
    both = Api().signed_in(foreign_owner)
    assert both.get("tenants").json()["total"] == 2


def test_a_role_is_changed_and_acts_at_once(boss, members, tenant_member):
    member = Api().signed_in(tenant_member)
    path = f"{members}/{place_of(tenant_member).id}"
    assert member.post("projects", {"tenant": "acme", "name": "Web"}).status_code == 403
    assert boss.patch(path, {"role": "owner"}).json()["role"] == "owner"
    assert member.post("projects", {"tenant": "acme", "name": "Web"}).status_code == 201
    assert boss.patch(path, {"role": "member"}).status_code == 200
    assert member.post("projects", {"tenant": "acme", "name": "More"}).status_code == 403
    assert boss.patch(path, {}).status_code == 400
    assert boss.patch(path, {"username": "x"}).status_code == 400


def test_who_is_shown_out_is_out_and_stays_a_person(boss, members, tenant_member):
    member = Api().signed_in(tenant_member)
    path = f"{members}/{place_of(tenant_member).id}"
    assert boss.delete(path).status_code == 204
    assert member.get("keys").status_code == 401
    assert boss.get(path).status_code == boss.delete(path).status_code == 404
    assert User.objects.filter(pk=tenant_member.pk, is_active=True).exists()
    row = AuditEvent.objects.get(action="member.removed", outcome="ok")
    assert (row.target_label, row.scope) == (tenant_member.username, members.split("/")[1])


def test_the_last_owner_of_a_tenant_stays_whoever_asks(
    boss, api, members, tenant_owner, tenant_member
):
    path = f"{members}/{place_of(tenant_owner).id}"
    for caller in (boss, api):
        assert code_of(caller.patch(path, {"role": "member"})) == (409, "conflict")
        assert code_of(caller.delete(path)) == (409, "conflict")
    boss.patch(f"{members}/{place_of(tenant_member).id}", {"role": "owner"})
    User.objects.filter(pk=tenant_member.pk).update(is_active=False)
    assert code_of(api.delete(path)) == (409, "conflict")
    User.objects.filter(pk=tenant_member.pk).update(is_active=True)
    assert boss.delete(path).status_code == 204


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_of_a_tenant_who_go_at_the_same_moment_one_stays(cheap_passwords):
    here = system_actor("story")
    tenant = create_tenant(actor=here, name="Acme", slug="acme")
    places = [
        member_services.create_member(
            actor=here, tenant_id=tenant.id, username=f"owner {n}", password=PASSWORD, role="owner"
        )
        for n in range(2)
    ]

    def leave(place: Membership) -> bool:
        try:
            member_services.update_member(
                actor=here, tenant_id=tenant.id, member_id=place.id, role="member"
            )
        except Conflict:
            return False
        return True

    for _ in range(5):
        Membership.objects.update(role="owner")
        assert sorted(at_once(*(partial(leave, place) for place in places))) == [False, True]


# --- invitations ------------------------------------------------------------------------------------------------------


def invited(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post("invitations", {"tenant": "acme", **fields})
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


def accept(token: str, username: str = "ann", password: str = PASSWORD, **where: Any) -> Any:
    body = {"token": token, "username": username, "password": password}
    return Api().post("auth/accept-invitation", body, **{"address": new_address(), **where})


def test_an_invitation_is_shown_once_and_makes_a_member(boss, tenant):
    body = invited(boss, role="owner", email="ann@example.com")
    token = body.pop("token")
    assert (body["status"], body["uses"], body["max_uses"]) == ("active", 0, 1)
    assert body["created_by"]["label"] == "the-tenant-owner"
    assert boss.get(f"invitations/{body['id']}").json() == body
    assert token not in str(Invitation.objects.values().get())
    answer = accept(token)
    assert answer.status_code == 201
    assert answer.json()["role"] == "owner"
    ann = Api().signed_in(User.objects.get(username="ann"))
    me = ann.get("auth/me").json()
    assert me["memberships"] == [{"tenant": str(tenant.id), "role": "owner"}]
    assert (me["email"], me["must_change_password"]) == ("ann@example.com", False)
    assert ann.get(f"invitations/{body['id']}").json()["status"] == "exhausted"
    row = AuditEvent.objects.get(action="invitation.accepted", outcome="ok")
    assert (row.actor_type, row.actor_label, row.scope) == ("member", "ann", str(tenant.id))


@pytest.mark.parametrize("why", ["exhausted", "expired", "revoked", "inactive", "never made"])
def test_an_invitation_that_is_over_is_refused_like_one_that_never_was(boss, tenant, why):
    body = invited(boss)
    now = datetime.now(UTC)
    match why:
        case "exhausted":
            assert accept(body["token"], "ben").status_code == 201
        case "expired":
            now += timedelta(days=7, seconds=1)
        case "revoked":
            assert boss.delete(f"invitations/{body['id']}").status_code == 204
            assert boss.delete(f"invitations/{body['id']}").status_code == 409
            assert boss.get(f"invitations/{body['id']}").json()["status"] == "revoked"
        case "inactive":
            tenant.status = "inactive"
            tenant.save()
        case "never made":
            body["token"] = "x" * 43
    with time_machine.travel(now):
        answer = accept(body["token"])
    assert code_of(answer) == (404, "not_found")
    assert not User.objects.filter(username="ann").exists()


def test_an_invitation_takes_as_many_as_it_says(boss):
    token = invited(boss, max_uses=2)["token"]
    assert [accept(token, name).status_code for name in ("ann", "ben", "cid")] == [201, 201, 404]


def test_who_has_an_account_accepts_with_its_password_and_nobody_elses(boss, foreign_owner):
    token = invited(boss)["token"]
    assert code_of(accept(token, foreign_owner.username, "wrong")) == (401, "invalid_credentials")
    assert accept(token, foreign_owner.username.upper()).status_code == 201
    assert foreign_owner.memberships.count() == 2


def test_who_has_a_place_there_uses_nothing_up(boss, tenant_member):
    body = invited(boss)
    assert code_of(accept(body["token"], tenant_member.username)) == (409, "conflict")
    assert boss.get(f"invitations/{body['id']}").json()["uses"] == 0


def test_who_is_locked_out_gets_in_by_no_invitation(boss, foreign_owner):
    User.objects.filter(pk=foreign_owner.pk).update(is_active=False)
    token = invited(boss)["token"]
    assert accept(token, foreign_owner.username).status_code == 401


def test_a_weak_password_or_a_name_that_is_none_uses_nothing_up(boss):
    body = invited(boss)
    assert accept(body["token"], "ann", "short").status_code == 400
    assert accept(body["token"], "a\u202eb").status_code == 400
    assert boss.get(f"invitations/{body['id']}").json()["status"] == "active"


@pytest.mark.parametrize(
    "fields",
    [
        {"tenant": None},
        {"tenant": "outsider"},
        {"tenant": "nobody"},
        {"role": "king"},
        {"max_uses": 0},
        {"max_uses": None},
        {"max_uses": 1001},
        {"max_uses": True},
        {"expires_at": "2000-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00Z"},
        {"email": "nowhere"},
        {"token": "mine"},
    ],
)
def test_an_invitation_that_cannot_be_is_refused(boss, outsider, fields):
    assert boss.post("invitations", {"tenant": "acme", **fields}).status_code == 400
    assert Invitation.objects.count() == 0


def test_invitations_of_another_tenant_are_not_there(boss, foreign_owner):
    theirs = Api().signed_in(foreign_owner).post("invitations", {"tenant": "outsider"}).json()
    invited(boss)
    assert boss.get("invitations").json()["total"] == 1
    assert boss.get("invitations?tenant=outsider").json()["data"] == []
    for method in ("GET", "DELETE"):
        assert boss.call(method, f"invitations/{theirs['id']}").status_code == 404


def test_who_tries_secrets_has_to_wait(boss):
    token = invited(boss)["token"]
    for n in range(MOST["api"]):
        assert accept("x" * 43, f"guess {n}", address="192.0.2.1").status_code == 404
    answer = accept(token, address="192.0.2.1")
    assert code_of(answer) == (429, "rate_limit_exceeded")
    assert accept(token).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_of_two_who_come_at_the_same_moment_the_last_use_goes_to_one(cheap_passwords):
    here = system_actor("story")
    tenant = create_tenant(actor=here, name="Acme", slug="acme")
    made = invitation_services.invite(actor=here, tenant_id=tenant.id)

    def come(n: int) -> bool:
        try:
            invitation_services.accept(
                actor=here,
                secret=made.secret.reveal().decode(),
                username=f"guest {n}",
                password=PASSWORD,
            )
        except NotFound:
            return False
        return True

    came = at_once(*(partial(come, n) for n in range(4)))
    assert sorted(came) == [False, False, False, True]
    assert Membership.objects.count() == Invitation.objects.get().uses == 1
    assert User.objects.count() == 1
