"""Limits and balances in the console: typed into every form that has them, shown on every page, refused beside their fields."""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from keys.models import APIKey
from providers import model_services, services
from providers.models import Model, Provider
from tenants.clock import SYSTEM
from tenants.models import Account, AuditEvent, Limited, Project, Tenant
from tests.cast import Console
from tests.gateway.api.calls import line, log_row
from tests.gateway.console.stage import furnished
from tests.support.page import Page
from usage.models import Balance, Credit

# Pages and their forms.
pytestmark = pytest.mark.sqlite

TYPED = {
    "rate_limit_rpm": "60",
    "daily_limit": "5000",
    "max_concurrency": "8",
    "burst": "20",
    "rate_limits": "10/s\r\n500/h",
    "rate_limit_tpm": "90000",
    "tokens_budget_day": "1000000",
    "tokens_budget": "20000000",
    "tokens_budget_total": "1000000000000",
    "cost_budget_day_usd": "2.50",
    "cost_budget_usd": "50",
    "cost_budget_total_usd": "600",
    "clamp_to_budget": "on",
}
STORED = {
    "rate_limit_rpm": 60,
    "daily_limit": 5000,
    "max_concurrency": 8,
    "burst": 20,
    "rate_limits": ["10/s", "500/h"],
    "rate_limit_tpm": 90_000,
    "tokens_budget_day": 10**6,
    "tokens_budget": 2 * 10**7,
    "tokens_budget_total": 10**12,
    "cost_budget_day_nano": 2_500_000_000,
    "cost_budget_nano": 50 * 10**9,
    "cost_budget_total_nano": 600 * 10**9,
    "clamp_to_budget": True,
}
WRONG = {
    "rate_limit_rpm": ("0", "Requests a minute must be between 1 and 1000000."),
    "daily_limit": ("1.5", "Requests a day must be a positive integer"),
    "max_concurrency": ("1000001", "Calls at once must be between 1 and 1000000."),
    "burst": ("-1", "Burst must be a positive integer"),
    "rate_limits": ("60/min", "Further windows each must be a text like"),
    "rate_limit_tpm": ("many", "Tokens a minute must be a positive integer"),
    "tokens_budget": ("1000000000001", "Tokens a month must be between 1 and 1000000000000."),
    "cost_budget_usd": ("0", "USD a month must be more than 0 USD"),
    "cost_budget_day_usd": ("1,50", "USD a day An amount is digits with at most nine decimals"),
    "cost_budget_total_usd": ("-5", "USD in all An amount here cannot be negative."),
}


@dataclass(frozen=True)
class Place:
    slug: str
    rows: type[Limited]
    id: UUID

    @property
    def edit(self) -> str:
        return f"{self.slug}/{self.id}/edit/"

    def row(self) -> Any:
        return self.rows._default_manager.get(pk=self.id)


@pytest.fixture
def places(staging, tenant) -> list[Place]:
    stage = furnished(staging, tenant)
    provider = services.create_provider(actor=staging, name="main", kind="openai")
    model = model_services.create_model(actor=staging, id="gpt-5")
    return [
        Place("tenants", Tenant, stage.tenants),
        Place("projects", Project, stage.projects),
        Place("accounts", Account, stage.accounts),
        Place("keys", APIKey, stage.keys),
        Place("providers", Provider, provider.id),
        Place("models", Model, model.id),
    ]


@pytest.fixture
def account(places: list[Place]) -> Place:
    return _in(places, "accounts")


def _in(places: list[Place], slug: str) -> Place:
    return next(place for place in places if place.slug == slug)


def text_of(answer: Any) -> str:
    page = Page(answer.content.decode())
    assert page.faults == []
    return " ".join(" ".join(page.texts).split())


def test_every_limit_can_be_typed_into_every_form_and_comes_back_as_it_was(console, places):
    for place in places:
        assert console.submit(place.edit, TYPED).status_code == 302, place.slug
        row = place.row()
        assert {name: getattr(row, name) for name in STORED} == STORED, place.slug
        drawn = console.form(place.edit)
        assert drawn["cost_budget_day_usd"] == "2.5"
        assert {name: drawn[name].split() for name in TYPED} == {
            name: text.split() for name, text in (TYPED | {"cost_budget_day_usd": "2.5"}).items()
        }
        before = AuditEvent.objects.count()
        assert console.submit(place.edit).status_code == 302
        assert AuditEvent.objects.count() == before, f"{place.slug}: nothing was changed"
        emptied = {name: "" for name in TYPED if name != "clamp_to_budget"}
        console.post(place.edit, {**_unticked(console.form(place.edit)), **emptied})
        row = place.row()
        assert {getattr(row, name) for name in STORED} == {None, False}, place.slug


def _unticked(drawn: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in drawn.items() if name != "clamp_to_budget"}


def test_a_limit_that_cannot_be_is_told_beside_its_field_and_nothing_typed_is_lost(console, places):
    # What a form cannot read, it says itself; what it can read, the service judges.
    unreadable = {"daily_limit", "burst", "rate_limit_tpm"}
    for place in places:
        for names in (unreadable, WRONG.keys() - unreadable):
            typed = {name: WRONG[name][0] for name in names} | {"tokens_budget_day": "77"}
            answer = console.submit(place.edit, typed)
            assert answer.status_code == 400, place.slug
            html, text = answer.content.decode(), text_of(answer)
            drawn = Page(html).forms[-1]
            assert {name: drawn[name].strip() for name in typed} == typed
            for name in names:
                assert WRONG[name][1] in text, (place.slug, text)
                assert f'id="id_{name}-error"' in html
        assert place.row().tokens_budget_day is None


def test_a_page_shows_its_limits_in_words_and_its_budgets_as_bars(console, places):
    month = f"month:{SYSTEM.now():%Y-%m}"
    for place in places:
        assert "none of its own" in text_of(console.get(f"{place.slug}/{place.id}/"))
        console.submit(place.edit, TYPED)
        kind = place.slug.removesuffix("s")
        Balance.objects.create(
            level_kind=kind,
            level_id=place.id,
            unit="nano_usd",
            window=month,
            spent=42_000_000_001,
            held=2_000_000_000,
            ceiling=50 * 10**9,
        )
        answer = console.get(f"{place.slug}/{place.id}/")
        text = text_of(answer)
        for part in (
            "Requests a minute 60",
            "Further windows 10/s, 500/h",
            "Requests a day 5,000",
            "Calls at once 8",
            "Tokens a minute 90,000",
            "$42.000000001 of $50, $2 set aside 84 %",
            "USD a day begins anew",
            "$0 of $2.5 0 %",
            "Tokens in all never begins anew 0 of 1,000,000,000,000 0 %",
            "answers are shortened to what is left",
        ):
            assert part in text, (place.slug, part, text)
        html = answer.content.decode()
        assert re.search(r'hr-warn".*?hr-spent" width="84.0".*?hr-held" x="84.0" width="4.0"', html)
        assert "style=" not in html


def test_a_budget_that_was_passed_fills_its_bar_and_no_more(console, places):
    key = _in(places, "keys")
    console.submit(key.edit, {"tokens_budget_total": "100"})
    Balance.objects.create(
        level_kind="key", level_id=key.id, unit="tokens", window="total", spent=130, ceiling=130
    )
    html = console.get(f"keys/{key.id}/").content.decode()
    assert "130 %" in html
    assert re.search(r'hr-bad".*?hr-spent" width="100.0"', html)


def test_a_budget_that_nobody_has_drawn_on_yet_begins_with_what_was_used_before(console, places):
    row = log_row(cost_nano_usd=3_000_000_000, provider_id=_in(places, "providers").id)
    line(row, 1, model_id=_in(places, "models").id, day=SYSTEM.now().date())
    for slug in ("models", "providers"):
        place = _in(places, slug)
        console.submit(place.edit, {"cost_budget_day_usd": "4"})
        assert "$3 of $4 75 %" in text_of(console.get(f"{slug}/{place.id}/"))


def test_a_key_with_every_limit_is_shown_in_a_bounded_number_of_queries(console, places):
    for place in places:
        console.submit(place.edit, TYPED)
        with CaptureQueriesContext(connection) as queries:
            console.get(f"{place.slug}/{place.id}/")
        assert len(queries) < 30, place.slug


# --- balances ---


def test_an_account_is_topped_up_on_a_page_that_asks_and_shows_every_entry(console, account):
    page = f"accounts/{account.id}/"
    assert "Its balance is empty" in text_of(console.get(page))
    assert "Balance $0" in text_of(console.get(f"{page}top-up/"))
    drawn = console.form(f"{page}top-up/")
    for _ in range(2):
        console.post(f"{page}top-up/", {**drawn, "amount_usd": "25.000000001", "note": "invoice 7"})
    assert Credit.objects.count() == 1, "a form that is sent twice pays once"
    console.submit(f"{page}top-up/", {"amount_usd": "10", "note": ""})
    text = text_of(console.get(page))
    for part in (
        "The balance is $35.000000001 now.",
        "Balance $35.000000001",
        "Paid in $35.000000001",
        "$25.000000001 the-operator invoice 7",
    ):
        assert part in text, text
    assert "$35.000000001" in text_of(console.get("accounts/"))
    row = AuditEvent.objects.filter(action="account.topped_up").latest("seq")
    assert (row.target_id, row.details["amount_usd"]) == (str(account.id), "10")


@pytest.mark.parametrize("amount", ["", "0", "-1", "1e3", "0.0000000001", "10000000000"])
def test_what_is_no_amount_pays_nothing_in(console, account, amount):
    answer = console.submit(f"accounts/{account.id}/top-up/", {"amount_usd": amount, "note": "n"})
    assert answer.status_code == 400
    assert Page(answer.content.decode()).forms[-1]["amount_usd"] == amount
    assert 'id="id_amount_usd-error"' in answer.content.decode()
    assert not Credit.objects.exists()


# --- set a price ---


def test_a_call_that_was_refused_for_want_of_a_price_leads_to_the_form_that_sets_one(
    console, viewer, staging, tenant, outsider
):
    model_services.create_model(actor=staging, id="free/*")
    shared = model_services.create_model(actor=staging, id="free/m*")
    theirs = model_services.create_model(actor=staging, id="free/mine", tenant_id=outsider.id)
    row = log_row(tenant_id=tenant.id, model="free/mine", status=400, error_code="model_not_priced")
    page = f"requests/{row.request_id}/"
    leads = f"/console/models/{shared.id}/add-price/"
    assert leads in Page(console.get(page).content.decode()).links
    assert console.get(leads).status_code == 200
    assert leads not in Page(Console().signed_in(viewer).get(page).content.decode()).links
    own = model_services.create_model(actor=staging, id="free*", tenant_id=tenant.id)
    links = Page(console.get(page).content.decode()).links
    assert f"/console/models/{own.id}/add-price/" in links
    assert f"/console/models/{theirs.id}/add-price/" not in links
    assert (
        f"/console/models/{own.id}/add-price/"
        in Page(console.get(f"models/{own.id}/").content.decode()).links
    )
