"""What is set aside is all on one page, with whose it is; and a call's page says why it went as it did."""

from datetime import UTC, datetime, timedelta

from keys.services import issue_key
from tests.gateway.api.calls import log_row
from tests.gateway.api.test_figures import hold, lent
from tests.gateway.console.names import NAMES
from tests.gateway.console.test_provider_pages import assert_inert, text_of
from usage.models import Balance
from usage.records import Why, why_text


def test_calls_in_flight_and_what_workers_hold_are_told(console, tenant, staging):
    now = datetime.now(UTC)
    issued = issue_key(actor=staging, tenant_id=tenant.id, name="night shift")
    hold(tenant_id=tenant.id, created_at=now - timedelta(minutes=3))
    hold(key_prefix="gwk_zzzzzz")
    lent(10**9, "month:2026-11", now + timedelta(seconds=9))
    Balance.objects.update(level_id=issued.key.id)
    lent(5, "total", now - timedelta(seconds=60))
    lent(7, "prepaid", now, written_off_at=now)
    page = text_of(console.get("holds/"))
    for shown in (
        "3 min ago",
        "$0.005",
        "On this page: 2 calls, 140 tokens and $0.01 at most",
        "night shift key Lent month:2026-11",
        "gone key Overdue total",
        "gone key Written off prepaid",
    ):
        assert shown in page
    page = text_of(console.get("holds/?key=gwk_zzzzzz"))
    assert "On this page: 1 call, 70 tokens" in page
    assert console.get("holds/?cursor=x").status_code == 400
    assert console.get("holds/?tenant=nobody").status_code == 200


def test_nothing_in_flight_is_said(console):
    page = text_of(console.get("holds/"))
    assert "No call is in flight" in page
    assert "Nothing is lent" in page


def test_names_do_nothing_on_it(console):
    hold(tenant=NAMES[0])
    assert_inert(console.get("holds/"), NAMES[:1])


def test_a_calls_page_says_what_it_was_asked_and_what_was_left(console):
    taken = (
        ("key", "requests", 60, 12, 11),
        ("tenant", "nano_usd month:2026-11", 0, 5 * 10**9, 4 * 10**9),
    )
    row = log_row(why=why_text(Why("b", ("main/gpt-4.1", "spare/gpt"), taken)))
    page = text_of(console.get(f"requests/{row.request_id}/"))
    for shown in (
        "Addresses Passed No list: any address.",
        "Considered: main/gpt-4.1, spare/gpt",
        "Key requests 12 11 60",
        "Tenant cost month:2026-11 $5 $4 –",
    ):
        assert shown in page


def test_a_refused_calls_page_says_at_which_question(console):
    row = log_row(
        status=403, error_code="model_not_allowed", attempts=0, dispatched="no", why=why_text(Why("mb"))
    )  # fmt: skip
    page = text_of(console.get(f"requests/{row.request_id}/"))
    assert "Models Refused model_not_allowed" in page
    assert "Route Not asked" in page
    assert "The call ended before its limits" in page
    assert "Not kept" in text_of(console.get(f"requests/{log_row().request_id}/"))
