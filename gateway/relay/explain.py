"""The dry run: a call's why-card, told before the call is made. Nothing is sent, charged or written down, and what is taken of
limits to see what is left of them goes back before the answer.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway import why
from gateway.api.bodies.calls import reasons_body
from gateway.api.bodies.common import usd
from gateway.relay import answers, reasons
from gateway.relay.errors import Problem
from gateway.relay.facts import Head
from gateway.relay.limiting import Limiting
from gateway.relay.ports import Actions
from gateway.snapshot import Known
from providers.dialects.base import CallBody
from providers.routing import Plan
from usage.records import Taken


class Run(NamedTuple):
    """How far a dry run came. `taken`: what the limits said; None: they were not asked. `problem` None: it would be sent."""

    head: Head
    known: Known
    call: CallBody | None
    plan: Plan | None
    limiting: Limiting | None
    taken: Sequence[Taken] | None
    problem: Problem | None


def answer(actions: Actions, run: Run) -> None:
    """Tell what would have become of the call."""
    body = json.dumps(card(run), ensure_ascii=False).encode()
    answers.whole(actions, 200, answers.labels(run.head), body)


def card(run: Run) -> dict[str, Any]:
    call, problem, caller = run.call, run.problem, run.known.caller
    targets = run.limiting.targets if run.limiting else run.plan.targets if run.plan else ()
    lists = reasons.lists(run.known.identity)
    checked = lists if call is None else lists + reasons.READ
    found = reasons.why(checked, reasons.names(targets), run.taken or ())
    price = run.limiting.price if run.limiting else None
    checks = why.checks_of(found, "" if problem is None else problem.code)
    return {
        "object": "why_card",
        "dry_run": True,
        "request_id": run.head.correlation_id,
        "tenant": caller.tenant,
        "project": caller.project or None,
        "account": caller.account or None,
        "key_id": str(caller.key_id),
        "key_prefix": caller.key_prefix,
        "team": caller.team or None,
        "model": call.model if call is not None else None,
        "dialect_in": run.head.asked.endpoint.dialect.NAME,
        "stream": call.stream if call is not None else None,
        "status": None if problem is None else problem.status,
        "error_code": None if problem is None else problem.code,
        "message": None if problem is None else problem.message,
        **reasons_body(why.of_a_dry_run(checks), found),
        "bound": _bound(run.limiting),
        "price_id": None if price is None else str(price.id),
        "attempts": [],
        "ledger": [],
    }


def _bound(limiting: Limiting | None) -> dict[str, Any] | None:
    """What the call could use at most, and cost; 0 tokens: nothing bounds them."""
    if limiting is None:
        return None
    bound = limiting.bound
    cost = None if limiting.price is None else usd(bound.nano_usd)
    return {"tokens_in": bound.tokens_in, "tokens_out": bound.tokens_out, "cost_usd": cost}
