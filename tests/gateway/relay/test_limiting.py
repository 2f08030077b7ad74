"""Step 6 at the border: what limits and budgets say becomes a status, headers, a lowered cap or another target."""

import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from gateway.relay import errors
from providers.routing import Route, Serving
from providers.types import FailureKind, UpstreamFailure
from tenants.limits import BudgetLimit, LimitSet, Rate
from tests.gateway.relay.edge import Edge, identity, known, route, upstream
from tests.support.leases import HeldBank

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
GOOD = json.dumps({"id": "x", "choices": [{"message": {"content": "hi"}}], "usage": USAGE}).encode()
MONTH = "month:2025-11"
#: 15 tokens, at 1 and 2 USD per million.
COST = 20_000


def money(most: int, **more: Any) -> LimitSet:
    return LimitSet(budgets=(BudgetLimit("nano_usd", "month", most),), **more)


def spender(most: int, *, spent: int = 0, of: Route | None = None, **more: Any) -> Edge:
    """A key with a monthly budget of so many nano-USD."""
    who = identity(key_limits=money(most, **more))
    bank = HeldBank({(who.key_id, "nano_usd", MONTH): most})
    bank.spent[who.key_id, "nano_usd", MONTH] = spent
    return Edge(found=known(of or route(), who=who), bank=bank)


def size(body: dict[str, Any]) -> int:
    return len(json.dumps(body).encode())


def test_what_a_call_did_not_use_of_its_bound_is_free_again() -> None:
    most = size({**CHAT, "max_tokens": 50}) * 1000 + 100_000
    edge = spender(most).call({**CHAT, "max_tokens": 50})
    assert edge.intent.hold_nano_usd == most
    edge.answer(200, GOOD)
    assert edge.settlement.cost_nano_usd == COST
    edge.assert_nothing_left()
    assert edge.bank.held((edge.found.identity.key_id, "nano_usd", MONTH)) == most, (
        "the entry is not in the tables yet"
    )


def test_a_call_that_no_cap_bounds_gets_one_when_money_is_limited() -> None:
    edge = spender(10**9).call(CHAT)
    assert json.loads(edge.requests[0].body)["max_tokens"] == 100, "the model's own"
    edge = spender(10**9, of=route(max_output_tokens=None)).call(CHAT)
    assert json.loads(edge.requests[0].body)["max_tokens"] == 4096
    assert "max_tokens" not in json.loads(Edge(found=known()).call(CHAT).requests[0].body)


@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens"])
def test_the_callers_own_cap_stays_as_it_is(member: str) -> None:
    body = {**CHAT, member: 7}
    sent = json.loads(spender(10**9).call(body).requests[0].body)
    assert {name: value for name, value in sent.items() if name.startswith("max")} == {member: 7}


@pytest.mark.parametrize(
    ("path", "body", "is_one"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 900}]}, True),
        ("/v1/completions", {"prompt": ["x" * 90] * 10, "max_tokens": 1}, False),
        ("/v1/embeddings", {"input": ["x" * 90] * 10}, False),
    ],
)
def test_many_texts_in_one_call_may_each_fill_the_window(
    path: str, body: dict[str, Any], is_one: bool
) -> None:
    edge = spender(10**9, of=route(context_window=100, capability="")).call(
        {"model": "m", "max_tokens": 1, **body}, path=path
    )
    outputs = {"/v1/completions": 10, "/v1/chat/completions": 1}.get(path, 0)
    held = edge.intent.hold_tokens - outputs
    assert held == 100 if is_one else held >= 900


def test_openai_itself_is_told_in_its_newer_word() -> None:
    there = replace(upstream(), cap_member="max_completion_tokens")
    edge = spender(10**9, of=route("m", there)).call(CHAT)
    assert json.loads(edge.requests[0].body)["max_completion_tokens"] == 100


def test_a_budget_that_does_not_cover_the_call_is_final_and_names_what_would_fit() -> None:
    body = {**CHAT, "max_tokens": 50}
    edge = spender(size(body) * 1000 + 20_000).call(body)
    assert (edge.status, edge.error["code"]) == (402, "budget_exhausted")
    assert edge.error["type"] == "insufficient_quota"
    assert "max_tokens of at most 10 " in edge.error["message"]
    assert edge.header("x-should-retry") == "false"
    assert edge.requests == []
    edge.assert_nothing_left()


def test_a_call_that_nothing_would_make_fit_names_no_cap() -> None:
    edge = spender(1000).call({**CHAT, "max_tokens": 50})
    assert edge.status == 402
    assert "max_tokens" not in edge.error["message"]


def test_who_asked_for_it_gets_a_shorter_answer_instead() -> None:
    body = {**CHAT, "max_tokens": 50}
    edge = spender(size(body) * 1000 + 20_000, clamps=True).call(body)
    assert json.loads(edge.requests[0].body)["max_tokens"] == 10
    edge.answer(200, GOOD)
    assert (edge.status, edge.header("x-gatehouse-max-tokens")) == (200, "10")


def test_who_waits_for_others_is_served_when_they_end() -> None:
    body = {**CHAT, "max_tokens": 50}
    edge = spender(size(body) * 1000 + 150_000)
    edge.call(body)
    second = Edge(found=edge.found, limits=edge.leases).call(body)
    edge.leases.look(edge.clock.seconds)
    assert (second.status, second.requests) == (0, [])
    edge.answer(200, GOOD)
    edge.wait()
    assert len(second.requests) == 1


def test_what_only_calls_in_flight_hold_is_worth_another_try() -> None:
    body = {**CHAT, "max_tokens": 50}
    edge = spender(size(body) * 1000 + 150_000)
    edge.call(body)
    second = Edge(found=edge.found, limits=edge.leases).call(body)
    edge.wait()
    assert (second.status, second.error["code"]) == (429, "budget_held")
    assert second.header("retry-after") == "1"
    assert second.header("x-should-retry") is None


@pytest.mark.parametrize("capped", [{}, {"max_tokens": 5}])
def test_what_has_no_price_is_refused_where_money_is_limited(capped: dict[str, int]) -> None:
    edge = spender(10**12, of=route(prices=())).call({**CHAT, **capped})
    assert (edge.status, edge.error["code"]) == (400, "model_not_priced")
    tokens = identity(key_limits=LimitSet(budgets=(BudgetLimit("tokens", "month", 10**6),)))
    bank = HeldBank({(tokens.key_id, "tokens", MONTH): 10**6})
    free = Edge(found=known(route(prices=()), who=tokens), bank=bank).call(CHAT)
    assert free.requests, "tokens can be counted without a price"


def test_an_account_without_a_balance_is_told_so() -> None:
    who = identity(account_id=uuid4(), account="payer")
    bank = HeldBank({(who.account_id, "nano_usd", "prepaid"): 5})  # type: ignore[dict-item]
    edge = Edge(found=known(who=who), bank=bank).call(CHAT)
    assert (edge.status, edge.error["code"]) == (402, "balance_exhausted")
    assert edge.header("x-gatehouse-reset") is None


def test_without_the_tables_no_money_is_spent_and_everything_else_goes_on() -> None:
    edge = spender(10**9)
    edge.bank.is_away = True
    edge.call(CHAT)
    assert (edge.status, edge.error["code"]) == (503, "ledger_unavailable")
    assert Edge(found=known()).call(CHAT).requests


def test_a_budget_and_a_rate_are_taken_together_or_not_at_all() -> None:
    body = {**CHAT, "max_tokens": 50}
    limits = money(1000, rates=(Rate(1, 60),))
    who = identity(key_limits=limits)
    bank = HeldBank({(who.key_id, "nano_usd", MONTH): 1000})
    edge = Edge(found=known(who=who), bank=bank).call(body)
    assert edge.status == 402
    bank.limits[who.key_id, "nano_usd", MONTH] = 10**9
    edge.clock.seconds += 1.0
    edge.leases.look(edge.clock.seconds)
    again = Edge(found=edge.found, limits=edge.leases, clock=edge.clock)
    assert again.call(body).requests, "its request is back"


# --- providers --------------------------------------------------------------------------------------------------------

ONE = LimitSet(rates=(Rate(1, 60),))


def two_targets(first: LimitSet, second: LimitSet) -> Route:
    return route(
        "m", replace(upstream("first"), limits=first), replace(upstream("second"), limits=second)
    )


def called(edge: Edge) -> str | None:
    return edge.answer(200, GOOD).header("x-gatehouse-provider")


def test_a_provider_that_allows_no_more_is_passed_over() -> None:
    edge = Edge(found=known(two_targets(ONE, LimitSet())))
    assert called(edge.call(CHAT)) == "first"
    assert called(Edge(found=edge.found, limits=edge.leases).call(CHAT)) == "second"


def test_when_no_provider_allows_more_the_caller_waits() -> None:
    edge = Edge(found=known(two_targets(ONE, ONE)))
    for _ in range(2):
        assert Edge(found=edge.found, limits=edge.leases).call(CHAT).requests
    refused = Edge(found=edge.found, limits=edge.leases).call(CHAT)
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")


def test_what_has_no_price_goes_to_no_provider_whose_money_is_limited() -> None:
    edge = Edge(found=known(replace(two_targets(ONE, money(10**12)), prices=())))
    assert called(edge.call(CHAT)) == "first"
    again = Edge(found=edge.found, limits=edge.leases).call(CHAT)
    assert (again.status, again.requests) == (429, [])


def broken(edge: Edge) -> Edge:
    edge.exchange.upstream_failed(UpstreamFailure(FailureKind.CONNECT, nothing_sent=True))
    return edge


def test_going_on_to_another_provider_takes_from_its_limits_too() -> None:
    edge = Edge(found=known(two_targets(LimitSet(), LimitSet(concurrency=1))))
    first = broken(Edge(found=edge.found, limits=edge.leases).call(CHAT))
    assert len(first.requests) == 2
    second = broken(Edge(found=edge.found, limits=edge.leases).call(CHAT))
    assert (len(second.requests), second.status) == (1, 502), "the other is full"
    assert called(first) == "second"
    assert edge.leases.taken == 0


@pytest.mark.parametrize(
    ("status", "seen", "code"),
    [(429, 429, "upstream_error"), (503, 503, "upstream_error"), (401, 502, "upstream_refused_us")],
)
def test_a_targets_no_is_the_answer_where_the_next_ones_provider_allows_nothing(
    status: int, seen: int, code: str
) -> None:
    edge = Edge(found=known(two_targets(LimitSet(), LimitSet(concurrency=1))))
    broken(Edge(found=edge.found, limits=edge.leases).call(CHAT))
    answer = Edge(found=edge.found, limits=edge.leases).call(CHAT)
    answer.exchange.upstream_head(status, [(b"retry-after", b"7")])
    assert (answer.status, answer.error["code"], len(answer.requests)) == (seen, code, 1)
    assert answer.header("x-gatehouse-upstream-status") == str(status)
    assert answer.header("retry-after") == ("7" if seen == status else None)


def test_a_models_own_limits_stand_in_place_of_its_providers() -> None:
    there = replace(upstream(), limits=LimitSet(rates=(Rate(1, 60),), daily=2))
    serving = (Serving(there, "up"),)
    wide = replace(route(), targets=serving, id=uuid4(), limits=LimitSet(rates=(Rate(60, 60),)))
    edge = Edge(found=known(wide))
    answers = [Edge(found=edge.found, limits=edge.leases).call(CHAT) for _ in range(3)]
    assert [len(each.requests) for each in answers] == [1, 1, 0], "only the requests are its own"
    assert "requests a day of this provider" in answers[-1].error["message"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, b"0ms"),
        (0.02, b"20ms"),
        (1.5, b"1.5s"),
        (60, b"1m0s"),
        (3_599.25, b"59m59.25s"),
        (3_600, b"1h0m0s"),
        (86_400, b"24h0m0s"),
        (90_061.5, b"25h1m1.5s"),
    ],
)
def test_how_long_until_a_limit_is_whole_again_is_written_as_openai_writes_it(
    seconds: float, text: bytes
) -> None:
    assert errors.duration_text(seconds) == text
