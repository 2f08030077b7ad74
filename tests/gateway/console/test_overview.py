"""The first page: its numbers are the API's, and what it asks one to look at is really so."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from gateway import checks
from gateway.checks import Finding, State
from keys.services import issue_key, revoke_key
from providers import discovery, model_services, services
from providers.models import Model
from tests.gateway.api.calls import log_row
from tests.gateway.console.test_provider_pages import text_of
from tests.support.page import Page
from usage import analytics

PRICE = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}


@pytest.fixture(autouse=True)
def healthy(monkeypatch):
    """What the looks find on the machine of a test is another test's business."""
    monkeypatch.setattr(checks.WATCH, "findings", lambda looks: [])


def test_the_figures_are_those_of_the_api(console, api, tenant, outsider, staging):
    main = services.create_provider(actor=staging, name="main", kind="openai", api_key="sk-x")
    services.create_provider(actor=staging, name="off", kind="groq")
    for name in ("a", "b", "c"):
        model_services.create_model(
            actor=staging,
            id=name,
            targets=[{"provider": str(main.id), "upstream_model": name}],
            prices=[PRICE],
        )
    for number in range(5):
        issued = issue_key(actor=staging, tenant_id=tenant.id, name=f"k{number}")
    revoke_key(actor=staging, key_id=issued.key.id)
    now = datetime.now(UTC)
    for number in range(30):
        log_row(
            created_at=now - timedelta(hours=number, minutes=30),
            status=200 if number % 5 else 502,
            tokens_in=1000 + number,
            tokens_cached=number,
            cost_nano_usd=None if number % 7 == 3 else 1_234_567,
        )
    since = f"{analytics.span_of('24h', now).since:%Y-%m-%dT%H:%M:%SZ}"
    rows = api.get(f"logs?limit=200&since={since}").json()["data"]
    totals = {
        path: api.get(path).json()["total"]
        for path in ("tenants", "providers", "models", "keys", "keys?active_only=true")
    }
    page = text_of(console.get())
    errors = sum(row["status"] >= 400 for row in rows)
    cost = sum((Decimal(row["cost_usd"]) for row in rows if row["cost_usd"]), Decimal(0))
    unpriced = sum(row["cost_usd"] is None for row in rows)
    cached = sum(row["tokens_cached"] for row in rows)
    for shown in (
        f"Requests, 24 h {len(rows)} ",
        f"Errors, 24 h {errors} {100 * errors / len(rows):.2f} % of all",
        f"Tokens, 24 h {sum(row['tokens_in'] for row in rows):,} in",
        f"{sum(row['tokens_out'] for row in rows):,} out; {cached:,} of the input cached",
        f"Cost, 24 h ${cost.normalize():f} without {unpriced} calls",
        f"Tenants {totals['tenants']} ",
        f"Live keys {totals['keys?active_only=true']} of {totals['keys']}",
        f"Providers {totals['providers']} ",
        f"Models {totals['models']} ",
    ):
        assert shown in page


def test_the_last_ten_calls_are_the_newest(console):
    now = datetime.now(UTC)
    made = [log_row(created_at=now - timedelta(minutes=n)) for n in range(12)]
    links = Page(console.get().content.decode()).links
    shown = [link for link in links if link.startswith("/console/requests/") and len(link) == 55]
    assert shown == [f"/console/requests/{row.request_id}/" for row in made[:10]]


def test_what_needs_attention_is_named_and_nothing_else(console, staging, tenant):
    assert "Credentials, prices, routes and keys are as they should be" in text_of(console.get())
    bare = services.create_provider(actor=staging, name="bare", kind="openai")
    off = services.create_provider(actor=staging, name="sleeping", kind="groq", api_key="sk-x")
    model_services.create_model(
        actor=staging, id="dear", targets=[{"provider": str(off.id), "upstream_model": "dear"}]
    )
    model_services.create_model(actor=staging, id="lost", prices=[PRICE])
    services.update_provider(actor=staging, provider_id=off.id, is_active=False)
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    issue_key(actor=staging, tenant_id=tenant.id, name="ending", expires_at=soon)
    issue_key(actor=staging, tenant_id=tenant.id, name="endless")
    issue_key(actor=staging, tenant_id=tenant.id, name="bounded", rate_limit_rpm=5)
    page = text_of(console.get())
    for shown in (
        "bare has no credential",
        "sleeping is off, and models route to it",
        "1 model has no target with a provider lost",
        "1 model is served without a price dear",
        "ending expires on",
        "1 key has neither an end nor a limit endless (Acme)",
    ):
        assert shown in page
    assert "bounded" not in page
    services.update_provider(actor=staging, provider_id=bare.id, is_active=False)
    Model.objects.update(is_active=False)
    page = text_of(console.get())
    assert "bare has no credential" not in page
    assert "served without a price" not in page
    assert "and models route to it" not in page


def test_many_of_a_sort_are_one_line(console, staging):
    for number in range(7):
        model_services.create_model(actor=staging, id=f"m-{number}")
    assert "7 models are served without a price m-0, m-1, m-2 and 4 more" in text_of(console.get())


def test_first_steps_are_ticked_off_and_then_gone(console, staging, tenant):
    page = text_of(console.get())
    assert "First steps" in page
    assert page.count("To do") == 5
    made = services.create_provider(actor=staging, name="demo", kind="demo")
    assert text_of(console.get()).count("To do") == 5
    services.create_provider(actor=staging, name="main", kind="openai", api_key="sk-x")
    discovery.test_provider(actor=staging, provider_id=made.id)
    discovery.import_models(actor=staging, provider_id=made.id)
    assert text_of(console.get()).count("To do") == 2
    issue_key(actor=staging, tenant_id=tenant.id, name="k")
    log_row()
    assert "First steps" not in text_of(console.get())


def test_what_a_health_check_found_stands_at_the_top(console, monkeypatch):
    assert "Healthy." in text_of(console.get())
    found = Finding("journal", State.WARNING, "The disk of the journal is nearly full.")
    fine = Finding("redis", State.OK, "Redis answers.")
    monkeypatch.setattr(checks.WATCH, "findings", lambda looks: [found, fine])
    page = text_of(console.get())
    assert "The disk of the journal is nearly full." in page
    assert "Redis answers." not in page
    assert "Healthy." not in page
