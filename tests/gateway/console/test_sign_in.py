"""Signing in to the console and out of it, sessions and their ends, and one's own password."""

from datetime import timedelta

import pytest
import time_machine

from tenants import operator_services, tries
from tenants.clock import SYSTEM
from tenants.models import AuditEvent, Session, Tenant, User
from tests.cast import PASSWORD, Api, Console
from tests.support.page import Page

NEW = "another lamp in a window"


def sessions(user: User) -> int:
    return user.sessions.filter(ended_at__isnull=True).count()


def newest() -> AuditEvent:
    return AuditEvent.objects.filter(scope="platform").latest("seq")


def is_open(browser: Console) -> bool:
    return browser.get("keys/").status_code == 200


def test_a_stranger_is_led_to_the_sign_in_page_and_from_there_to_what_they_wanted(operator):
    stranger = Console()
    answer = stranger.get("tenants/?q=x")
    assert (answer.status_code, answer.headers["location"]) == (
        302,
        "/console/sign-in/?next=/console/tenants/%3Fq%3Dx",
    )
    answer = stranger.submit(
        answer.headers["location"], {"username": operator.username, "password": PASSWORD}
    )
    assert answer.headers["location"] == "/console/tenants/?q=x"
    assert is_open(stranger)


def test_signing_in_is_audited_with_its_source_and_makes_a_session(operator):
    Console().signed_in(operator)
    row = newest()
    assert (row.action, row.outcome, row.source) == ("operator.sign_in", "ok", "console")
    assert (row.actor_id, row.address) == (str(operator.id), "127.0.0.1")
    assert sessions(operator) == 1


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("the-operator", "hunter2-hunter2"),
        ("nobody", PASSWORD),
        ("the-operator\0", PASSWORD),
        ("", ""),
        ("x" * 1025, "hunter2-hunter2"),
    ],
)
def test_wrong_credentials_open_nothing_and_are_never_told_apart(operator, username, password):
    browser = Console()
    answer = browser.submit("sign-in/", {"username": username, "password": password})
    assert answer.status_code == 400
    assert not is_open(browser)
    assert password not in answer.content.decode() or not password
    assert Session.objects.count() == 0


def test_a_wrong_password_and_an_unknown_name_get_the_same_page(operator):
    pages = []
    for name in (operator.username, "nobody-at-all"):
        answer = Console().submit("sign-in/", {"username": name, "password": "wrong"})
        pages.append([text for text in Page(answer.content.decode()).texts if text.strip()])
        assert newest().outcome == "refused"
        assert newest().source == "console"
    assert pages[0] == pages[1]
    assert "The user name or the password is wrong." in " ".join(pages[0])


@pytest.mark.parametrize("role", ["disabled", "nobody"])
def test_who_is_disabled_or_no_staff_does_not_come_in(operator, role):
    User.objects.filter(pk=operator.pk).update(
        **({"is_active": False} if role == "disabled" else {"role": ""})
    )
    answer = Console().submit("sign-in/", {"username": operator.username, "password": PASSWORD})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "onwards",
    [
        "https://evil.example/",
        "//evil.example/console/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/v1/admin/keys",
        "/console/../v1",
        "",
    ],
)
def test_nobody_is_sent_elsewhere_after_signing_in(operator, onwards):
    answer = Console().submit(
        "sign-in/", {"username": operator.username, "password": PASSWORD, "next": onwards}
    )
    assert answer.status_code == 302
    assert answer.headers["location"] == "/console/"


def test_signing_out_ends_the_session_and_what_was_open_is_closed(console, operator):
    copied = Console()
    copied.client.cookies.update(console.client.cookies)
    assert is_open(copied)
    token = console.form("keys/new/?tenant=default")["csrfmiddlewaretoken"]
    answer = console.post("sign-out/", {"csrfmiddlewaretoken": token})
    assert answer.headers["location"] == "/console/sign-in/?left"
    assert (newest().action, newest().source) == ("operator.sign_out", "console")
    assert not is_open(console)
    assert not is_open(copied)
    assert sessions(operator) == 0


def test_signing_in_as_somebody_else_ends_the_session_before(console, operator, viewer):
    drawn = {**console.form("password/"), "username": viewer.username, "password": PASSWORD}
    assert console.post("sign-in/", drawn).status_code == 302
    assert (sessions(operator), sessions(viewer)) == (0, 1)
    assert console.get("tenants/new/").status_code == 403


def test_who_sends_a_form_after_the_end_of_the_session_is_told_that_nothing_was_done(
    console, operator
):
    filled = {**console.form("tenants/new/"), "name": "Acme", "slug": "acme"}
    operator.sessions.update(ended_at=SYSTEM.now())
    answer = console.post("tenants/new/", filled)
    assert answer.headers["location"].startswith(
        "/console/sign-in/?next=%2Fconsole%2Ftenants%2Fnew%2F"
    )
    said = Page(console.get(answer.headers["location"]).content.decode()).texts
    assert "Your session had ended. What you sent was not carried out." in said
    assert not Tenant.objects.filter(slug="acme").exists()


def test_signing_out_is_a_form_and_no_link(console):
    assert console.get("sign-out/").status_code == 405
    assert is_open(console)


def test_the_cookie_is_opaque_and_only_its_hash_is_kept(console):
    value = console.client.cookies["gatehouse_session"].value
    row = Session.objects.get()
    assert len(value) == 43
    stored = bytes(row.cookie_hash or b"").hex()
    for kept in (str(row.id), str(row.user_id), stored, str(row.data)):
        assert kept not in value
        assert value not in kept


@pytest.mark.parametrize("value", ["", "x", "é" * 43, "0" * 43, "x" * 5000, "' OR 1=1 --"])
def test_a_made_up_cookie_opens_nothing(db, value):
    browser = Console()
    browser.client.cookies["gatehouse_session"] = value
    assert not is_open(browser)


def test_nobody_has_a_session_before_signing_in_so_none_can_be_fixed_in_advance(operator):
    browser = Console()
    browser.client.cookies["gatehouse_session"] = "a" * 43
    browser.submit("sign-in/", {"username": operator.username, "password": PASSWORD})
    assert browser.client.cookies["gatehouse_session"].value != "a" * 43
    fixed = Console()
    fixed.client.cookies["gatehouse_session"] = "a" * 43
    assert not is_open(fixed)


def test_a_session_ends_when_nobody_uses_it_and_lives_on_while_somebody_does(console):
    start = SYSTEM.now()
    with time_machine.travel(start, tick=False) as clock:
        for _ in range(4):
            clock.shift(timedelta(minutes=50))
            assert is_open(console)
        clock.shift(timedelta(minutes=61))
        assert not is_open(console)


def test_a_session_ends_after_eight_hours_however_busy(console):
    start = SYSTEM.now()
    with time_machine.travel(start, tick=False) as clock:
        for _ in range(9):
            clock.shift(timedelta(minutes=50))
            assert is_open(console)
        clock.shift(timedelta(minutes=31))
        assert not is_open(console)


@pytest.mark.parametrize("how", ["disabled", "demoted", "reset", "ended"])
def test_what_ends_an_operator_ends_their_open_pages(console, operator, owner, staging, how):
    match how:
        case "disabled":
            operator_services.disable_operator(actor=staging, username=operator.username)
        case "demoted":
            User.objects.filter(pk=operator.pk).update(role="")
        case "reset":
            operator_services.reset_password(
                actor=staging, username=operator.username, password=NEW
            )
        case "ended":
            Session.objects.filter(user=operator).update(ended_at=SYSTEM.now())
    assert not is_open(console)


def test_a_session_of_the_console_is_no_token_and_a_token_no_session(console, api, operator):
    cookie = console.client.cookies["gatehouse_session"].value
    assert Api(cookie).get("tenants").status_code == 401
    browser = Console()
    browser.client.cookies["gatehouse_session"] = api.token
    assert not is_open(browser)


# --- passwords ---


def change(browser: Console, current: str, new: str, again: str | None = None):
    values = {"current_password": current, "new_password": new, "again": again or new}
    return browser.submit("password/", values)


def test_a_new_password_ends_the_other_sessions_and_renews_this_ones_cookie(console, operator, api):
    other = Console().signed_in(operator)
    old = console.client.cookies["gatehouse_session"].value
    assert change(console, PASSWORD, NEW).status_code == 302
    assert is_open(console)
    assert not is_open(other)
    assert api.get("tenants").status_code == 401
    copied = Console()
    copied.client.cookies["gatehouse_session"] = old
    assert not is_open(copied)
    Console().signed_in(operator, NEW)


@pytest.mark.parametrize(
    ("current", "new", "again", "sentence"),
    [
        ("wrong", NEW, NEW, "The current password is wrong."),
        (PASSWORD, NEW, NEW + "x", "Differs from the one above."),
        (PASSWORD, "hunter2", "hunter2", "This password is too short."),
        (PASSWORD, PASSWORD, PASSWORD, "Must differ from the current one."),
    ],
)
def test_a_password_that_cannot_be_is_refused_beside_its_field(
    console, current, new, again, sentence
):
    answer = change(console, current, new, again)
    assert answer.status_code == 400
    assert sentence in answer.content.decode()
    assert new not in answer.content.decode()
    Console().signed_in(User.objects.get(username="the-operator"))


def test_while_a_new_password_is_due_nothing_else_is_reachable(operator):
    User.objects.filter(pk=operator.pk).update(must_change_password=True)
    browser = Console()
    answer = browser.submit("sign-in/", {"username": operator.username, "password": PASSWORD})
    assert answer.headers["location"] == "/console/password/"
    for path in ("", "keys/", "tenants/new/", "search/?q=x", "nothing/"):
        assert browser.get(path).headers["location"] == "/console/password/", path
    answer = browser.post("tenants/new/", {**browser.form("password/"), "name": "x"})
    assert answer.headers["location"] == "/console/password/"
    assert change(browser, PASSWORD, NEW).headers["location"] == "/console/"
    assert is_open(browser)


def test_who_must_change_the_password_may_also_leave(operator):
    User.objects.filter(pk=operator.pk).update(must_change_password=True)
    browser = Console().signed_in(operator)
    token = browser.form("password/")["csrfmiddlewaretoken"]
    browser.post("sign-out/", {"csrfmiddlewaretoken": token})
    assert sessions(operator) == 0


def test_who_guesses_is_asked_to_wait(operator):
    for _ in range(tries.WRONG_TRIES):
        wrong = {"username": operator.username, "password": "wrong"}
        assert Console().submit("sign-in/", wrong).status_code == 400
    browser = Console()
    answer = browser.submit("sign-in/", {"username": operator.username, "password": PASSWORD})
    assert answer.status_code == 429
    assert "Wait a minute" in answer.content.decode()
    assert not is_open(browser)
