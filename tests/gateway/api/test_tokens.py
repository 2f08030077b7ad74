"""Service tokens over the admin API: made by who signed in, shown once, seen and revoked by their makers and by owners."""

from typing import Any

import pytest

from tenants.models import AuditEvent, ServiceToken
from tests.cast import Api


@pytest.fixture
def boss(owner) -> Api:
    return Api().signed_in(owner)


def made(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post("tokens", {"name": "nightly", **fields})
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


def test_a_token_is_shown_once_and_opens_what_it_was_made_for(api):
    body = made(api, scopes=["write", "read"], expires_at="2999-01-01T00:00:00Z")
    token = body.pop("token")
    assert (body["object"], body["scopes"]) == ("service_token", ["read", "write"])
    assert body["created_by"]["label"] == "the-operator"
    assert body["prefix"] == token[:10]
    assert (body["expires_at"], body["revoked_at"]) == ("2999-01-01T00:00:00Z", None)
    assert api.get(f"tokens/{body['id']}").json() == body
    assert api.get("tokens").json()["data"] == [body]
    assert Api(token).post("tenants", {"name": "Globex"}).status_code == 201
    assert api.get(f"tokens/{body['id']}").json()["last_used_at"] is not None
    for kept in AuditEvent.objects.values_list("details", flat=True):
        assert token not in str(kept)


def test_a_token_reads_unless_it_was_made_for_more(api):
    assert made(api)["scopes"] == ["read"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "scopes": "read"},
        {"name": "x", "scopes": ["audit"]},
        {"name": "x", "expires_at": "2000-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "soon"},
        {"name": "x", "token": "gwa_mine"},
    ],
)
def test_a_token_that_cannot_be_is_refused(api, body):
    assert api.post("tokens", body).status_code == 400
    assert ServiceToken.objects.count() == 0


def test_a_token_makes_no_further_tokens(boss):
    program = Api(made(boss, scopes=["read", "write", "audit", "people"])["token"])
    answer = program.post("tokens", {"name": "another"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "session_required")
    assert ServiceToken.objects.count() == 1


def test_one_sees_and_revokes_ones_own_and_an_owner_all(api, boss, viewer):
    own, foreign = made(api), made(Api().signed_in(viewer))
    assert [row["id"] for row in api.get("tokens").json()["data"]] == [own["id"]]
    for method in ("GET", "DELETE"):
        assert api.call(method, f"tokens/{foreign['id']}").status_code == 404
    assert Api(foreign["token"]).get("tenants").status_code == 200
    assert boss.get("tokens").json()["total"] == 2
    for body in (own, foreign):
        assert boss.delete(f"tokens/{body['id']}").status_code == 204
        assert Api(body["token"]).get("tenants").status_code == 401
    assert boss.delete(f"tokens/{own['id']}").status_code == 409
    assert api.get(f"tokens/{own['id']}").json()["revoked_at"] is not None
    assert boss.get("tokens?active_only=true").json()["total"] == 0


def test_a_token_for_people_does_what_an_owner_does_about_them(boss, operator):
    program = Api(made(boss, scopes=["people"])["token"])
    assert program.get("operators").json()["total"] == 2
    assert program.get("sessions").status_code == 200
    assert program.patch(f"operators/{operator.id}", {"role": "viewer"}).status_code == 200
    assert program.get("tenants").status_code == 403


def test_a_token_of_who_is_no_owner_has_no_say_over_people(api, boss, viewer):
    program = Api(made(api, scopes=["people"])["token"])
    assert program.get("operators").status_code == 403
    assert program.get("sessions").json()["data"] == []
    assert program.get("tokens").json()["data"] == []
