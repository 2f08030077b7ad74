"""What follows a departure under `drain`, and a provider that refused our credential; without a socket."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.relay import unheard
from gateway.relay.cooling import COOL_SECONDS
from providers.routing import Upstream
from providers.types import FailureKind, UpstreamFailure, Usage
from tests.gateway.relay.edge import Edge, known, route, upstream
from tests.gateway.relay.test_exchange import CHAT, DONE, GOOD, LAST, STREAM, chunk


def draining(*more: Upstream, **options: Any) -> Edge:
    first = replace(upstream("first"), drains=True)
    return Edge(found=known(route("m", first, *more)), **options)


def left(edge: Edge) -> Edge:
    edge.exchange.client_gone()
    edge.exchange.client_gone()  # an edge may notice twice
    return edge


# --- read on ----------------------------------------------------------------------------------------------------------


def test_a_drained_stream_is_charged_what_the_provider_says_and_nothing_is_said_any_more() -> None:
    edge = left(draining().call(STREAM).stream(chunk("a")))
    said = edge.body
    assert edge.reads_on
    assert not edge.was_cut
    assert edge.aborted == 0
    assert edge.house.slots.free == edge.slots - 1, "it keeps its seat"
    edge.exchange.upstream_bytes(chunk("b") + LAST + DONE)
    assert (edge.body, edge.was_cut) == (said, True)
    settled = edge.settlement
    assert (settled.usage, settled.usage_source) == (Usage(10, 0, 5, 0), "provider")
    assert (settled.status, settled.error_code) == (499, "client_gone")
    assert [attempt.outcome for attempt in settled.attempts] == ["ok"]
    edge.assert_nothing_left()


def test_a_drained_answer_in_one_piece_is_charged_what_the_provider_says() -> None:
    edge = left(draining().call(CHAT)).answer(200, GOOD)
    assert (edge.settlement.usage, edge.settlement.status) == (Usage(10, 0, 5, 0), 499)
    assert edge.body == b""
    edge.assert_nothing_left()


def test_a_drained_call_that_the_provider_breaks_off_is_charged_what_was_seen() -> None:
    edge = left(draining().call(STREAM).stream(chunk("a" * 35)))
    edge.exchange.upstream_bytes(chunk("b" * 35))
    edge.exchange.upstream_failed(UpstreamFailure(FailureKind.CLOSED, nothing_sent=False))
    assert edge.settlement.usage_source == "estimated"
    assert edge.settlement.usage.output >= 20
    edge.assert_nothing_left()


@pytest.mark.parametrize("how", ["too long", "too much", "stopped", "revoked"])
def test_reading_on_has_an_end(how: str) -> None:
    edge = left(draining().call(STREAM).stream(chunk("a" * 35)))
    if how == "too long":
        edge.house.unheard.sweep(edge.clock.seconds + unheard.MOST_SECONDS - 0.1)
        assert not edge.was_cut
        edge.house.unheard.sweep(edge.clock.seconds + unheard.MOST_SECONDS)
    elif how == "too much":
        edge.exchange.upstream_bytes(b": " + b"x" * 500_000 + b"\n\n")
        for _ in range(unheard.MOST_BYTES // 500_000):
            assert not edge.was_cut
            edge.exchange.upstream_bytes(b": " + b"x" * 500_000 + b"\n\n")
    elif how == "stopped":
        edge.exchange.drain()
    else:
        edge.exchange.revoked()
    assert (edge.aborted, edge.was_cut) == (1, True)
    assert (edge.settlement.status, edge.settlement.usage_source) == (499, "estimated")
    assert edge.settlement.usage.output >= 10
    edge.house.unheard.sweep(edge.clock.seconds + 10 * unheard.MOST_SECONDS)
    edge.assert_nothing_left()


def test_a_worker_reads_only_so_many_calls_on() -> None:
    full = unheard.Unheard(most=0)
    edge = draining()
    edge.house = replace(edge.house, unheard=full)
    edge.exchange = type(edge.exchange)(edge, edge.house)
    left(edge.call(STREAM).stream(chunk("a")))
    assert (edge.reads_on, edge.aborted, edge.was_cut) == (False, 1, True)
    edge.assert_nothing_left()


def test_what_was_never_sent_is_not_read_on_and_costs_nothing() -> None:
    edge = left(draining(sends=False).call(CHAT))
    assert (edge.reads_on, edge.settlement.cost_nano_usd) == (False, 0)
    edge.assert_nothing_left()


def test_nobody_is_tried_for_a_caller_who_left() -> None:
    edge = left(draining(upstream("second")).call(CHAT))
    edge.answer(503, b"{}")
    assert len(edge.requests) == 1
    assert edge.settlement.usage_source == "none"
    edge.assert_nothing_left()


# --- refused credentials ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 402, 403, 407])
def test_a_credential_that_was_refused_is_asked_last_for_a_while(status: int) -> None:
    first, second = upstream("first"), upstream("second")
    found = known(route("m", first, second))

    def served(edge: Edge) -> str | None:
        return edge.answer(200, GOOD).header("x-gatehouse-provider")

    edge = Edge(found=found).call(CHAT)
    edge.exchange.upstream_head(status, [])
    assert served(edge) == "second", "the next target serves this call already"
    edge.assert_nothing_left()

    def later(seconds: float, found: Any = found) -> Edge:
        again = Edge(found=found)
        again.house = replace(again.house, cooling=edge.house.cooling)
        again.clock.seconds += seconds
        again.exchange = type(again.exchange)(again, again.house)
        return again.call(CHAT)

    assert served(later(COOL_SECONDS - 1)) == "second"
    rotated = replace(upstream("first"), id=first.id)  # with another credential
    assert served(later(1, known(route("m", rotated, second)))) == "first"
    alone = later(1, known(route("m", first))).answer(status, b"")
    assert (alone.status, alone.error["code"]) == (502, "upstream_refused_us")
    assert served(later(2 * COOL_SECONDS)) == "first"


def test_a_provider_whose_every_target_refuses_us_is_502() -> None:
    edge = Edge(found=known(route("m", upstream("first"), upstream("second")))).call(CHAT)
    edge.exchange.upstream_head(401, [])
    edge.answer(403, json.dumps({"error": {"message": "secret"}}).encode())
    assert (edge.status, edge.error["code"]) == (502, "upstream_refused_us")
    assert b"secret" not in edge.body
    edge.assert_nothing_left()
