"""Staff of the house: made, changed and shown out by its owners, of whom one is always left; and everybody's sessions."""

from functools import partial
from typing import Any

import pytest

from tenants import operator_services
from tenants.actor import system_actor
from tenants.errors import Conflict
from tenants.models import AuditEvent, Session, User
from tenants.service_tokens import issue_token
from tests.cast import PASSWORD, Api, Console
from tests.support.threads import at_once

NEW_PASSWORD = "another lamp, another window"


@pytest.fixture
def boss(owner) -> Api:
    return Api().signed_in(owner)


def path_of(user: User) -> str:
    return f"operators/{user.id}"


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# --- made -------------------------------------------------------------------------------------------------------------


def test_an_owner_makes_an_operator_who_signs_in_with_the_password_they_were_given(boss):
    answer = boss.post(
        "operators",
        {
            "username": "ann",
            "role": "viewer",
            "password": NEW_PASSWORD,
            "email": "ann@example.com",
        },
    )
    assert answer.status_code == 201
    body = answer.json()
    assert (body["object"], body["role"], body["email"]) == (
        "operator",
        "viewer",
        "ann@example.com",
    )
    assert "password" not in body
    ann = Api().signed_in(User.objects.get(username="ann"), NEW_PASSWORD)
    assert ann.get("tenants").status_code == 200
    assert boss.get(f"operators/{body['id']}").json() == {
        **body,
        "last_login": boss.get(f"operators/{body['id']}").json()["last_login"],
    }


def test_without_a_password_one_is_made_shown_once_and_due(boss):
    body = boss.post("operators", {"username": "ann", "role": "operator"}).json()
    assert body["must_change_password"] is True
    ann = Api().signed_in(User.objects.get(username="ann"), body["password"])
    assert code_of(ann.get("tenants")) == (403, "password_change_required")
    assert "password" not in boss.get(f"operators/{body['id']}").json()
    assert body["password"] not in str(list(AuditEvent.objects.values_list("details", flat=True)))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"username": "ann"}, 201),
        ({"username": "ann", "role": "king"}, 400),
        ({"username": "ann", "role": ""}, 400),
        ({"username": "ann", "password": "short"}, 400),
        ({"username": "ann", "email": "nowhere"}, 400),
        ({"username": "ann", "is_active": False}, 400),
        ({"username": "THE-OWNER"}, 409),
    ],
)
def test_an_operator_that_cannot_be_is_refused(boss, body, status):
    assert boss.post("operators", body).status_code == status


def test_the_staff_is_listed_without_a_tenants_people(boss, operator, viewer, tenant_owner):
    names = {row["username"] for row in boss.get("operators").json()["data"]}
    assert names == {"the-owner", "the-operator", "the-viewer"}
    assert len(boss.get("operators?role=viewer").json()["data"]) == 1
    assert boss.get(path_of(tenant_owner)).status_code == 404
    boss.patch(path_of(viewer), {"is_active": False})
    assert boss.get("operators").json()["total"] == 3
    assert boss.get("operators?active_only=true").json()["total"] == 2


# --- changed ----------------------------------------------------------------------------------------------------------


def test_who_gets_another_role_is_out_and_comes_back_with_it(boss, operator, api):
    console = Console().signed_in(operator)
    body = boss.patch(path_of(operator), {"role": "viewer"}).json()
    assert body["role"] == "viewer"
    assert api.get("auth/me").status_code == 401
    assert console.get("keys/").status_code == 302
    again = Api().signed_in(operator)
    assert again.get("tenants").status_code == 200
    assert again.post("tenants", {"name": "Globex"}).status_code == 403
    row = AuditEvent.objects.get(action="operator.updated")
    assert row.details["role"] == {"from": "operator", "to": "viewer"}


def test_who_is_locked_out_is_out_at_once_with_their_tokens_and_may_come_back(
    boss, operator, api, staging
):
    issued = issue_token(actor=staging, user=operator, name="nightly")
    program, console = Api(issued.credential.reveal().decode()), Console().signed_in(operator)
    boss.patch(path_of(operator), {"is_active": False})
    assert [each.get("tenants").status_code for each in (api, program)] == [401, 401]
    assert console.get("keys/").status_code == 302
    boss.patch(path_of(operator), {"is_active": True})
    assert api.get("tenants").status_code == 401
    assert Api().signed_in(operator).get("tenants").status_code == 200


def test_a_password_that_an_owner_sets_ends_what_was_open_and_is_due(boss, operator, api):
    answer = boss.patch(path_of(operator), {"password": NEW_PASSWORD})
    assert answer.json()["must_change_password"] is True
    assert NEW_PASSWORD not in str(list(AuditEvent.objects.values_list("details", flat=True)))
    assert api.get("auth/me").status_code == 401
    again = Api().signed_in(operator, NEW_PASSWORD)
    assert code_of(again.get("tenants")) == (403, "password_change_required")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"role": "king"},
        {"role": None},
        {"password": "short"},
        {"password": None},
        {"email": "nowhere"},
        {"id": "x"},
        {"must_change_password": False},
        {"role": "viewer", "password": "short"},
    ],
)
def test_a_change_that_cannot_be_changes_nothing(boss, operator, api, body):
    assert boss.patch(path_of(operator), body).status_code == 400
    assert api.get("auth/me").json()["role"] == "operator"


@pytest.mark.parametrize("role", ["operator", "auditor", "viewer"])
def test_nobody_but_an_owner_gives_roles_least_of_all_to_themselves(role, request):
    user = request.getfixturevalue(role)
    api = Api().signed_in(user)
    for attempt in (
        api.patch(path_of(user), {"role": "owner"}),
        api.post("operators", {"username": "ann", "role": "owner"}),
        api.delete(path_of(user)),
    ):
        assert code_of(attempt) == (403, "forbidden")
    user.refresh_from_db()
    assert user.role == role


# --- the last owner ---------------------------------------------------------------------------------------------------


def test_the_last_active_owner_stays(boss, owner, operator):
    path = path_of(owner)
    for attempt in (
        boss.patch(path, {"role": "operator"}),
        boss.patch(path, {"is_active": False}),
        boss.delete(path),
    ):
        assert code_of(attempt) == (409, "conflict")
    assert boss.patch(path, {"email": "boss@example.com"}).status_code == 200
    assert boss.patch(path_of(operator), {"role": "owner"}).status_code == 200
    boss.patch(path_of(operator), {"is_active": False})
    assert code_of(boss.patch(path, {"role": "operator"})) == (409, "conflict")
    boss.patch(path_of(operator), {"is_active": True})
    assert boss.patch(path, {"role": "operator"}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_go_at_the_same_moment_one_stays(cheap_passwords):
    here = system_actor("story")
    owners = [
        operator_services.create_operator(
            actor=here, username=f"owner {n}", password=PASSWORD, role="owner"
        )
        for n in range(2)
    ]

    def leave(user: User) -> bool:
        try:
            operator_services.update_operator(actor=here, operator_id=user.id, role="viewer")
        except Conflict:
            return False
        return True

    for _ in range(5):
        User.objects.update(role="owner")
        assert sorted(at_once(*(partial(leave, user) for user in owners))) == [False, True]
        assert User.objects.filter(role="owner", is_active=True).count() == 1


# --- gone for good ----------------------------------------------------------------------------------------------------


def test_who_is_shown_out_for_good_has_nothing_left_but_the_name(boss, operator, api, staging):
    issued = issue_token(actor=staging, user=operator, name="nightly")
    assert boss.delete(path_of(operator)).status_code == 204
    program = Api(issued.credential.reveal().decode())
    assert [each.get("tenants").status_code for each in (api, program)] == [401, 401]
    assert boss.get(path_of(operator)).status_code == 404
    assert boss.delete(path_of(operator)).status_code == 404
    assert boss.post("operators", {"username": operator.username}).status_code == 409
    credentials = {"username": operator.username, "password": PASSWORD}
    assert Api().post("auth/login", credentials).status_code == 401
    issued.token.refresh_from_db()
    assert issued.token.revoked_at is not None


def test_who_is_no_operator_any_more_may_still_be_a_tenants_person(boss, operator, tenant):
    operator.memberships.create(tenant=tenant, role="member")
    boss.delete(path_of(operator))
    again = Api().signed_in(operator)
    assert again.get(f"tenants/{tenant.id}").status_code == 200
    assert again.get("providers").status_code == 403


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_one_sees_ones_own_sessions_and_which_is_this_one(api, operator, viewer):
    Console().signed_in(operator)
    Api().signed_in(viewer)
    rows = api.get("sessions").json()["data"]
    assert {row["username"] for row in rows} == {"the-operator"}
    assert sorted((row["door"], row["current"]) for row in rows) == [
        ("api", True),
        ("console", False),
    ]
    assert api.get(f"sessions?operator={viewer.id}").json()["data"] == []
    assert api.get("sessions?operator=the-viewer").json()["data"] == []


def test_an_owner_sees_everybodys_and_ends_any(boss, operator, api, tenant_owner):
    Api().signed_in(tenant_owner)
    names = {row["username"] for row in boss.get("sessions").json()["data"]}
    assert names == {"the-owner", "the-operator", "the-tenant-owner"}
    for reference in (operator.id, "The-Operator"):
        (row,) = boss.get(f"sessions?operator={reference}").json()["data"]
    assert boss.delete(f"sessions/{row['id']}").status_code == 204
    assert api.get("auth/me").status_code == 401
    assert boss.delete(f"sessions/{row['id']}").status_code == 404
    ended = AuditEvent.objects.get(action="session.ended", outcome="ok")
    assert (ended.actor_label, ended.target_label) == ("the-owner", "the-operator")


def test_one_ends_ones_own_session_and_nobody_elses(api, operator, viewer):
    Api().signed_in(viewer)
    other = api.signed_in(operator)
    (foreign,) = viewer.sessions.all()
    assert api.delete(f"sessions/{foreign.id}").status_code == 404
    own = other.get("auth/me").json()["session"]["id"]
    assert api.delete(f"sessions/{own}").status_code == 204
    assert other.get("auth/me").status_code == 401
    assert api.get("auth/me").status_code == 200
    foreign.refresh_from_db()
    assert foreign.ended_at is None


def test_a_session_that_nobody_uses_any_more_is_not_listed(api, operator):
    Console().signed_in(operator)
    Session.objects.filter(cookie_hash__isnull=False).update(idle_ends_at=operator.created_at)
    assert len(api.get("sessions").json()["data"]) == 1


def test_an_owner_signs_somebody_out_everywhere(boss, operator, api):
    console = Console().signed_in(operator)
    answer = boss.post(f"{path_of(operator)}/sign-out-everywhere")
    assert answer.json() == {"ended_sessions": 2}
    assert api.get("auth/me").status_code == 401
    assert console.get("keys/").status_code == 302
    assert boss.get("auth/me").status_code == 200
