"""Why a call went as it did is kept with it, and told before it is made to who asks for a dry run."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway import why
from gateway.snapshot import Known
from providers.routing import Catalogue, OwnRoutes
from tenants.limits import LimitSet, Rate
from tests.gateway.relay.edge import KEY, Edge, identity, known, route
from tests.gateway.relay.test_exchange import CHAT, GOOD, SIXTY
from usage.records import Intent, Refusal, Why, decode, encode, why_of, why_text

BEARER = (b"authorization", b"Bearer " + KEY.encode())
DRY = [BEARER, (b"x-gatehouse-explain", b"dry-run")]
CHECKS = [
    *("key", "request", "scope", "addresses", "models", "route", "idempotency", "limits"),
    "journal",
]


def caller(**changes: Any) -> Known:
    return known(who=identity(**changes))


def outcomes(checks: list[dict[str, str]]) -> str:
    """A letter for each: p(assed), r(efused), n(ot asked)."""
    assert [each["check"] for each in checks] == CHECKS
    return "".join(each["outcome"][0] for each in checks)


def dry(found: Any, body: Any = CHAT, headers: Any = None) -> dict[str, Any]:
    edge = Edge(found=found).call(body, headers or DRY)
    assert edge.status == 200
    assert edge.header("content-type") == "application/json"
    # Nobody was asked, nothing was taken, nothing written down.
    assert edge.requests == []
    assert edge.records == []
    edge.assert_nothing_left()
    return dict(json.loads(edge.body))


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_call_keeps_which_lists_were_asked_and_who_was_considered() -> None:
    narrow = caller(allowed_models=(("m",),), allowed_capabilities=frozenset(["chat"]))
    edge = Edge(found=narrow).call(CHAT).answer(200, GOOD)
    kept = edge.intent.why
    assert kept is not None
    assert (kept.checked, kept.candidates) == ("mcb", ("first/up-m",))
    text = why_text(kept)
    assert why_of(text) == kept
    assert len(text) < 100


def test_a_refused_call_keeps_how_far_it_came() -> None:
    refusals = {
        "scope_missing": Edge(found=caller(scopes=frozenset())).call(CHAT),
        "invalid_request": Edge(found=known()).call(b"{"),
        "model_not_found": Edge(found=known()).call({**CHAT, "model": "none"}),
    }
    for code, edge in refusals.items():
        (record,) = edge.of_kind(Refusal)
        assert record.error_code == code
        assert record.why is not None
        assert (record.why.checked, record.why.candidates) == (
            "" if code == "invalid_request" else "b",
            (),
        )


def test_records_from_before_reasons_were_kept_are_read_as_ever() -> None:
    edge = Edge(found=known()).call(CHAT)
    intent = edge.of_kind(Intent)[0]
    assert decode(encode(intent)) == intent
    assert why_of("") is None
    assert why_of("[1,2,3]") is None
    assert why_of('["ab"]') == Why("ab")
    assert why.checks_of(None, "")[0].outcome == "passed"


# --- the dry run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_would_be_done_and_does_nothing() -> None:
    edge = Edge(found=caller(key_limits=SIXTY))
    first = edge.call(CHAT, DRY)
    card = json.loads(first.body)
    assert (first.status, first.requests, first.records) == (200, [], [])
    first.assert_nothing_left()
    assert outcomes(card["checks"]) == "ppppppnpn"
    assert (card["dry_run"], card["status"], card["model"]) == (True, None, "m")
    assert card["candidates"] == ["first/up-m"]
    assert card["attempts"] == card["ledger"] == []
    assert card["bound"]["tokens_in"] > 0
    assert card["price_id"]
    (limit,) = card["limits"]
    assert (limit["level"], limit["what"], limit["limit"]) == ("key", "requests", 60)
    assert limit["after"] == limit["before"] - 1


def test_a_dry_run_leaves_the_limits_as_they_were() -> None:
    found = caller(key_limits=LimitSet(rates=(Rate(1, 86_400),)))
    first = Edge(found=found)
    for _ in range(3):
        card = json.loads(
            Edge(found=found, limits=first.leases, clock=first.clock).call(CHAT, DRY).body
        )
        assert card["status"] is None
    first.call(CHAT).answer(200, GOOD)
    assert first.status == 200
    card = json.loads(
        Edge(found=found, limits=first.leases, clock=first.clock).call(CHAT, DRY).body
    )
    assert (card["status"], card["error_code"]) == (429, "rate_limit_exceeded")
    assert outcomes(card["checks"]) == "ppppppnrn"
    (said,) = [it["sentence"] for it in card["checks"] if it["outcome"] == "refused"]
    assert said == "A level does not have enough left, or the model has no price."
    (limit,) = card["limits"]
    assert (limit["level"], limit["limit"], limit["after"]) == ("key", 1, 0)


@pytest.mark.parametrize(
    ("found", "body", "code", "passed"),
    [
        (caller(scopes=frozenset()), CHAT, "scope_missing", "pprnnnnnn"),
        (caller(allowed_models=(("other",),)), CHAT, "model_not_allowed", "pppprnnnn"),
        (known(), {**CHAT, "model": "none"}, "model_not_found", "ppppprnnn"),
        (known(), b"{", "invalid_request", "prnnnnnnn"),
        (
            replace(
                known(),
                shared=Catalogue([replace(route(), targets=())]),
                own=OwnRoutes(Catalogue(), None),
            ),
            CHAT,
            "not_ready",
            "ppppprnnn",
        ),
    ],
    ids=["scope", "model", "route", "body", "nobody-serves"],
)
def test_a_dry_run_of_what_would_be_refused_says_by_what(
    found: Any, body: Any, code: str, passed: str
) -> None:
    card = dry(found, body)
    assert card["error_code"] == code
    assert card["message"]
    assert outcomes(card["checks"]) == passed


def test_a_dry_run_needs_a_key_and_its_header_means_nothing_else() -> None:
    edge = Edge(found=known()).call(CHAT, [(b"x-gatehouse-explain", b"dry-run")])
    assert (edge.status, edge.error["code"]) == (401, "missing_api_key")
    edge = Edge(found=known()).call(CHAT, [BEARER, (b"x-gatehouse-explain", b"wet")])
    assert (edge.status, edge.error["param"]) == (400, "x-gatehouse-explain")
    assert edge.requests == []
