"""Calls: their log rows, and behind one of them its attempts and money lines."""

import base64
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

from gateway import why
from gateway.api.bodies.common import identity, milliseconds, moment, usd
from gateway.why import Check, Limit
from providers.models import Price
from usage.contents import Bodies
from usage.estimates import estimate
from usage.models import Attempt, LedgerEntry, RequestLog
from usage.records import Why, why_of

_LONGEST_CHARACTER: Final = 4


class Legible(NamedTuple):
    """Bytes as JSON can carry them."""

    text: str
    encoding: Literal["text", "base64"]


def log_body(row: RequestLog) -> dict[str, Any]:
    """`request_id` is what the caller saw, and callers may choose it; `id` is ours and names one call."""
    return {
        "id": str(row.request_id),
        "object": "log",
        "request_id": row.correlation_id,
        "created_at": moment(row.created_at),
        "kind": row.kind,
        "tenant": row.tenant,
        "project": row.project or None,
        "account": row.account or None,
        "key_id": str(row.key_id),
        "key_prefix": row.key_prefix,
        "team": row.team or None,
        "model": row.model or None,
        "provider": row.provider or None,
        "target": row.target or None,
        "dialect_in": row.dialect_in,
        "dialect_out": row.dialect_out or None,
        "stream": row.stream,
        "status": row.status,
        "error_code": row.error_code or None,
        "dispatched": row.dispatched,
        "attempts": row.attempts,
        "tokens_in": row.tokens_in,
        "tokens_cached": row.tokens_cached,
        "tokens_out": row.tokens_out,
        "tokens_reasoning": row.tokens_reasoning,
        "cost_usd": usd(row.cost_nano_usd),
        "cost_estimate_usd": usd(estimate_of(row)),
        "usage_source": row.usage_source,
        "duration_ms": milliseconds(row.duration_us),
        "ttfb_ms": milliseconds(row.ttfb_us),
        "overhead_ms": milliseconds(row.overhead_us),
        "idempotent_replay": row.idempotent_replay,
        "trace_id": row.trace_id.hex if row.trace_id else None,
    }


def estimate_of(row: RequestLog) -> int | None:
    """Nano-USD at the default price, of a call whose cost nobody knows; of any other None."""
    return estimate(row.tokens_in, row.tokens_out) if row.cost_nano_usd is None else None


def why_card(
    row: RequestLog,
    attempts: Iterable[Attempt],
    lines: Iterable[LedgerEntry],
    price: Price | None,
) -> dict[str, Any]:
    """The log row with what led to it. `attempts` there is the list; their number is its length."""
    known = why_of(row.why)
    return {
        **log_body(row),
        "object": "why_card",
        "tenant_id": str(row.tenant_id),
        "project_id": identity(row.project_id),
        "account_id": identity(row.account_id),
        "provider_id": identity(row.provider_id),
        **reasons_body(why.checks_of_row(row, known), known),
        "attempts": [_attempt_body(attempt) for attempt in attempts],
        "price": price and {"id": str(price.pk), "effective_from": moment(price.effective_from)},
        "ledger": [_line_body(line) for line in lines],
    }


def reasons_body(checks: Iterable[Check], known: Why | None) -> dict[str, Any]:
    """What a call was asked on its way in. `limits` and `candidates` are null where nothing was kept of them."""
    return {
        "checks": checks_body(checks),
        "limits": None if known is None else [_limit_body(it) for it in why.limits_of(known)],
        "candidates": None if known is None else list(known.candidates),
    }


def checks_body(checks: Iterable[Check]) -> list[dict[str, str]]:
    return [
        {"check": each.name, "outcome": each.outcome, "sentence": each.sentence} for each in checks
    ]


def _limit_body(limit: Limit) -> dict[str, Any]:
    write = usd if limit.unit == "usd" else int
    return {
        "level": limit.level,
        "what": limit.what,
        "unit": limit.unit,
        "limit": write(limit.limit) if limit.limit else None,
        "before": write(limit.before),
        "after": write(limit.after),
    }


def content_body(row: RequestLog, bodies: Bodies) -> dict[str, Any]:
    """Both sides, each with how its text is to be read; `truncated` names those that were longer than what is kept."""
    request = legible(bodies.request, is_cut="request" in bodies.truncated)
    response = legible(bodies.response, is_cut="response" in bodies.truncated)
    return {
        "id": str(row.request_id),
        "object": "log_content",
        "request_id": row.correlation_id,
        "request": request.text,
        "request_encoding": request.encoding,
        "response": response.text,
        "response_encoding": response.encoding,
        "truncated": list(bodies.truncated),
    }


def legible(body: bytes, *, is_cut: bool) -> Legible:
    """As UTF-8 or, if it is none, in base64. Where a body was cut, half a character at its end is left out."""
    for left_out in range(_LONGEST_CHARACTER if is_cut else 1):
        try:
            return Legible(body[: len(body) - left_out].decode(), "text")
        except UnicodeDecodeError:
            continue
    return Legible(base64.b64encode(body).decode(), "base64")


def _attempt_body(attempt: Attempt) -> dict[str, Any]:
    return {
        "n": attempt.n,
        "started_at": moment(attempt.started_at),
        "provider_id": identity(attempt.provider_id),
        "provider": attempt.provider,
        "target": attempt.target,
        "dialect_out": attempt.dialect_out,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "duration_ms": milliseconds(attempt.duration_us),
        "ttfb_ms": milliseconds(attempt.ttfb_us),
    }


def _line_body(line: LedgerEntry) -> dict[str, Any]:
    return {
        "line": line.line,
        "month": line.month,
        "created_at": moment(line.created_at),
        "model": line.model,
        "tokens_in": line.tokens_in,
        "tokens_cached": line.tokens_cached,
        "tokens_out": line.tokens_out,
        "tokens_reasoning": line.tokens_reasoning,
        "cost_usd": usd(line.cost_nano_usd),
        "price_id": identity(line.price_id),
        "usage_source": line.usage_source,
        "dispatched": line.dispatched,
        "overrun": line.overrun,
        "reason": line.reason or None,
    }
