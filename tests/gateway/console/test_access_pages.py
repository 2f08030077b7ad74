"""Tenants, projects, accounts and keys in the console: what pages show, what forms do, and that it all goes through services."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from keys.models import APIKey
from keys.services import issue_key, revoke_key, rotate_key, update_key
from tenants.account_services import create_account
from tenants.clock import SYSTEM
from tenants.models import Account, AuditEvent, Project, Tenant
from tenants.project_services import create_project
from tenants.services import create_tenant
from tests.cast import Console
from tests.support.page import Page
from usage.models import Rollup

MAX_QUERIES = 6
MARK = 'aria-label="The secret">'


def newest() -> AuditEvent:
    return AuditEvent.objects.latest("created_at")


def shown(console: Console, path: str) -> str:
    answer = console.get(path)
    assert answer.status_code == 200, answer.content
    page = Page(answer.content.decode())
    assert page.faults == []
    return " ".join(" ".join(page.texts).split())


def names_in(console: Console, path: str) -> set[str]:
    page = Page(console.get(path).content.decode())
    return {text for text in page.texts if text in {"one", "two", "three", "four", "five"}}


# --- tenants ---


def test_a_tenant_is_made_shown_and_edited(console):
    answer = console.submit(
        "tenants/new/",
        {
            "name": "Kestrel Logistics",
            "slug": "",
            "rate_limit_rpm": "900",
            "max_concurrency": "",
            "allowed_models": "gpt-*\r\n\r\nclaude-4, demo/echo",
            "allowed_addresses": "10.60.0.0/16",
        },
    )
    tenant = Tenant.objects.get(slug="kestrel-logistics")
    assert answer.headers["location"] == f"/console/tenants/{tenant.id}/"
    assert (tenant.rate_limit_rpm, tenant.max_concurrency) == (900, None)
    assert tenant.allowed_models == ["gpt-*", "claude-4", "demo/echo"]
    row = newest()
    assert (row.action, row.source, row.outcome) == ("tenant.created", "console", "ok")
    text = shown(console, f"tenants/{tenant.id}/")
    for part in ("Kestrel Logistics", "kestrel-logistics", "Active", "Requests a minute 900"):
        assert part in text

    edited = console.submit(f"tenants/{tenant.id}/edit/", {"name": "Kestrel", "allowed_models": ""})
    assert edited.status_code == 302
    tenant.refresh_from_db()
    assert (tenant.name, tenant.allowed_models, tenant.rate_limit_rpm) == ("Kestrel", None, 900)
    assert set(newest().details) == {"name", "allowed_models"}, "only what was changed"
    assert "Saved." in shown(console, f"tenants/{tenant.id}/")
    assert "Saved." not in shown(console, f"tenants/{tenant.id}/"), "said once"


def test_an_edit_of_nothing_changes_nothing(console, tenant):
    before = AuditEvent.objects.count()
    assert console.submit(f"tenants/{tenant.id}/edit/").status_code == 302
    assert AuditEvent.objects.count() == before


@pytest.mark.parametrize(
    ("field", "value", "status", "sentence"),
    [
        ("name", "", 400, "Name must not be empty."),
        ("name", "x" * 129, 400, "Name Ensure this value has at most 128 characters"),
        ("name", "a\u202eb", 400, "Name must not contain control or direction characters."),
        ("slug", "No Slug", 400, "Slug must be 1 to 64 of a-z, 0-9 and inner hyphens."),
        ("slug", "acme", 409, "Slug is taken."),
        ("rate_limit_rpm", "0", 400, "Requests a minute must be between 1 and 1000000."),
        ("rate_limit_rpm", "1.5", 400, "Requests a minute must be a positive integer"),
        ("rate_limit_rpm", "-1", 400, "Requests a minute must be a positive integer"),
        ("rate_limit_rpm", "٣", 400, "Requests a minute must be a positive integer"),
        ("rate_limit_rpm", "9" * 40, 400, "Requests a minute must be a positive integer"),
        ("allowed_models", "a b", 400, "Allowed models each must be 1 to 128 characters"),
        ("allowed_models", "\n".join("x" * n for n in range(1, 66)), 400, "1 to 64 model names"),
        ("allowed_addresses", "10.0.0.0/99", 400, "Allowed addresses each must be an IP address"),
        ("content_retention_days", "", 400, "Days they are kept must be a number of days."),
    ],
)
def test_a_tenant_that_cannot_be_is_refused_beside_its_field_and_nothing_typed_is_lost(
    console, tenant, field, value, status, sentence
):
    typed = {"name": "Typed Name", "allowed_addresses": "192.0.2.1", field: value}
    answer = console.submit("tenants/new/", typed)
    assert answer.status_code == status
    html = answer.content.decode()
    page = Page(html)
    assert page.faults == []
    assert sentence in " ".join(" ".join(page.texts).split())
    for name, text in typed.items():
        assert page.forms[-1][name].split() == text.split(), name
    assert Tenant.objects.exclude(slug__in=["default", "acme"]).count() == 0
    assert f'id="id_{field}-error"' in html
    described = [part.split('"')[0].split() for part in html.split('aria-describedby="')[1:]]
    assert any(f"id_{field}-error" in ids for ids in described)
    assert html.count('aria-invalid="true"') == 1


def test_a_name_that_gives_no_slug_asks_for_one(console):
    answer = console.submit("tenants/new/", {"name": "日本"})
    assert answer.status_code == 400
    assert "cannot be made from this name; give one." in answer.content.decode()
    assert console.submit("tenants/new/", {"name": "日本", "slug": "nihon"}).status_code == 302


def test_a_tenant_is_deactivated_and_activated_on_a_page_that_asks(console, tenant, key):
    page = f"tenants/{tenant.id}/deactivate/"
    text = shown(console, page)
    for part in ("Deactivate Acme?", "Live keys 1", "Calls, 24 h 0", "Every key of it answers 401"):
        assert part in text
    assert Tenant.objects.get(pk=tenant.id).status == "active"
    answer = console.submit(page, {"reason": "unpaid bills"})
    assert answer.headers["location"] == f"/console/tenants/{tenant.id}/"
    assert Tenant.objects.get(pk=tenant.id).status == "inactive"
    assert (newest().action, newest().details["reason"]) == ("tenant.suspended", "unpaid bills")
    assert "Deactivated" in shown(console, f"tenants/{tenant.id}/")
    assert "It is not active." in shown(console, page), "information, not an error"
    assert "Tenant off" in shown(console, "keys/")
    assert console.submit(f"tenants/{tenant.id}/activate/", {"reason": ""}).status_code == 302
    assert Tenant.objects.get(pk=tenant.id).status == "active"


def test_a_tenant_is_ended_only_by_who_types_its_slug(console, tenant, key):
    page = f"tenants/{tenant.id}/delete/"
    for typed in ("", "Acme", "acm"):
        assert console.submit(page, {"typed": typed}).status_code == 400
    assert Tenant.objects.filter(pk=tenant.id).exists()
    assert console.submit(page, {"typed": "acme"}).headers["location"] == "/console/tenants/"
    assert not Tenant.objects.filter(pk=tenant.id).exists()
    assert newest().action == "tenant.deleted"


def test_tenants_are_found_by_name_slug_and_status(console, staging, tenant):
    create_tenant(actor=staging, name="two", slug="second")
    create_tenant(actor=staging, name="one", slug="first-of-all", status="inactive")
    assert names_in(console, "tenants/") == {"one", "two"}
    assert names_in(console, "tenants/?q=FIRST") == {"one"}
    assert names_in(console, "tenants/?status=active") == {"two"}
    assert names_in(console, "tenants/?q=nothing-like-it") == set()
    assert "No tenant matches" in shown(console, "tenants/?q=nothing-like-it")


# --- projects and accounts ---


def test_a_new_thing_of_a_tenant_begins_with_whose_it_is(console, tenant, outsider):
    for slug in ("projects", "accounts", "keys"):
        page = Page(console.get(f"{slug}/new/?name=given").content.decode())
        assert page.faults == []
        assert set(page.forms[-1]) == {"name", "tenant"}
        assert console.get(f"{slug}/new/?tenant=nobody").status_code == 404


def test_a_project_is_made_renamed_and_deleted_and_its_keys_stay(console, tenant, staging):
    assert console.submit("projects/new/?tenant=acme", {"name": "Drafting"}).status_code == 302
    project = Project.objects.get(name="Drafting", tenant=tenant)
    issued = issue_key(actor=staging, tenant_id=tenant.id, name="k", project=str(project.id))
    taken = console.submit("projects/new/?tenant=acme", {"name": "DRAFTING"})
    assert taken.status_code == 409
    assert "is taken in this tenant." in taken.content.decode()
    console.submit(f"projects/{project.id}/edit/", {"name": "Writing"})
    assert "Writing" in shown(console, f"projects/{project.id}/")
    assert newest().action == "project.updated"
    answer = console.submit(f"projects/{project.id}/delete/")
    assert answer.headers["location"] == "/console/projects/"
    assert newest().action == "project.deleted"
    assert APIKey.objects.get(pk=issued.key.id).project is None


def test_an_account_is_made_turned_off_and_hidden_but_not_lost(console, tenant):
    made = {"username": "sam", "email": "sam@example.com", "organization": "Acme"}
    assert console.submit("accounts/new/?tenant=acme", made).status_code == 302
    account = Account.objects.get(username="sam")
    assert (account.email, account.is_active) == ("sam@example.com", True)
    edit = f"accounts/{account.id}/edit/"
    wrong = console.submit(edit, {"email": "not an address"})
    assert wrong.status_code == 400
    assert "must be an e-mail address." in wrong.content.decode()
    drawn = console.form(edit)
    drawn.pop("is_active")
    assert console.post(edit, drawn).status_code == 302
    assert not Account.objects.get(pk=account.id).is_active
    assert console.submit(f"accounts/{account.id}/delete/").status_code == 302
    assert newest().action == "account.deleted"
    assert Account.objects.get(pk=account.id).deleted_at is not None
    assert console.get(f"accounts/{account.id}/").status_code == 404
    assert "sam" not in shown(console, "accounts/").split()
    again = console.submit("accounts/new/?tenant=acme", made)
    assert again.status_code == 409, "its name stays taken"


# --- keys ---


def make(console: Console, **values: Any) -> str:
    """The secret of a key that the form made."""
    answer = console.submit("keys/new/?tenant=acme", {"name": "ci-runner", **values})
    assert answer.status_code == 200, answer.content
    return answer.content.decode().split(MARK)[1].split("<")[0]


def test_a_key_is_made_with_what_the_form_said_and_shown_once_with_a_curl_line(console, tenant):
    console.submit("projects/new/?tenant=acme", {"name": "Drafting"})
    project = Project.objects.get()
    answer = console.submit(
        "keys/new/?tenant=acme",
        {
            "name": "ci-runner",
            "team": "platform",
            "project": str(project.id),
            "allowed_models": "demo/*",
            "allowed_capabilities": ["chat"],
            "rate_limit_rpm": "60",
            "scopes": ["inference"],
            "allowed_addresses": "10.0.0.0/8",
        },
    )
    key = APIKey.objects.get(name="ci-runner")
    secret = answer.content.decode().split(MARK)[1].split("<")[0]
    assert len(secret) == 53
    assert (key.team, key.project, key.rate_limit_rpm) == ("platform", project, 60)
    assert (key.scopes, key.allowed_models) == (["inference"], ["demo/*"])
    assert key.allowed_capabilities == ["chat"]
    assert key.created_by_label == "the-operator"
    assert key.expires_at is not None
    assert abs(key.expires_at - SYSTEM.now() - timedelta(days=90)) < timedelta(minutes=5)
    page = Page(answer.content.decode())
    assert page.faults == []
    code = next(text for text in page.texts if text.startswith("curl "))
    assert f"Authorization: Bearer {secret}" in code
    assert (newest().action, newest().source) == ("key.issued", "console")


def test_a_key_without_an_end_has_to_be_meant(console, tenant):
    refused = console.submit("keys/new/?tenant=acme", {"name": "k", "expires": "never"})
    assert refused.status_code == 400
    assert APIKey.objects.count() == 0
    assert make(console, expires="never", endless="on")
    assert APIKey.objects.get().expires_at is None


def test_the_form_of_a_new_key_can_be_filled_in_by_its_address(console, tenant):
    drawn = console.form("keys/new/?tenant=acme&name=given&allowed_models=demo/echo")
    assert (drawn["name"], drawn["allowed_models"].strip()) == ("given", "demo/echo")
    assert drawn["expires"] == "90"


def test_another_tenants_project_is_not_offered_and_not_taken(console, tenant, outsider, staging):
    other = create_project(actor=staging, tenant_id=outsider.id, name="theirs")
    assert str(other.id) not in console.get("keys/new/?tenant=acme").content.decode()
    answer = console.submit("keys/new/?tenant=acme", {"name": "k", "project": str(other.id)})
    assert answer.status_code == 400
    assert APIKey.objects.count() == 0


def test_a_key_is_edited_paused_and_resumed(console, key):
    page = f"keys/{key.key.id}"
    edit = {"name": "renamed", "rate_limit_rpm": "5", "expires_at": "2099-01-31T12:00"}
    assert console.submit(f"{page}/edit/", edit).status_code == 302
    stored = APIKey.objects.get(pk=key.key.id)
    assert (stored.name, stored.rate_limit_rpm) == ("renamed", 5)
    assert f"{stored.expires_at:%Y-%m-%d %H:%M}" == "2099-01-31 12:00"
    assert set(newest().details) == {"name", "rate_limit_rpm", "expires_at"}
    assert console.submit(f"{page}/pause/").status_code == 302
    assert (newest().action, APIKey.objects.get(pk=key.key.id).is_active) == ("key.paused", False)
    assert "Paused" in shown(console, f"{page}/")
    assert "It is paused." in shown(console, f"{page}/pause/")
    assert console.submit(f"{page}/resume/").status_code == 302
    assert (newest().action, APIKey.objects.get(pk=key.key.id).is_active) == ("key.resumed", True)


def test_the_page_of_a_key_tells_what_was_used_by_month(console, key):
    month = f"{SYSTEM.now():%Y-%m}"
    sums = {"requests": 1234, "tokens_in": 5000, "tokens_out": 67, "cost_nano_usd": 2_500_000_000}
    rest = dict.fromkeys(
        ("tokens_cached", "tokens_reasoning", "unpriced_requests", "estimated_requests"), 3
    )
    for when, factor in ((month, 1), ("2020-02", 2)):
        Rollup.objects.create(
            month=when,
            tenant_id=key.key.tenant_id,
            tenant="acme",
            key_id=key.key.id,
            key_prefix="gwk_x",
            model="m",
            **{name: value * factor for name, value in (sums | rest).items()},
        )
    text = shown(console, f"keys/{key.key.id}/")
    for part in (f"Calls, {month} 1,234", f"Tokens, {month} 5,067", f"Cost, {month} $2.5"):
        assert part in text
    assert "3 calls without a price" in text
    assert "2020-02 2,468 10,000 134 $5" in text


def test_rotating_asks_first_and_says_what_is_at_stake(console, key):
    text = shown(console, f"keys/{key.key.id}/rotate/")
    for part in (
        "Rotate the secret of first?",
        "Nothing has changed yet.",
        "Changes",
        "Stays",
        "Last used never",
        "Calls, 24 h 0",
        "In 24 hours",
    ):
        assert part in text
    assert console.form(f"keys/{key.key.id}/rotate/")["grace"] == "86400"


def test_the_old_secret_works_on_for_the_chosen_time(console, key):
    answer = console.submit(f"keys/{key.key.id}/rotate/", {"grace": "3600"})
    assert answer.status_code == 200
    assert newest().details == {"grace_period_seconds": 3600}
    old = APIKey.objects.get(pk=key.key.id).secrets.get(not_after__isnull=False)
    assert old.not_after is not None
    assert abs(old.not_after - SYSTEM.now() - timedelta(hours=1)) < timedelta(minutes=5)
    assert "An old secret works until" in shown(console, f"keys/{key.key.id}/")


def test_an_old_secret_that_stops_now_needs_the_typed_name(console, key):
    page = f"keys/{key.key.id}/rotate/"
    for typed in ("", "First", "firs"):
        assert console.submit(page, {"grace": "0", "typed": typed}).status_code == 400
    assert APIKey.objects.get(pk=key.key.id).secrets.count() == 1
    assert console.submit(page, {"grace": "0", "typed": "first"}).status_code == 200
    assert newest().details == {"grace_period_seconds": 0}


@pytest.mark.parametrize("grace", ["", "1", "604801", "-1", "x", "86400.5"])
def test_a_time_that_was_not_offered_is_refused(console, key, grace):
    answer = console.submit(f"keys/{key.key.id}/rotate/", {"grace": grace})
    assert answer.status_code == 400
    assert APIKey.objects.get(pk=key.key.id).secrets.count() == 1


def test_a_key_is_revoked_only_by_who_types_its_prefix(console, key):
    page = f"keys/{key.key.id}/revoke/"
    prefix = key.key.secrets.get().prefix
    assert console.submit(page, {"typed": "gwk_"}).status_code == 400
    answer = console.submit(page, {"typed": prefix, "reason": "leaked"})
    assert answer.headers["location"] == f"/console/keys/{key.key.id}/"
    stored = APIKey.objects.get(pk=key.key.id)
    assert (stored.revoked_by_label, stored.revoked_reason) == ("the-operator", "leaked")
    text = shown(console, f"keys/{key.key.id}/")
    assert "Revoked for good" in text
    assert "leaked" in text
    assert "the-operator revoked this key on" in shown(console, page)
    for late in ("rotate", "pause", "resume"):
        assert "This key is revoked" in shown(console, f"keys/{key.key.id}/{late}/")
    assert console.submit(f"keys/{key.key.id}/edit/", {"name": "x"}).status_code == 409
    assert console.submit(f"keys/{key.key.id}/delete/", {"typed": prefix}).status_code == 302
    assert not APIKey.objects.filter(pk=key.key.id).exists()


def test_a_key_of_the_configuration_file_says_so_and_can_only_be_revoked(console, tenant, staging):
    issued = issue_key(actor=staging, tenant_id=tenant.id, name="from-file", source="config")
    text = shown(console, f"keys/{issued.key.id}/")
    assert "Managed by configuration" in text
    links = Page(console.get(f"keys/{issued.key.id}/").content.decode()).links
    assert [link for link in links if link.startswith(f"/console/keys/{issued.key.id}/")] == [
        f"/console/keys/{issued.key.id}/revoke/"
    ]
    answer = console.submit(f"keys/{issued.key.id}/edit/", {"name": "x"})
    assert answer.status_code == 409
    assert "managed by the configuration file" in answer.content.decode()


def test_keys_are_found_by_state_tenant_prefix_and_name(console, tenant, outsider, staging):
    issued = {
        name: issue_key(actor=staging, tenant_id=tenant.id, name=name).key
        for name in ("one", "two", "three", "four")
    }
    issue_key(actor=staging, tenant_id=outsider.id, name="five")
    now = SYSTEM.now()
    revoke_key(actor=staging, key_id=issued["two"].id)
    update_key(actor=staging, key_id=issued["three"].id, is_active=False)
    rotate_key(actor=staging, key_id=issued["four"].id, grace_period_seconds=60)
    APIKey.objects.filter(pk=issued["four"].id).update(expires_at=now - timedelta(days=1))
    found = {
        "": {"one", "two", "three", "four", "five"},
        "?status=active": {"one", "five"},
        "?status=paused": {"three"},
        "?status=revoked": {"two"},
        "?status=expired": {"four"},
        "?status=old": {"four"},
        "?tenant=outsider": {"five"},
        f"?tenant={outsider.id}": {"five"},
        "?tenant=acme&status=active": {"one"},
        "?tenant=nobody": set(),
        f"?q={issued['one'].secrets.get().prefix}": {"one"},
        "?q=thre": {"three"},
    }
    for query, expected in found.items():
        assert names_in(console, f"keys/{query}") == expected, query


def test_a_filter_form_keeps_what_is_filtered_by_beside_it(console, tenant):
    drawn = console.form("keys/?status=active&tenant=acme&q=x")
    assert drawn == {"q": "x", "tenant": "acme", "status": "active"}


# --- lists ---


@pytest.fixture
def many(staging, tenant):
    for number in range(52):
        create_project(actor=staging, tenant_id=tenant.id, name=f"project {number:02}")
        create_account(actor=staging, tenant_id=tenant.id, username=f"account {number:02}")
        issue_key(actor=staging, tenant_id=tenant.id, name=f"key {number:02}")
    Tenant.objects.bulk_create(
        Tenant(name=f"tenant {number:02}", slug=f"t-{number}") for number in range(52)
    )


@pytest.mark.sqlite
def test_a_list_is_a_page_at_a_time_in_few_queries(console, many):
    for slug in ("tenants", "projects", "accounts", "keys"):
        console.get(f"{slug}/")
        with CaptureQueriesContext(connection) as asked:
            page = Page(console.get(f"{slug}/").content.decode())
        assert len(asked) <= MAX_QUERIES, [query["sql"] for query in asked.captured_queries]
        assert page.tags.count("tr") == 51, slug
        [older] = [link for link in page.links if "p=2" in link]
        rest = Page(console.get(f"{slug}/{older}").content.decode())
        assert 2 <= rest.tags.count("tr") - 1 <= 4, slug
        everything = Page(console.get(f"{slug}/?all=").content.decode())
        assert everything.tags.count("tr") == 51, "all at once is not to be had"
        assert console.get(f"{slug}/?p=99").status_code == 400


def test_a_list_is_sorted_by_its_heads(console, staging, tenant):
    for name in ("two", "one", "three"):
        create_project(actor=staging, tenant_id=tenant.id, name=name)
    page = console.get("projects/?o=-0").content.decode()
    order = [text for text in Page(page).texts if text in {"one", "two", "three"}]
    assert order == ["two", "three", "one"]
    assert 'aria-sort="descending"' in page


def test_an_empty_list_says_why_and_offers_the_way_out(console):
    page = console.get("keys/").content.decode()
    assert "There is no key yet" in page
    assert "/console/keys/new/" in Page(page).links


def test_one_field_finds_tenants_projects_accounts_and_keys(console, staging, tenant):
    create_project(actor=staging, tenant_id=tenant.id, name="acme writing")
    issued = issue_key(actor=staging, tenant_id=tenant.id, name="acme-ci")
    text = shown(console, "search/?q=acme")
    for part in ("Tenants", "Projects", "Keys", "acme writing", "acme-ci"):
        assert part in text
    assert "acme-ci" in shown(console, f"search/?q={issued.key.secrets.get().prefix}")
    for nothing in ("", "%00", "nothing-like-it", "x" * 3000):
        assert "acme-ci" not in shown(console, f"search/?q={nothing}")


def test_the_theme_is_chosen_by_a_form_and_kept_by_the_browser(console):
    page = console.get("keys/").content.decode()
    assert '<html lang="en" data-theme="auto">' in page
    token = console.form("password/")["csrfmiddlewaretoken"]
    values = {"csrfmiddlewaretoken": token, "theme": "dark", "next": "/console/keys/?status=active"}
    answer = console.post("theme/", values)
    assert answer.headers["location"] == "/console/keys/?status=active"
    assert '<html lang="en" data-theme="dark">' in console.get("keys/").content.decode()
    console.post("theme/", {**values, "theme": '"><script>'})
    console.client.cookies["gatehouse_theme"] = '"><script>'
    assert '<html lang="en" data-theme="auto">' in console.get("keys/").content.decode()
