"""Every page as every role: who reads, who writes, and who is not let in at all."""

import pytest

from keys.models import APIKey
from tenants.models import Account, AuditEvent, Project, Tenant, User
from tests.cast import Console
from tests.gateway.console.stage import OPEN, Stage, furnished, path_of, routes
from tests.support.page import Page

#: The last part of the path of what changes something; everything else is only to be looked at.
WRITING = {
    *("new", "edit", "rotate", "pause", "resume", "revoke", "delete", "activate", "deactivate"),
    "top-up",
}
MINE = ("tenants", "projects", "accounts", "keys", "search")
PAGES = [(name, route) for name, route in routes() if name.partition("-")[0] in MINE]


@pytest.fixture
def stage(staging, tenant) -> Stage:
    return furnished(staging, tenant)


@pytest.fixture
def staff(owner, operator, auditor, viewer) -> dict[str, Console]:
    return {user.role: Console().signed_in(user) for user in (owner, operator, auditor, viewer)}


def writes(route: str) -> bool:
    return route.rstrip("/").rpartition("/")[2] in WRITING


def counts() -> list[int]:
    rows = [kind.objects.count() for kind in (Tenant, Project, Account, APIKey)]
    return [*rows, AuditEvent.objects.filter(outcome="ok").count()]


def test_there_are_as_many_pages_as_we_know():
    names = {name for name, _ in PAGES}
    assert len(names) == len(PAGES) > 25
    assert {name for name, route in PAGES if writes(route)} == {
        *(f"{slug}-{page}" for slug in MINE[:4] for page in ("new", "edit")),
        *("tenants-activate", "tenants-deactivate"),
        *(f"{slug}-delete" for slug in MINE[:4]),
        *("keys-rotate", "keys-pause", "keys-resume", "keys-revoke", "accounts-top-up"),
    }


def test_every_page_that_there_is_asks_who_is_there(db, stage):
    for name, route in routes():
        if name in OPEN:
            continue
        path = path_of(route, stage)
        for answer in (Console().get(path), Console(secure=True).get(path)):
            assert answer.status_code == 302, name
            assert answer.headers["location"].startswith("/console/sign-in/?next="), name


@pytest.mark.parametrize("role", ["owner", "operator", "auditor", "viewer"])
def test_a_role_gets_exactly_the_pages_that_are_for_it(staff, stage, role):
    before = counts()
    for name, route in PAGES:
        answer = staff[role].get(path_of(route, stage))
        allowed = role in {"owner", "operator"} or not writes(route)
        assert answer.status_code == (200 if allowed else 403), (name, answer.status_code)
        assert Page(answer.content.decode()).faults == [], name
    assert counts() == before, "looking changes nothing"


@pytest.mark.parametrize("role", ["auditor", "viewer"])
def test_a_reader_s_forms_are_refused_and_written_down(staff, stage, role):
    token = staff[role].form("password/")["csrfmiddlewaretoken"]
    operator = staff["operator"]
    before = counts()
    for name, route in PAGES:
        if not writes(route):
            continue
        path = path_of(route, stage)
        drawn = {**operator.form(path), "csrfmiddlewaretoken": token, "name": "taken over"}
        answer = staff[role].post(path, drawn)
        assert answer.status_code == 403, name
        row = AuditEvent.objects.latest("created_at")
        assert (row.action, row.outcome, row.source) == ("access.refused", "refused", "console")
        assert row.actor_label == f"the-{role}"
    assert counts() == before


@pytest.mark.parametrize("role", ["auditor", "viewer"])
def test_a_reader_sees_no_way_to_change_anything(staff, stage, role):
    for name, route in PAGES:
        if writes(route):
            continue
        for link in Page(staff[role].get(path_of(route, stage)).content.decode()).links:
            assert not writes(link.partition("?")[0]), (name, link)


def test_an_operator_sees_the_ways(console, stage):
    links = set(Page(console.get(f"keys/{stage.keys}/").content.decode()).links)
    assert {
        f"/console/keys/{stage.keys}/{page}/" for page in ("edit", "rotate", "pause", "revoke")
    } <= links
    assert f"/console/keys/{stage.keys}/resume/" not in links


def test_a_role_that_was_taken_away_meanwhile_does_nothing_any_more(console, operator, stage):
    path = f"keys/{stage.keys}/rotate/"
    drawn = console.form(path)
    User.objects.filter(pk=operator.pk).update(role="viewer")
    assert console.post(path, drawn).status_code == 403
    assert APIKey.objects.get(pk=stage.keys).secrets.count() == 1


def test_what_is_of_another_kind_is_not_found_under_this_one(console, stage):
    assert console.get(f"keys/{stage.projects}/").status_code == 404
    assert console.get(f"projects/{stage.keys}/edit/").status_code == 404
