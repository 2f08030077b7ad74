"""What two grants have in common lies within both, and nothing that lies within both is left out."""

import ipaddress
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from keys import grants
from keys.grants import Grant, beyond, covers, cut, most_of
from keys.services import CAPABILITIES, SCOPES
from tenants.limits import BudgetLimit, LimitSet, Rate, read_rate
from usage.money import parse_usd, usd_text

NAMES = st.text("ab-", max_size=4)
PATTERNS = (
    st.lists(NAMES.filter(bool) | NAMES.map(lambda name: f"{name}*"), min_size=1, max_size=5)
    | st.none()
)
BLOCKS = (
    st.lists(
        st.builds(
            lambda octet, length: str(ipaddress.ip_network((octet << 24, length), strict=False)),
            st.sampled_from([10, 11, 192]),
            st.integers(0, 12),
        )
        | st.sampled_from(["::/0", "fd00::/8", "fd00::1/128", "2001:db8::/32"]),
        min_size=1,
        max_size=4,
    )
    | st.none()
)
ADDRESSES = ["10.0.0.1", "10.255.0.1", "11.0.0.1", "192.1.1.1", "fd00::1", "2001:db8::2", "::1"]
RATES = st.none() | st.lists(
    st.builds(
        lambda count, period: f"{count}/{period}", st.integers(1, 9), st.sampled_from("smhd")
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda text: text[-1],
)
LIMIT = st.none() | st.integers(1, 9)


def allows(patterns: list[str] | None, name: str) -> bool:
    return patterns is None or covers(patterns, name)


@given(PATTERNS, PATTERNS, NAMES)
def test_a_model_is_in_what_two_lists_have_in_common_exactly_if_it_is_in_both(asked, own, name):
    common = cut("allowed_models", asked, own)
    assert (common is None or covers(common, name)) == (allows(asked, name) and allows(own, name))


@given(BLOCKS, BLOCKS, st.sampled_from(ADDRESSES))
def test_an_address_is_in_what_two_lists_have_in_common_exactly_if_it_is_in_both(
    asked, own, address
):
    def allowed(blocks):
        ip = ipaddress.ip_address(address)
        return blocks is None or any(ip in ipaddress.ip_network(block) for block in blocks)

    common = cut("allowed_addresses", asked, own)
    assert allowed(common) == (allowed(asked) and allowed(own))


@given(RATES, RATES)
def test_of_two_rates_the_smaller_counts_and_none_is_lost(asked, own):
    def by_period(texts):
        rates = {text: read_rate(text) for text in texts or ()}
        return {text[-1]: rate.count for text, rate in rates.items() if rate is not None}

    common, of_asked, of_own = (
        by_period(it) for it in (cut("rate_limits", asked, own), asked, own)
    )
    assert set(common) == set(of_asked) | set(of_own)
    for period, count in common.items():
        assert count == min(of_asked.get(period, 9), of_own.get(period, 9))


@given(LIMIT, LIMIT)
def test_of_two_limits_the_smaller_counts_as_a_number_and_as_money(asked, own):
    told = [number for number in (asked, own) if number is not None]
    least = min(told, default=None)
    assert cut("tokens_budget", asked, own) == least
    texts = [None if it is None else usd_text(it * 10**8) for it in (asked, own)]
    spent = cut("cost_budget_usd", *texts)
    assert (None if spent is None else parse_usd(spent)) == (least and least * 10**8)


def test_patterns_within_patterns():
    for inner, outer, is_within in (
        ("gpt-*", "gp*", True),
        ("gp*", "gpt-*", False),
        ("gpt-*", "gpt-*", True),
        ("gpt-4", "gpt-*", True),
        ("gpt-*", "gpt-4", False),
        ("gpt-4", "gpt-4", True),
        ("gpt-4", "gpt-4o", False),
        ("gpt-*", "*", True),
        ("*", "gpt-*", False),
        ("gpt-", "gpt-*", True),
    ):
        assert covers([outer], inner) is is_within, (inner, outer)
    assert cut("allowed_models", ["gp*", "claude-*"], ["gpt-*", "claude-3"]) == [
        "gpt-*",
        "claude-3",
    ]
    assert cut("allowed_models", ["gpt-*"], ["gp*"]) == ["gpt-*"]
    assert cut("allowed_models", ["claude-*"], ["gp*"]) == []


GRANTS = st.builds(
    Grant,
    scopes=st.frozensets(st.sampled_from(SCOPES), min_size=1),
    models=PATTERNS.map(lambda it: None if it is None else tuple(it)),
    capabilities=st.none() | st.frozensets(st.sampled_from(CAPABILITIES[:3]), min_size=1),
    networks=BLOCKS.map(grants.networks),
    most=st.dictionaries(st.sampled_from(["burst", "rate_limits/60"]), st.integers(1, 3)),
    until=st.none() | st.integers(0, 3).map(lambda n: datetime(2026, 1, 1 + n, tzinfo=UTC)),
    is_watched=st.booleans(),
)


@given(GRANTS)
def test_a_grant_lies_within_itself(grant):
    assert beyond(grant, grant) == []


@given(GRANTS, GRANTS, GRANTS)
def test_within_within_is_within(a, b, c):
    if not beyond(a, b) and not beyond(b, c):
        assert not beyond(a, c)


def test_each_way_to_go_beyond_is_named():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    limits = LimitSet(
        rates=(Rate(5, 60), Rate(9, 60), Rate(100, 3600)),
        daily=10,
        burst=2,
        tokens_per_minute=7,
        concurrency=1,
        budgets=(BudgetLimit("nano_usd", "month", 5),),
    )
    own = Grant(
        scopes=frozenset(("inference", "keys")),
        models=("gpt-*",),
        capabilities=frozenset(("chat",)),
        networks=grants.networks(["10.0.0.0/8"]),
        most=most_of(limits),
        until=now,
        is_watched=True,
    )
    free = Grant(scopes=frozenset(SCOPES))
    assert beyond(own, free) == []
    assert beyond(free, own) == [
        *("scopes", "allowed_models", "allowed_capabilities", "allowed_addresses"),
        *("limits", "expires_at", "log_content"),
    ]
    assert own.most == {
        "rate_limits/60": 5,
        "rate_limits/3600": 100,
        "budget/nano_usd/month": 5,
        "daily_limit": 10,
        "burst": 2,
        "rate_limit_tpm": 7,
        "max_concurrency": 1,
    }
    later = Grant(scopes=frozenset(), until=now + timedelta(microseconds=1))
    assert beyond(later, Grant(scopes=frozenset(), until=now)) == ["expires_at"]
