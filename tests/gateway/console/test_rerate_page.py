"""The page on which calls are re-rated: sums first, and only what was seen is confirmed."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from providers import model_services
from providers.models import Model
from tenants.clock import SYSTEM, month_of
from tests.gateway.console.test_provider_pages import text_of
from tests.support import page
from tests.usage.samples import CALLER, attempt, intent, settlement
from usage import ledger
from usage.calls import Call
from usage.models import LedgerEntry

# On one database: a page; what it does is asked of both in usage.
pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


@pytest.fixture
def model(staging: Any) -> Model:
    return model_services.create_model(
        actor=staging, id="m", prices=[{"input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}]
    )


def called(number: int) -> None:
    """Settled two minutes ago, without a price; 15 tokens."""
    ago = int((SYSTEM.now() - timedelta(minutes=2)).timestamp() * 1_000_000)
    month = month_of(ago)
    begun = msgspec.structs.replace(intent(number, caller=CALLER, at=ago), month=month)
    tried = msgspec.structs.replace(attempt(number), month=month)
    ended = msgspec.structs.replace(settlement(number, cost=None), month=month, settled_at=ago)
    ledger.apply([Call(begun, (tried,), ended)])


def test_the_sums_are_shown_then_confirmed(console, model):
    called(1)
    path = f"models/{model.id}/rerate/"
    window = {"since": "2026-01-01T00:00", "until": f"{SYSTEM.now():%Y-%m-%dT%H:%M}"}
    # Other times than the page began with: their sums come first.
    first = console.submit(path, window)
    assert first.status_code == 400
    shown = text_of(first)
    assert "1 calls get a line" in shown
    assert "0.000015 USD, not 0" in shown
    assert LedgerEntry.objects.count() == 1
    form = page.last_form(first.content.decode())
    assert console.post(path, form).status_code == 302
    (line,) = LedgerEntry.objects.filter(line=2)
    assert (line.cost_nano_usd, line.reason) == (15_000, "price corrected")
    assert "No call of that time costs anything else" in text_of(console.submit(path, window))


def test_without_a_price_there_is_nothing_to_rate_by(console, staging):
    bare = model_services.create_model(actor=staging, id="bare")
    assert "no price in force" in text_of(console.get(f"models/{bare.id}/rerate/"))


def test_more_calls_than_a_page_can_wait_for_are_for_the_command(console, model, monkeypatch):
    called(1)
    called(2)
    monkeypatch.setattr("gateway.console_views.rerating.MOST", 1)
    answer = console.submit(
        f"models/{model.id}/rerate/",
        {"since": "2026-01-01T00:00", "until": f"{SYSTEM.now():%Y-%m-%dT%H:%M}"},
    )
    assert answer.status_code == 400
    assert "manage.py prices rerate" in text_of(answer)
