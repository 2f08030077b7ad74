"""The staircase, step by step, without a socket."""

import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.relay import endpoints
from gateway.relay.asking import asked
from gateway.relay.dispatch import MAX_ANSWER
from gateway.snapshot import UNKNOWN, UNLOOKABLE
from keys import tokens
from providers.routing import Catalogue, OwnRoutes, Serving
from providers.types import FailureKind, Headers, Origin, PriceTag, UpstreamFailure, Usage
from tenants import sealing
from tenants.limits import LimitSet, Rate
from tenants.sealing import Secret
from tests.gateway.relay.edge import (
    KEY,
    PRICE,
    UPSTREAM_KEY,
    Edge,
    identity,
    known,
    route,
    upstream,
)
from usage import contents
from usage.idempotency import Fresh
from usage.records import AttemptStarted, Intent, Refusal, Settlement, encode

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
STREAM: dict[str, Any] = {**CHAT, "stream": True}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
GOOD = json.dumps({"id": "x", "choices": [{"message": {"content": "hi"}}], "usage": USAGE}).encode()


def chunk(text: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"' + text.encode() + b'"}}]}\n\n'


LAST = b'data: {"choices":[],"usage":' + json.dumps(USAGE).encode() + b"}\n\n"
DONE = b"data: [DONE]\n\n"
SIXTY = LimitSet(rates=(Rate(60, 60),))
ONE_AT_ONCE = LimitSet(concurrency=1)


# --- the way through --------------------------------------------------------------------------------------------------


def test_a_call_is_journalled_before_it_is_sent_and_settled_before_it_is_answered() -> None:
    edge = Edge(found=known()).call(CHAT)
    assert [type(record) for record in edge.records] == [Intent, AttemptStarted]
    assert len(edge.requests) == 1
    edge.answer(200, GOOD)
    assert [type(record) for record in edge.records] == [Intent, AttemptStarted, Settlement]
    assert (edge.status, edge.body, edge.finished) == (200, GOOD, True)
    edge.assert_nothing_left()


def test_what_goes_upstream_is_the_providers_credential_and_the_targets_name() -> None:
    headers: Headers = [
        (b"authorization", b"Bearer " + KEY.encode()),
        (b"cookie", b"session=1"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"accept", b"application/json"),
        (b"openai-organization", b"org"),
    ]
    edge = Edge(found=known()).call({**CHAT, "temperature": 0.5}, headers)
    (request,) = edge.requests
    letterhead = request.letterhead
    sent = dict(letterhead.headers)
    assert sent[b"authorization"] == b"Bearer " + UPSTREAM_KEY
    assert {b"cookie", b"x-forwarded-for", b"openai-organization"}.isdisjoint(sent)
    assert KEY.encode() not in letterhead.encoded + request.body
    assert letterhead.path == b"/v1/chat/completions"
    assert json.loads(request.body) == {**CHAT, "model": "up-m", "temperature": 0.5}
    assert request.attempt_id == edge.intent.request_id.hex + "-1"


def test_usage_is_priced_and_told() -> None:
    edge = Edge(found=known()).call(CHAT).answer(200, GOOD)
    settled = edge.settlement
    assert (settled.usage, settled.usage_source) == (Usage(10, 0, 5, 0), "provider")
    assert settled.cost_nano_usd == 10 * 1000 + 5 * 2000
    assert settled.price_id == PRICE.id
    assert edge.header("x-gatehouse-cost-usd") == "0.00002"


def test_without_a_price_the_cost_is_unknown_and_not_zero() -> None:
    edge = Edge(found=known(route(prices=()))).call(CHAT).answer(200, GOOD)
    assert edge.settlement.cost_nano_usd is None
    assert edge.header("x-gatehouse-cost-usd") is None


def test_a_stream_is_relayed_byte_for_byte() -> None:
    edge = Edge(found=known()).call({**STREAM, "stream_options": {"include_usage": True}})
    parts = [chunk("a"), chunk("b"), LAST, DONE]
    whole = b"".join(parts)
    edge.stream(*[whole[i : i + 7] for i in range(0, len(whole), 7)])
    edge.exchange.upstream_end()
    assert edge.body == whole
    assert edge.settlement.usage == Usage(10, 0, 5, 0)
    edge.assert_nothing_left()


def test_usage_is_asked_for_and_taken_out_again_when_the_caller_did_not_ask() -> None:
    edge = Edge(found=known()).call(STREAM)
    assert json.loads(edge.requests[0].body)["stream_options"] == {"include_usage": True}
    edge.stream(chunk("a"), LAST, DONE)
    edge.exchange.upstream_end()
    assert edge.body == chunk("a") + DONE
    assert edge.settlement.usage_source == "provider"


def test_the_answer_carries_its_labels() -> None:
    edge = Edge(found=known(who=identity(key_limits=SIXTY))).call(CHAT).answer(200, GOOD)
    assert edge.header("x-request-id") == edge.header("request-id") == edge.intent.correlation_id
    assert edge.header("x-gatehouse-provider") == "first"
    assert edge.header("x-gatehouse-target") == "up-m"
    assert edge.header("x-gatehouse-attempts") == "1"
    assert edge.header("x-ratelimit-limit-requests") == "60"
    assert edge.header("x-ratelimit-remaining-requests") == "9"
    assert edge.header("x-gatehouse-overhead-ms") is not None


# --- 1, 2: who is it --------------------------------------------------------------------------------------------------

MALFORMED = [
    b"Bearer gwk_short",
    b"Bearer " + KEY[:-1].encode() + (b"0" if KEY[-1] != "0" else b"1"),
    b"Bearer sk-something-else",
    b"Basic " + KEY.encode(),
    b"Bearer " + tokens.generate(tokens.Kind.MASTER_KEY).reveal(),
    b"Bearer " + tokens.generate(tokens.Kind.SERVICE_TOKEN).reveal(),
    b"Bearer ",
    b"Bearer \xff\xfe",
]


@pytest.mark.parametrize("value", MALFORMED, ids=range(len(MALFORMED)))
def test_every_bad_key_gets_the_same_401(value: bytes) -> None:
    bad = Edge(found=known()).call(CHAT, [(b"authorization", value)])
    unknown = Edge(found=UNKNOWN).call(CHAT)
    assert (bad.status, bad.body) == (unknown.status, unknown.body)
    assert (bad.status, bad.error["code"]) == (401, "invalid_api_key")
    assert bad.header("www-authenticate") == unknown.header("www-authenticate")
    assert bad.records == unknown.records == []
    bad.assert_nothing_left()


def test_no_key_at_all_says_so() -> None:
    edge = Edge(found=known()).call(CHAT, [])
    assert (edge.status, edge.error["code"]) == (401, "missing_api_key")


def test_two_different_keys_are_refused_and_twice_the_same_is_one() -> None:
    other = tokens.generate(tokens.Kind.TENANT_KEY).reveal()
    two: Headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"x-api-key", other)]
    assert Edge(found=known()).call(CHAT, two).status == 401
    same: Headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"api-key", KEY.encode())]
    assert Edge(found=known()).call(CHAT, same).answer(200, GOOD).status == 200


def test_what_could_not_be_looked_up_is_503_and_never_401() -> None:
    edge = Edge(found=UNLOOKABLE).call(CHAT)
    assert (edge.status, edge.error["code"]) == (503, "not_ready")
    assert edge.header("retry-after") == "1"


def test_a_key_whose_time_has_passed_is_unknown_even_if_the_picture_still_has_it() -> None:
    edge = Edge()
    edge.found = known(who=identity(valid_until=edge.clock.micros))
    assert edge.call(CHAT).status == 401


def test_a_full_worker_says_so_before_it_looks_anything_up() -> None:
    edge = Edge(found=known(), slots=0).call(CHAT)
    assert (edge.status, edge.error["code"]) == (503, "overloaded")


# --- 3: read ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"model":1,"messages":[]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b"[" * 1_000_000,
        b'{"model":"m","messages":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"model":"' + b"x" * 10_000 + b'","messages":[]}',
        b"\xff\xfe",
    ],
)
def test_a_body_that_is_no_request_is_400_with_a_sentence(body: bytes) -> None:
    edge = Edge(found=known()).call(body)
    assert (edge.status, edge.error["code"]) == (400, "invalid_request")
    assert edge.error["message"]
    assert edge.requests == []
    assert isinstance(edge.refusal, Refusal)
    edge.assert_nothing_left()


def test_a_second_model_name_cannot_slip_past_the_first() -> None:
    who = identity(allowed_models=(("m",),))
    sneaky = b'{"model":"m","messages":[{"role":"user","content":"x"}],"mod\\u0065l":"big"}'
    edge = Edge(found=known(route("m"), route("big"), who=who)).call(sneaky)
    assert edge.status == 403
    assert edge.requests == []


def test_a_body_over_the_limit_is_413() -> None:
    edge = Edge(found=known())
    edge.wants_body = False
    edge.call(CHAT)
    late = Edge(found=known())
    bearer = [(b"authorization", b"Bearer " + KEY.encode())]
    late.exchange.begin(asked(late.house.chain, *_chat(), bearer), "")
    late.exchange.too_large()
    assert (late.status, late.error["code"]) == (413, "body_too_large")
    late.assert_nothing_left()


@pytest.mark.parametrize(
    ("name", "value"), [(b"content-encoding", b"gzip"), (b"content-type", b"text/plain")]
)
def test_what_is_not_plain_json_is_415(name: bytes, value: bytes) -> None:
    edge = Edge(found=known()).call(
        CHAT, [(b"authorization", b"Bearer " + KEY.encode()), (name, value)]
    )
    assert (edge.status, edge.error["code"]) == (415, "unsupported_media_type")


def _chat() -> tuple[Any, str]:
    found = endpoints.find("POST", "/v1/chat/completions")
    assert found is not None
    return found


# --- 4, 5: may they, and where to ----------------------------------------------------------------------------------------


def test_a_key_without_the_scope_is_refused() -> None:
    edge = Edge(found=known(who=identity(scopes=frozenset({"usage"})))).call(CHAT)
    assert (edge.status, edge.error["code"]) == (403, "scope_missing")


def test_a_model_outside_the_list_is_403_and_an_unknown_one_404() -> None:
    who = identity(allowed_models=(("a*",),))
    assert Edge(found=known(route("m"), who=who)).call(CHAT).status == 403
    assert Edge(found=known(route("m"), who=who)).call({**CHAT, "model": "abc"}).status == 404


def test_both_lists_the_keys_and_the_tenants_must_name_the_model() -> None:
    who = identity(allowed_models=(("m", "n"), ("n",)))
    shared = known(route("m"), route("n"), who=who)
    assert Edge(found=shared).call(CHAT).status == 403
    assert Edge(found=shared).call({**CHAT, "model": "n"}).requests


def test_an_inactive_model_is_not_there() -> None:
    edge = Edge(found=known(route(is_active=False))).call(CHAT)
    assert (edge.status, edge.error["code"]) == (404, "model_not_found")


def test_an_embedding_model_is_no_chat_model() -> None:
    edge = Edge(found=known(route(capability="embedding"))).call(CHAT)
    assert (edge.status, edge.error["code"]) == (400, "invalid_request")
    assert "embedding" in edge.error["message"]


def test_a_model_that_nothing_serves_just_now_is_503() -> None:
    edge = Edge(found=known(replace(route(), targets=()))).call(CHAT)
    assert (edge.status, edge.error["code"]) == (503, "not_ready")


def test_a_tenants_own_provider_serves_a_shared_model_of_its_kind_with_its_own_credential() -> None:
    own = upstream("own", b"sk-own-0123456789")
    edge = Edge(found=known(own=OwnRoutes(Catalogue(), own))).call(CHAT)
    assert (
        dict(edge.requests[0].letterhead.headers)[b"authorization"] == b"Bearer sk-own-0123456789"
    )


def test_a_tenants_own_provider_serves_unlisted_models_unpriced() -> None:
    own = upstream("own", b"sk-own-0123456789")
    edge = Edge(found=known(own=OwnRoutes(Catalogue(), own))).call({**CHAT, "model": "nowhere"})
    assert json.loads(edge.requests[0].body)["model"] == "nowhere"
    assert edge.answer(200, GOOD).settlement.cost_nano_usd is None


def test_the_shared_credential_never_stands_in_for_an_own_one_that_failed() -> None:
    own = OwnRoutes(Catalogue(), None, unusable_kind="openai")
    for model in ("m", "nowhere"):
        edge = Edge(found=known(own=own)).call({**CHAT, "model": model})
        assert (edge.status, edge.error["code"]) == (503, "not_ready")
        assert edge.requests == []


def test_a_prefix_model_passes_the_rest_of_the_name_through() -> None:
    wide = replace(route("or/*"), targets=(Serving(upstream(), "*"),))
    edge = Edge(found=known(wide)).call({**CHAT, "model": "or/some/model"})
    assert json.loads(edge.requests[0].body)["model"] == "some/model"


# --- 6, 7: limits and the journal ------------------------------------------------------------------------------------


def test_a_refused_take_is_429_with_the_time_to_come_back() -> None:
    edge = Edge(found=known(who=identity(key_limits=ONE_AT_ONCE)))
    edge.call(CHAT)
    second = Edge(found=edge.found, limits=edge.leases).call(CHAT)
    assert second.status == 0, "the first may end in a moment"
    edge.wait()
    assert (second.status, second.error["code"]) == (429, "rate_limit_exceeded")
    assert int(second.header("retry-after") or 0) >= 1
    assert second.refusal.status == 429
    edge.answer(200, GOOD)
    assert Edge(found=edge.found, limits=edge.leases).call(CHAT).requests


@pytest.mark.parametrize("room", [0, 1])
def test_without_the_journal_nothing_is_sent(room: int) -> None:
    """An intent alone is not enough: the try that belongs to it is in the same write."""
    edge = Edge(found=known(), journal_full_after=room)
    edge.call(CHAT)
    assert edge.of_kind(Intent) == []
    assert (edge.status, edge.error["code"]) == (503, "ledger_unavailable")
    assert edge.requests == []
    assert edge.house.slots.free == edge.slots


def test_the_hold_bounds_input_by_bytes_and_output_by_the_cap() -> None:
    body = json.dumps({**CHAT, "max_tokens": 7, "n": 3}).encode()
    edge = Edge(found=known()).call(body)
    (intent,) = edge.of_kind(Intent)
    assert intent.hold_tokens == len(body) + 21
    assert intent.hold_nano_usd == len(body) * 1000 + 21 * 2000


# --- 8: translate -----------------------------------------------------------------------------------------------------


def test_an_address_that_no_request_can_name_is_502_and_reaches_no_upstream() -> None:
    nowhere = replace(upstream(), origin=Origin("https", "a b", 443))
    edge = Edge(found=known(route("m", nowhere))).call(CHAT)
    assert (edge.status, edge.error["code"], edge.requests) == (502, "upstream_error", [])
    edge.assert_nothing_left()


def test_a_tampered_credential_is_503_and_reaches_no_upstream() -> None:
    bad = upstream()
    assert bad.credential is not None
    flipped = bytearray(bad.credential.sealed)
    flipped[-1] ^= 1
    bad = replace(bad, credential=replace(bad.credential, sealed=bytes(flipped)))
    edge = Edge(found=known(route("m", bad, upstream("second")))).call(CHAT)
    assert (edge.status, edge.error["code"]) == (503, "credential_unreadable")
    assert edge.requests == []
    assert edge.unreadable_seen == [bad.id]
    assert edge.settlement.dispatched == "no"
    edge.assert_nothing_left()


# --- 9: the next target ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504, 529])
def test_the_next_target_is_tried_before_the_caller_saw_anything(status: int) -> None:
    edge = Edge(found=known(route("m", upstream("first"), upstream("second")))).call(CHAT)
    edge.exchange.upstream_head(status, [])
    assert len(edge.requests) == 2
    edge.answer(200, GOOD)
    assert edge.status == 200
    assert edge.header("x-gatehouse-provider") == "second"
    assert edge.header("x-gatehouse-attempts") == "2"
    assert [a.outcome for a in edge.settlement.attempts] == ["upstream_status", "ok"]
    edge.assert_nothing_left()


def test_a_failure_that_may_have_been_billed_is_not_tried_elsewhere() -> None:
    edge = Edge(found=known(route("m", upstream("first"), upstream("second")))).call(CHAT)
    edge.exchange.upstream_failed(UpstreamFailure(FailureKind.TIMEOUT, nothing_sent=False))
    assert len(edge.requests) == 1
    assert (edge.status, edge.error["code"]) == (504, "upstream_timeout")
    edge.assert_nothing_left()


def test_a_connection_that_never_was_is_tried_elsewhere() -> None:
    edge = Edge(found=known(route("m", upstream("first"), upstream("second")))).call(CHAT)
    edge.exchange.upstream_failed(UpstreamFailure(FailureKind.CONNECT, nothing_sent=True))
    assert len(edge.requests) == 2
    edge.exchange.upstream_failed(UpstreamFailure(FailureKind.CONNECT, nothing_sent=True))
    assert (edge.status, edge.error["code"]) == (502, "upstream_error")
    edge.assert_nothing_left()


# --- 10: what an upstream may answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 415, 422, 429, 500, 503])
def test_an_upstreams_no_to_the_request_passes_with_its_status(status: int) -> None:
    body = json.dumps(
        {"error": {"message": "no", "type": "t", "param": None, "code": "c"}}
    ).encode()
    edge = Edge(found=known()).call(CHAT).answer(status, body)
    assert (edge.status, edge.error["message"]) == (status, "no")
    assert edge.settlement.usage_source == "none"
    assert edge.settlement.cost_nano_usd == 0
    edge.assert_nothing_left()


@pytest.mark.parametrize("status", [301, 302, 307, 401, 402, 403, 407])
def test_an_upstreams_no_to_us_is_502(status: int) -> None:
    edge = Edge(found=known()).call(CHAT).answer(status, b"secret reason")
    assert (edge.status, edge.error["code"]) == (502, "upstream_refused_us")
    assert edge.header("x-gatehouse-upstream-status") == str(status)
    assert b"secret reason" not in edge.body
    edge.assert_nothing_left()


def test_an_error_that_echoes_our_credential_is_cleaned() -> None:
    echo = json.dumps({"error": {"message": "bad key " + UPSTREAM_KEY.decode()}}).encode()
    edge = Edge(found=known()).call(CHAT).answer(400, echo)
    assert UPSTREAM_KEY not in edge.body


@pytest.mark.parametrize(
    "usage",
    [None, -1, 1.5, "10", True, 10**30, {"prompt_tokens": -1, "completion_tokens": 3}],
)
def test_usage_that_cannot_be_believed_is_estimated_and_never_negative(usage: Any) -> None:
    answer = json.dumps({"choices": [{"message": {"content": "x" * 70}}], "usage": usage}).encode()
    settled = Edge(found=known()).call(CHAT).answer(200, answer).settlement
    assert settled.usage_source == "estimated"
    assert settled.usage.output >= 20
    assert settled.cost_nano_usd is not None
    assert settled.cost_nano_usd > 0


@pytest.mark.parametrize(
    ("read", "written", "charged", "source"),
    [
        (91, 14, (91, 14), "provider"),
        (92, 14, (92, 14), "provider"),
        (91, 15, (91, 15), "provider"),
        (10**9, 0, (10**9, 0), "provider"),
        (10**9 + 1, 5, (2, 20), "estimated"),
        (91, 2**53 - 1, (2, 20), "estimated"),
    ],
)
def test_usage_beyond_what_the_call_could_use_is_believed_and_flagged_up_to_all_reason(
    read: int, written: int, charged: tuple[int, int], source: str
) -> None:
    usage = {"prompt_tokens": read, "completion_tokens": written}
    answer = json.dumps({"choices": [{"message": {"content": "x" * 70}}], "usage": usage}).encode()
    call = {**CHAT, "max_tokens": 7, "n": 2}
    assert len(json.dumps(call)) == 91, "the bound of the input is the body's length"
    settled = Edge(found=known()).call(call).answer(200, answer).settlement
    assert (settled.usage_source, settled.overrun) == (source, (read, written) != (91, 14))
    assert settled.usage.output == charged[1]
    assert settled.usage.input == charged[0] or source == "estimated"


def test_a_cap_beyond_all_reason_is_journalled_like_any_other() -> None:
    dear = PriceTag(id=uuid4(), input=4_000 * 10**9, output=4_000 * 10**9)
    body = {**CHAT, "max_tokens": 999_999_999_999_999, "n": 128}
    edge = Edge(found=known(route(prices=((0, dear),)))).call(body)
    assert edge.intent.hold_nano_usd < 2**63
    assert len(encode(edge.intent)) > 0
    edge.answer(200, GOOD)
    edge.assert_nothing_left()


def test_an_explicit_zero_stays_zero() -> None:
    answer = json.dumps(
        {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
    ).encode()
    settled = Edge(found=known()).call(CHAT).answer(200, answer).settlement
    assert (settled.usage_source, settled.cost_nano_usd) == ("provider", 0)


def test_an_endless_answer_is_cut_off() -> None:
    edge = Edge(found=known()).call(CHAT)
    edge.exchange.upstream_head(200, [(b"content-type", b"application/json")])
    piece = b"x" * (1024 * 1024)
    for _ in range(MAX_ANSWER // len(piece) + 1):
        edge.exchange.upstream_bytes(piece)
    assert (edge.status, edge.aborted) == (502, 1)
    edge.assert_nothing_left()


def test_a_stream_that_dies_ends_with_one_error_event_and_no_done() -> None:
    edge = Edge(found=known()).call(STREAM).stream(chunk("ab"), chunk("cd"))
    edge.exchange.upstream_failed(UpstreamFailure(FailureKind.CLOSED, nothing_sent=False))
    events = [part for part in edge.body.split(b"\n\n") if part]
    assert events[:2] == [chunk("ab").strip(), chunk("cd").strip()]
    assert len(events) == 3
    assert b"upstream_error" in events[2]
    assert b"[DONE]" not in edge.body
    settled = edge.settlement
    assert (settled.usage_source, settled.error_code) == ("estimated", "upstream_error")
    assert settled.usage.output >= 2
    edge.assert_nothing_left()


def test_a_stream_without_its_end_mark_was_cut_even_if_it_ended_politely() -> None:
    edge = Edge(found=known()).call(STREAM).stream(chunk("a"))
    edge.exchange.upstream_end()
    assert b"upstream_error" in edge.body
    edge.assert_nothing_left()


def test_a_stream_cut_inside_a_character_relays_no_half_event() -> None:
    half = chunk("é")[:-8]
    edge = Edge(found=known()).call(STREAM).stream(chunk("a"), half)
    edge.exchange.upstream_failed(UpstreamFailure(FailureKind.CLOSED, nothing_sent=False))
    assert half not in edge.body
    edge.body.decode()


# --- ends that nobody asked for -----------------------------------------------------------------------------------------


def test_a_caller_who_leaves_early_pays_for_what_was_relayed() -> None:
    edge = Edge(found=known()).call(STREAM).stream(chunk("a" * 35))
    edge.exchange.client_gone()
    assert (edge.aborted, edge.was_cut) == (1, True)
    settled = edge.settlement
    assert (settled.status, settled.usage_source) == (499, "estimated")
    assert settled.usage.input >= 1
    assert settled.usage.output >= 10
    edge.assert_nothing_left()


def test_a_caller_who_leaves_before_the_first_byte_pays_for_the_prompt() -> None:
    edge = Edge(found=known()).call(CHAT)
    edge.exchange.client_gone()
    assert edge.settlement.usage.input >= 1
    assert edge.settlement.usage_source == "estimated"
    edge.assert_nothing_left()


def test_a_caller_who_leaves_before_anything_was_sent_pays_nothing() -> None:
    edge = Edge(found=known(), sends=False).call(CHAT)
    edge.exchange.client_gone()
    assert (edge.settlement.usage_source, edge.settlement.cost_nano_usd) == ("none", 0)
    edge.assert_nothing_left()


def test_a_caller_who_leaves_while_the_limits_are_asked_gives_its_claim_back() -> None:
    """Else whoever repeats the call under the same Idempotency-Key would wait for an answer that nobody makes."""
    edge = Edge(found=known())
    edge.take = lambda want: None  # type: ignore[method-assign] # no answer yet
    key = (b"authorization", b"Bearer " + KEY.encode())
    edge.call(CHAT, headers=[key, (b"idempotency-key", b"order-17")])
    claimed = Fresh(uuid4(), edge.wishes[0].tenant_id, (1, Secret(bytes(32))))
    edge.exchange.claimed(claimed)
    edge.exchange.client_gone()
    assert (edge.refusal.status, edge.refusal.idempotency) == (499, claimed.id)
    edge.assert_nothing_left()


def test_a_claim_goes_back_where_the_journal_cannot_tell_of_it() -> None:
    edge = Edge(found=known(), journal_full_after=0)
    key = (b"authorization", b"Bearer " + KEY.encode())
    edge.call(CHAT, headers=[key, (b"idempotency-key", b"order-17")])
    claimed = Fresh(uuid4(), edge.wishes[0].tenant_id, (1, Secret(bytes(32))))
    edge.exchange.claimed(claimed)
    assert (edge.status, edge.error["code"]) == (503, "ledger_unavailable")
    assert edge.unclaimed == [claimed.id]


def test_the_seat_is_taken_until_the_answer_is_written() -> None:
    edge = Edge(found=known(who=identity(key_limits=ONE_AT_ONCE)), writes=False).call(CHAT)
    edge.answer(200, GOOD)
    assert edge.exchange.is_over
    assert edge.house.slots.free == edge.slots - 1
    second = Edge(found=edge.found, limits=edge.leases).call(CHAT)
    edge.wait()
    assert second.status == 429
    edge.exchange.leave()
    edge.assert_nothing_left()


def test_usage_that_was_seen_before_the_caller_left_is_the_truth() -> None:
    edge = Edge(found=known()).call(STREAM).stream(chunk("a"), LAST)
    edge.exchange.client_gone()
    assert (edge.settlement.usage, edge.settlement.usage_source) == (Usage(10, 0, 5, 0), "provider")


def test_a_revoked_key_ends_its_running_stream() -> None:
    edge = Edge(found=known()).call(STREAM).stream(chunk("a"))
    edge.exchange.revoked()
    assert b"invalid_api_key" in edge.body
    assert b"[DONE]" not in edge.body
    assert edge.aborted == 1
    assert edge.settlement.attempts[0].outcome == "revoked"
    edge.assert_nothing_left()


def test_a_revoked_key_that_waits_for_an_answer_gets_401() -> None:
    edge = Edge(found=known()).call(CHAT)
    edge.exchange.revoked()
    assert edge.status == 401
    edge.assert_nothing_left()


def test_a_drained_stream_ends_with_an_error_event() -> None:
    edge = Edge(found=known()).call(STREAM).stream(chunk("a"))
    edge.exchange.drain()
    assert b"not_ready" in edge.body
    edge.assert_nothing_left()


def test_nothing_happens_after_the_end() -> None:
    edge = Edge(found=known()).call(CHAT).answer(200, GOOD)
    before = list(edge.records)
    edge.exchange.client_gone()
    edge.exchange.revoked()
    edge.exchange.drain()
    edge.exchange.upstream_bytes(b"more")
    edge.exchange.upstream_failed(UpstreamFailure(FailureKind.CLOSED, nothing_sent=False))
    assert edge.records == before


# --- bodies kept ----------------------------------------------------------------------------------------------------------


def test_bodies_are_sealed_before_they_reach_the_journal() -> None:
    edge = Edge(found=known(content=True)).call(CHAT).answer(200, GOOD)
    sealed = edge.settlement.content
    assert sealed is not None
    assert b"hello" not in sealed
    tenant = edge.intent.caller.tenant_id
    opened = sealing.unseal(
        Secret(b"c" * 32), contents.place(tenant, edge.intent.request_id), sealed
    )
    bodies = msgspec.msgpack.decode(opened.reveal(), type=contents.Bodies)
    assert b"hello" in bodies.request
    assert bodies.response == GOOD


def test_bodies_are_not_kept_unless_asked_for() -> None:
    assert Edge(found=known()).call(CHAT).answer(200, GOOD).settlement.content is None


# --- any order of events leaves nothing behind -----------------------------------------------------------------------------

EVENTS = [
    "head200",
    "head503",
    "stream",
    "bytes",
    "usage",
    "done",
    "end",
    "fail",
    "sent_fail",
    "gone",
    "revoked",
    "drain",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=12), st.booleans(), st.integers(1, 3))
def test_whatever_happens_in_whatever_order_is_settled_once(
    events: list[str], streamed: bool, targets: int
) -> None:
    edge = Edge(found=known(route("m", *[upstream(str(i)) for i in range(targets)])))
    edge.call(STREAM if streamed else CHAT)
    say = {
        "head200": lambda: edge.exchange.upstream_head(
            200, [(b"content-type", b"application/json")]
        ),
        "head503": lambda: edge.exchange.upstream_head(503, []),
        "stream": lambda: edge.exchange.upstream_head(
            200, [(b"content-type", b"text/event-stream")]
        ),
        "bytes": lambda: edge.exchange.upstream_bytes(chunk("x")),
        "usage": lambda: edge.exchange.upstream_bytes(LAST),
        "done": lambda: edge.exchange.upstream_bytes(DONE),
        "end": edge.exchange.upstream_end,
        "fail": lambda: edge.exchange.upstream_failed(UpstreamFailure(FailureKind.CONNECT, True)),
        "sent_fail": lambda: edge.exchange.upstream_failed(
            UpstreamFailure(FailureKind.CLOSED, False)
        ),
        "gone": edge.exchange.client_gone,
        "revoked": edge.exchange.revoked,
        "drain": edge.exchange.drain,
    }
    heads = 0
    for event in events:
        if event in {"head200", "stream"}:
            heads += 1
            if heads > 1:  # no transport gives two heads
                continue
        say[event]()
    edge.exchange.client_gone()
    edge.assert_nothing_left()
    assert edge.settlement.cost_nano_usd is not None
    assert edge.settlement.request_id != uuid4()
