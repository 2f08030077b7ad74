"""Calls and money lines in the console: the same filters and the same numbers as the admin API's."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from providers import model_services
from providers.models import Price
from providers.prices import price_tag
from providers.types import Usage
from tenants.models import AuditEvent
from tests.cast import Console
from tests.gateway.api.calls import attempt, line, log_row
from tests.gateway.console.names import NAMES
from tests.gateway.console.test_provider_pages import assert_inert, text_of
from tests.support.page import Page
from usage import pricing

LONG_AGO = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def listed(answer, where: str = "requests") -> list[str]:
    """The ids of the calls that a page leads to, in order."""
    before = f"/console/{where}/"
    links = Page(answer.content.decode()).links
    ids = [link.removeprefix(before).strip("/") for link in links if link.startswith(before)]
    return [it for it in ids if len(it) == 36]


# The list


@pytest.fixture
def calls(tenant, key) -> dict[str, str]:
    rows = {
        "mine": log_row(tenant_id=tenant.id, key_id=key.key.id, model="gpt-5"),
        "refused": log_row(status=429, error_code="rate_limit_exceeded", tenant="Kestrel"),
        "failed": log_row(status=502, provider="spare", cost_nano_usd=0, key_prefix="gwk_zzzzzz"),
        "unpriced": log_row(cost_nano_usd=None, created_at=datetime.now(UTC) - timedelta(days=3)),
        "old": log_row(created_at=LONG_AGO, correlation_id="req_of_the_caller"),
    }
    return {name: str(row.request_id) for name, row in rows.items()}


@pytest.mark.parametrize(
    "query",
    [
        "",
        "tenant=acme",
        "tenant=Kestrel",
        "tenant=nobody",
        "key=gwk_zzzzzz",
        "model=gpt-5",
        "provider=spare",
        "status=429",
        "since=2026-01-02T03:04:05Z&until=2026-01-02T03:04:06Z",
        "status=502&provider=spare",
    ],
)
def test_filters_find_what_the_api_finds(console, api, calls, query):
    theirs = [row["id"] for row in api.get(f"logs?{query}").json()["data"]]
    assert listed(console.get(f"requests/?{query}")) == theirs


def test_filters_of_the_console_find_failures_and_one_callers_id(console, calls):
    assert set(listed(console.get("requests/?only=failed"))) == {calls["refused"], calls["failed"]}
    assert calls["mine"] in listed(console.get("requests/?only=served"))
    assert listed(console.get("requests/?request_id=req_of_the_caller")) == [calls["old"]]
    assert listed(console.get(f"requests/?request_id={calls['mine']}")) == [calls["mine"]]


@pytest.mark.parametrize("since", ["2026-01-02", "2026-01-02T03:04", "2026-01-02T03:04:05"])
def test_times_of_a_browsers_date_field_are_taken_as_utc(console, calls, since):
    asked = f"requests/?since={since}&until=2026-01-02T03:05"
    assert listed(console.get(asked)) == [calls["old"]]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("status=abc", "status: must be an integer from 100 to 599"),
        ("status=99", "status: must be an integer from 100 to 599"),
        ("status=%F0%9F%94%91", "status: must be"),
        ("since=yesterday", "since: must be a time"),
        ("since=9999-99-99", "since: must be a time"),
        ("until=0000-00-00T00:00", "until: must be a time"),
        ("only=some", "only: must be failed or served"),
        ("kind=x", "kind: must be one of"),
        ("cursor=zzz", "cursor: is not one that this list gave out"),
        ("cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%00", "cursor: must be"),
        ("tenant=%00", "tenant: must be at most 256 printable characters"),
        ("model=%0d%0ax", "model: must be at most"),
        (f"model={'x' * 300}", "model: must be at most"),
        ("model=a&model=b", "model: stands there twice"),
        ("nonsense=1", "nonsense: is not a parameter of this"),
    ],
    ids=lambda value: None if " " not in str(value) else "said",
)
def test_a_filter_that_means_nothing_is_a_sentence_above_an_empty_list(
    console, calls, query, sentence
):
    answer = console.get(f"requests/?{query}")
    assert answer.status_code == 400
    assert sentence in text_of(answer)
    assert listed(answer) == []
    assert Page(answer.content.decode()).faults == []


def test_what_was_typed_stays_in_its_field_and_in_every_link(console, calls):
    for number in range(60):
        log_row(correlation_id=f"call-{number:04}", model="gpt-5")
    answer = console.get("requests/?model=gpt-5&only=served&request_id=")
    page = Page(answer.content.decode())
    assert page.forms[-1]["model"] == "gpt-5"
    assert page.forms[-1]["only"] == "served"
    (older,) = [link for link in page.links if "cursor=" in link]
    assert "model=gpt-5" in older
    assert "only=served" in older


def test_every_call_is_on_exactly_one_page(console):
    moment = datetime.now(UTC)
    made = {
        str(log_row(created_at=moment - timedelta(seconds=n // 3)).request_id) for n in range(120)
    }
    seen: list[str] = []
    where = "requests/"
    for _ in range(3):
        answer = console.get(where)
        seen += listed(answer)
        older = [link for link in Page(answer.content.decode()).links if "cursor=" in link]
        where = f"requests/{older[-1]}" if older else ""
    assert where == ""
    assert len(seen) == 120
    assert set(seen) == made


def test_the_sums_of_a_page_are_those_of_its_rows(console, calls):
    page = text_of(console.get("requests/"))
    assert "5 calls, 2 failed, 50 tokens in, 100 out, $0.000036 and 1 without a price" in page


def test_names_that_are_scripts_stay_text(console):
    for name in NAMES:
        row = log_row(tenant=name, model=name, provider=name, target=name, error_code="")
        attempt(row, 1, provider=name, target=name)
        line(row, 1, tenant=name)
    assert_inert(console.get("requests/"), NAMES)
    assert_inert(console.get("ledger/"), NAMES)
    assert_inert(console.get(f"requests/{row.request_id}/"), NAMES[-1:])


# One call


def test_a_call_shows_the_numbers_of_the_api(console, api, key, tenant):
    row = log_row(tenant_id=tenant.id, key_id=key.key.id, attempts=2, duration_us=2_500_000)
    began = row.created_at
    attempt(row, 1, provider="broken", outcome="upstream_status", status=529, duration_us=500_000)
    attempt(row, 2, started_at=began + timedelta(seconds=1), duration_us=1_400_000)
    line(row, 1, cost_nano_usd=12_000)
    card = api.get(f"logs/{row.request_id}").json()
    page = text_of(console.get(f"requests/{row.correlation_id}/"))
    assert f"${card['cost_usd']}" in page
    assert f"{card['tokens_in']} in {card['tokens_out']} out" in page
    assert [it["status"] for it in card["attempts"]] == [529, 200]
    for shown in ("1 broken", "529, upstream status", "500 ms", "1.40 s", "2.50 s", "first"):
        assert shown in page
    assert (
        "/console/keys/" + str(key.key.id)
        in console.get(f"requests/{row.request_id}/").content.decode()
    )


def test_the_waterfall_stays_within_its_frame(console):
    """Also where clocks disagree, an end is unknown, or nothing was sent."""
    row = log_row(duration_us=0)
    attempt(row, 1, started_at=row.created_at - timedelta(seconds=5), duration_us=10**12)
    attempt(
        row, 2, started_at=row.created_at + timedelta(days=2), duration_us=None, outcome="unknown"
    )
    never = log_row(status=429, attempts=0, dispatched="no", provider="", ttfb_us=None)
    for call in (row, never):
        html = console.get(f"requests/{call.request_id}/").content.decode()
        bars = [
            part.split('"') for part in html.split('<rect class="wf-')[1:] if 'rx="1"' in part[:80]
        ]
        assert bars
        for bar in bars:
            x, width = float(bar[2]), float(bar[6])
            assert 0 <= x <= 1000
            assert 0 < width <= 1000 - x + 0.05


@pytest.mark.parametrize(
    "usage",
    [Usage(1000, 300, 50, 20), Usage(1, 0, 0, 0), Usage(999_999, 0, 3, 3)],
    ids=["all kinds", "one token", "uneven"],
)
def test_the_cost_adds_up_line_by_line(console, staging, usage):
    prices = {
        "input_usd_per_mtok": "1.25",
        "cached_input_usd_per_mtok": "0.125",
        "output_usd_per_mtok": "10",
        "reasoning_usd_per_mtok": "0.000000007",
        "per_request_usd": "0.001",
    }
    model_services.create_model(actor=staging, id="m", prices=[prices])
    price = Price.objects.get()
    cost = pricing.cost(usage, price_tag(price))
    row = log_row(cost_nano_usd=cost)
    line(
        row,
        1,
        price_id=price.id,
        cost_nano_usd=cost,
        tokens_in=usage.input,
        tokens_cached=usage.cached,
        tokens_out=usage.output,
        tokens_reasoning=usage.reasoning,
    )
    page = text_of(console.get(f"requests/{row.request_id}/"))
    assert "rounded once to a billionth" in page
    line_of_input = (usage.input - usage.cached) * 1_250_000_000
    assert f"{line_of_input / 10**15:.15f}".rstrip("0") in page


def test_a_sum_that_does_not_fit_is_said_so(console, staging):
    model_services.create_model(
        actor=staging, id="m", prices=[{"input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}]
    )
    row = log_row()
    line(row, 1, price_id=Price.objects.get().id, cost_nano_usd=1)
    page = text_of(console.get(f"requests/{row.request_id}/"))
    assert "do not add up to what was charged" in page


def test_a_call_of_a_deleted_key_and_a_forgotten_price_is_shown_all_the_same(console):
    row = log_row(cost_nano_usd=None)
    line(row, 1, price_id=uuid4(), cost_nano_usd=None)
    page = text_of(console.get(f"requests/{row.request_id}/"))
    assert "(deleted)" in page
    assert "no price was in force" in page


@pytest.mark.parametrize(
    "identity", ["nobody", "x" * 65, "a b c d e f g", "%00%00%00%00%00%00%00%00"]
)
def test_what_is_no_call_is_not_found(console, identity):
    assert console.get(f"requests/{identity}/").status_code == 404


def test_the_audit_rows_of_a_call_are_linked_for_whom_may_see_them(console, auditor):
    row = log_row()
    assert (
        "/console/audit/?request_id="
        not in console.get(f"requests/{row.request_id}/").content.decode()
    )
    browser = Console().signed_in(auditor)
    html = browser.get(f"requests/{row.request_id}/").content.decode()
    assert f"/console/audit/?request_id={row.correlation_id}" in html


# The ledger


def test_money_lines_are_filtered_and_paged(console, tenant, key):
    for number in range(120):
        row = log_row(created_at=LONG_AGO)
        line(
            row,
            1,
            tenant_id=tenant.id,
            key_id=key.key.id,
            model=f"m-{number % 2}",
            cost_nano_usd=None if number % 3 else 5,
        )
    assert len(listed(console.get("ledger/"))) == 50
    seen, where = [], "ledger/?model=m-1"
    for _ in range(2):
        answer = console.get(where)
        seen += listed(answer)
        older = [link for link in Page(answer.content.decode()).links if "cursor=" in link]
        where = f"ledger/{older[-1]}" if older else ""
    assert len(set(seen)) == 60 == len(seen)
    assert len(listed(console.get("ledger/?month=2026-01&tenant=acme"))) == 50
    assert listed(console.get("ledger/?month=2025-01")) == []
    assert "no price" in text_of(console.get("ledger/?cost=unknown"))
    assert listed(console.get("ledger/?cost=estimated")) == []


@pytest.mark.parametrize(
    "query", ["month=13", "month=2026-13", "cost=x", "cursor=-1", "cursor=1e9", "since=x", "x=y"]
)
def test_a_filter_of_the_ledger_that_means_nothing_is_a_sentence(console, db, query):
    answer = console.get(f"ledger/?{query}")
    assert answer.status_code == 400
    assert "That filter means nothing" in text_of(answer)


def test_looking_writes_nothing(console, calls):
    rows = AuditEvent.objects.count()
    for path in ("requests/", f"requests/{calls['mine']}/", "ledger/", ""):
        assert console.get(path).status_code == 200
        assert console.post(path).status_code == 403
    assert AuditEvent.objects.count() == rows
