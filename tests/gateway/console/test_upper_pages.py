"""The pages of providers, models, requests, ledger, audit and the overview, as each role sees them; no secret on any."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from providers import model_services, services
from tenants.models import AuditEvent
from tests.cast import Console
from tests.gateway.api.calls import attempt, line, log_row
from tests.support.page import Page

PLANTED = "sk-planted-in-the-console-7f3a"


@pytest.fixture
def stage(tenant, key, staging):
    """A provider with a credential, a priced model, and a call with everything that belongs to one. Places by name."""
    provider = services.create_provider(actor=staging, name="first", kind="openai", api_key=PLANTED)
    model = model_services.create_model(
        actor=staging,
        id="gpt-5",
        targets=[{"provider": str(provider.id), "upstream_model": "gpt-5"}],
        prices=[{"input_usd_per_mtok": "1.25", "output_usd_per_mtok": "10"}],
    )
    row = log_row(tenant_id=tenant.id, key_id=key.key.id, provider_id=provider.id, attempts=2)
    attempt(row, 1, outcome="upstream_status", status=503, started_at=row.created_at)
    later = row.created_at + timedelta(milliseconds=20)
    attempt(row, 2, started_at=later, duration_us=90_000)
    line(row, 1, price_id=model.prices.get().id, cost_nano_usd=212_500)
    return {
        "provider": provider.id,
        "model": model.id,
        "call": row.request_id,
        "event": AuditEvent.objects.latest("created_at").id,
    }


READ = [
    "",
    "providers/",
    "providers/{provider}/",
    "models/",
    "models/{model}/",
    "requests/",
    "requests/{call}/",
    "ledger/",
]
CHANGE = [
    "providers/new/",
    "providers/new/?kind=openai",
    "providers/new/?kind=azure",
    "providers/new/?kind=demo",
    "providers/{provider}/edit/",
    "providers/{provider}/import/",
    "providers/{provider}/rotate-credential/",
    "providers/{provider}/turn-off/",
    "providers/{provider}/turn-on/",
    "providers/{provider}/delete/",
    "models/new/",
    "models/{model}/edit/",
    "models/{model}/add-price/",
    "models/{model}/turn-off/",
    "models/{model}/turn-on/",
    "models/{model}/delete/",
]
AUDIT = ["audit/", "audit/{event}/"]
OPEN_TO = {
    "owner": READ + CHANGE + AUDIT,
    "operator": READ + CHANGE,
    "auditor": READ + AUDIT,
    "viewer": READ,
}


@pytest.mark.parametrize("role", OPEN_TO)
def test_each_role_sees_its_pages_and_no_other(request, stage, role):
    browser = Console().signed_in(request.getfixturevalue(role))
    for path in READ + CHANGE + AUDIT:
        answer = browser.get(path.format(**stage))
        html = answer.content.decode()
        allowed = path in OPEN_TO[role]
        assert answer.status_code == (200 if allowed else 403), path
        assert Page(html).faults == [], path
        assert PLANTED not in html + str(answer.headers), path
        assert "None" not in Page(html).texts, path


def test_what_a_role_may_not_see_is_not_offered_to_it(viewer, auditor, stage):
    audit, new = "/console/audit/", "/console/providers/new/"
    assert audit not in Page(Console().signed_in(viewer).get("").content.decode()).links
    assert audit in Page(Console().signed_in(auditor).get("").content.decode()).links
    listed = Console().signed_in(auditor).get("providers/").content.decode()
    assert new not in Page(listed).links


def test_nobody_who_is_not_signed_in_sees_anything(stage):
    for path in READ + CHANGE + AUDIT:
        answer = Console().get(path.format(**stage))
        assert answer.status_code == 302, path
        assert answer.headers["location"].startswith("/console/sign-in/")


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("", 16),
        ("requests/", 6),
        ("requests/{call}/", 6),
        ("ledger/", 6),
        ("audit/", 6),
        ("audit/{event}/", 6),
        ("providers/{provider}/", 6),
        ("models/{model}/", 6),
    ],
)
def test_a_page_costs_few_queries_however_much_there_is(owner, stage, path, most):
    browser = Console().signed_in(owner)
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(path.format(**stage)).status_code == 200
        counts.append(len(queries))
        for number in range(20):
            line(log_row(correlation_id=f"call-{number:04}"), 1)
    assert counts[0] == counts[1] <= most
