"""Forms that were not drawn here, are sent twice, or stand for what is no more."""

from datetime import timedelta

import pytest
import time_machine

from keys.models import APIKey
from keys.services import update_key
from tenants.clock import SYSTEM
from tenants.models import AuditEvent, Session, SpentTicket, Tenant
from tests.cast import Console

NEW_KEY = {"name": "ci-runner", "expires": "90"}


def rotations(key) -> int:
    return AuditEvent.objects.filter(
        action="key.rotated", outcome="ok", target_id=str(key.key.id)
    ).count()


@pytest.fixture
def rotate(key) -> str:
    return f"keys/{key.key.id}/rotate/"


# --- whose form it is ---


@pytest.mark.parametrize("path", ["sign-in/", "sign-out/", "theme/", "password/", "tenants/new/"])
def test_a_form_without_its_token_is_refused(console, path):
    answer = console.post(path, {"name": "x", "username": "the-operator", "theme": "dark"})
    assert answer.status_code == 403
    assert "This form did not come from this page" in answer.content.decode()
    assert "gatehouse_theme" not in answer.cookies
    assert console.get("keys/").status_code == 200, "nobody was signed out"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=["another-origin", "no-origin", "cross-site", "same-site"],
)
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_form_from_another_site_is_refused_even_with_a_good_token(
    operator, key, rotate, headers, secure
):
    console = Console(secure=secure).signed_in(operator)
    answer = console.post(rotate, console.form(rotate), headers=headers)
    assert answer.status_code == 403
    assert rotations(key) == 0


def test_a_token_of_somebody_else_is_worth_nothing(console, operator, key, rotate):
    other = Console().signed_in(operator)
    token = other.form(rotate)["csrfmiddlewaretoken"]
    assert (
        console.post(rotate, {**console.form(rotate), "csrfmiddlewaretoken": token}).status_code
        == 403
    )
    assert rotations(key) == 0


@pytest.mark.parametrize(
    "fault",
    ["none", "garbage", "changed", "of-another-session", "of-another-form", "of-another-key"],
)
def test_a_ticket_that_was_not_drawn_for_this_does_nothing(
    console, operator, tenant, staging, key, rotate, fault
):
    drawn = console.form(rotate)
    good = drawn["ticket"]
    match fault:
        case "none":
            drawn["ticket"] = ""
        case "garbage":
            drawn["ticket"] = "x" * 400
        case "changed":
            drawn["ticket"] = good[:-2] + ("aa" if good[-2:] != "aa" else "bb")
        case "of-another-session":
            drawn["ticket"] = Console().signed_in(operator).form(rotate)["ticket"]
        case "of-another-form":
            drawn["ticket"] = console.form(f"keys/{key.key.id}/pause/")["ticket"]
        case "of-another-key":
            made = console.submit(f"keys/new/?tenant={tenant.slug}", NEW_KEY)
            assert made.status_code == 200
            other = APIKey.objects.get(name="ci-runner")
            drawn["ticket"] = console.form(f"keys/{other.id}/rotate/")["ticket"]
    answer = console.post(rotate, drawn)
    assert answer.status_code == 403
    assert rotations(key) == 0
    row = AuditEvent.objects.latest("created_at")
    assert (row.action, row.outcome, row.error_code) == ("key.rotated", "refused", "bad_ticket")
    assert console.submit(rotate).status_code == 200, "drawn anew it works"


# --- twice ---


def test_a_form_that_is_sent_twice_makes_one_thing(console, tenant):
    drawn = console.form("tenants/new/") | {"name": "Twice"}
    assert console.post("tenants/new/", drawn).status_code == 302
    again = console.post("tenants/new/", drawn)
    assert again.status_code == 409
    made = Tenant.objects.get(name="Twice")
    assert f"/console/tenants/{made.id}/" in again.content.decode()


def test_a_secret_is_shown_in_one_answer_and_by_no_reload_or_way_back(console, tenant):
    path = f"keys/new/?tenant={tenant.slug}"
    drawn = console.form(path) | NEW_KEY
    first = console.post(path, drawn)
    assert first.status_code == 200
    assert first.headers["Cache-Control"] == "no-store"
    page = first.content.decode()
    secret = page.split('aria-label="The secret">')[1].split("<")[0]
    assert secret.startswith("gwk_")
    made = APIKey.objects.get(name="ci-runner")
    reload = console.post(path, drawn)
    assert (reload.status_code, secret in reload.content.decode()) == (409, False)
    assert APIKey.objects.filter(name="ci-runner").count() == 1
    for back in (
        path,
        "keys/",
        f"keys/{made.id}/",
        f"keys/{made.id}/edit/",
        f"keys/{made.id}/rotate/",
    ):
        assert secret not in console.get(back).content.decode()
    for row in SpentTicket.objects.all():
        assert secret not in f"{row.nonce}{row.place}"
    assert secret not in str(list(Session.objects.values_list("data", flat=True)))
    assert secret not in str(list(AuditEvent.objects.values_list("details", flat=True)))


def test_a_rotation_that_is_sent_twice_happens_once(console, key, rotate):
    drawn = console.form(rotate)
    assert console.post(rotate, drawn).status_code == 200
    again = console.post(rotate, drawn)
    assert again.status_code == 409
    assert "carried out before" in again.content.decode()
    assert rotations(key) == 1
    row = AuditEvent.objects.latest("created_at")
    assert (row.action, row.error_code) == ("key.rotated", "already_done")


def test_a_form_that_was_refused_may_be_mended_and_sent_again(console, tenant):
    console.submit("tenants/new/", {"name": "First", "slug": "same"})
    drawn = console.form("tenants/new/") | {"name": "Second", "slug": "same"}
    assert console.post("tenants/new/", drawn).status_code == 409
    assert console.post("tenants/new/", drawn | {"slug": "other"}).status_code == 302
    assert Tenant.objects.get(name="Second").slug == "other"


def test_forms_that_were_carried_out_long_ago_are_forgotten(console, tenant):
    old = SpentTicket.objects.create(nonce="old")
    SpentTicket.objects.filter(pk=old.pk).update(created_at=SYSTEM.now() - timedelta(days=3))
    fresh = SpentTicket.objects.create(nonce="fresh")
    console.submit("tenants/new/", {"name": "Another"})
    assert set(SpentTicket.objects.exclude(place="").values_list("nonce", flat=True)).isdisjoint(
        {"old", "fresh"}
    )
    assert list(SpentTicket.objects.filter(place="")) == [fresh]


# --- from a stale tab ---


def test_a_page_drawn_for_an_earlier_version_does_nothing_and_is_drawn_anew(
    console, key, rotate, staging
):
    drawn = console.form(rotate)
    update_key(actor=staging, key_id=key.key.id, name="renamed")
    answer = console.post(rotate, drawn)
    assert answer.status_code == 409
    page = answer.content.decode()
    assert "Nothing was done" in page
    assert "Rotate the secret of renamed?" in page
    assert rotations(key) == 0
    row = AuditEvent.objects.latest("created_at")
    assert (row.action, row.outcome, row.error_code) == ("key.rotated", "refused", "stale")
    assert console.submit(rotate).status_code == 200


def test_a_second_tab_for_the_same_key_is_stale_after_the_first_rotated_it(console, key, rotate):
    first, second = console.form(rotate), console.form(rotate)
    assert console.post(rotate, first).status_code == 200
    assert console.post(rotate, second).status_code == 409
    assert rotations(key) == 1


def test_an_edit_from_a_stale_tab_keeps_what_was_typed_and_saves_nothing(console, key, staging):
    path = f"keys/{key.key.id}/edit/"
    drawn = console.form(path)
    update_key(actor=staging, key_id=key.key.id, rate_limit_rpm=7)
    answer = console.post(path, {**drawn, "name": "typed meanwhile"})
    assert answer.status_code == 409
    assert 'value="typed meanwhile"' in answer.content.decode()
    stored = APIKey.objects.get(pk=key.key.id)
    assert (stored.name, stored.rate_limit_rpm) == ("first", 7)


def test_a_key_being_used_makes_no_page_stale(console, key, rotate):
    drawn = console.form(rotate)
    APIKey.objects.filter(pk=key.key.id).update(last_used_at=SYSTEM.now())
    assert console.post(rotate, drawn).status_code == 200


def test_a_page_that_asks_is_drawn_anew_when_it_was_open_for_long(console, key, rotate):
    with time_machine.travel(SYSTEM.now(), tick=False) as clock:
        drawn = console.form(rotate)
        clock.shift(timedelta(minutes=4, seconds=50))
        good = console.form(rotate)
        clock.shift(timedelta(seconds=20))
        answer = console.post(rotate, drawn)
        assert answer.status_code == 409
        assert "open for too long" in answer.content.decode()
        assert console.post(rotate, good).status_code == 200
    assert rotations(key) == 1


def test_what_was_deleted_meanwhile_is_a_404(console, key, rotate):
    drawn = console.form(rotate)
    APIKey.objects.filter(pk=key.key.id).delete()
    assert console.post(rotate, drawn).status_code == 404
