"""What a call looks like in each table: one function per table, from the call's records to a row."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from usage.calls import Call
from usage.models import NOBODY, Attempt, Hold, LedgerEntry, RequestContent, RequestLog, Rollup
from usage.pricing import credible
from usage.records import AttemptOutcome, Caller, Refusal, Settlement, why_text
from usage.tables import MAX_SUM, Row, Table
from usage.windows import day_of

#: The outcome of an attempt that nobody saw end.
UNKNOWN: Final = "unknown"
#: Characters of a model's name; it is the caller's text, and the tables take no more.
_MODEL_LENGTH: Final = 256

LOGS = Table(RequestLog)
ENTRIES = Table(LedgerEntry)
ATTEMPTS = Table(Attempt)
HOLDS = Table(Hold)
CONTENTS = Table(RequestContent)
#: What `_caller` gives.
_CALLER: Final = (
    *("tenant_id", "tenant", "project_id", "project", "account_id", "account"),
    *("key_id", "key_prefix", "team"),
)
#: The rows that every call has are filled by position: by name it takes three times as long.
_log = LOGS.by_position(
    "month",
    "request_id",
    *_CALLER,
    *("correlation_id", "created_at", "kind", "model", "provider_id", "provider", "target"),
    *("dialect_in", "dialect_out", "stream", "status", "error_code", "dispatched"),
    *("attempts", "tokens_in", "tokens_cached", "tokens_out", "tokens_reasoning"),
    *("cost_nano_usd", "usage_source", "duration_us", "ttfb_us", "overhead_us"),
    *("idempotent_replay", "why"),
)
_entry = ENTRIES.by_position(
    "month",
    "request_id",
    *_CALLER,
    *("line", "created_at", "day", "model", "model_id", "provider_id", "tokens_in"),
    *("tokens_cached", "tokens_out", "tokens_reasoning", "tokens_cache_write", "images"),
    *("audio_ms", "cost_nano_usd", "price_id", "usage_source", "dispatched", "overrun"),
    *("correction_id", "reason", "corrected_by"),
)
_ROLLUP_KEY: Final = (
    "month",
    "tenant_id",
    "project_id",
    "account_id",
    "key_id",
    "model",
    "model_id",
    "provider_id",
)
_SUMS: Final = (
    "requests",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "tokens_reasoning",
    "cost_nano_usd",
    "unpriced_requests",
    "estimated_requests",
)
_NAMES: Final = ("tenant", "project", "account", "key_prefix", "team")
ROLLUPS = Table(Rollup, key=_ROLLUP_KEY, sums=_SUMS, renewed=_NAMES)


def log_row(call: Call, settlement: Settlement) -> Row:
    """The log row of a settled call; provider and target are those of its last attempt."""
    intent = call.intent
    last = call.attempts[-1] if call.attempts else None
    usage = credible(settlement.usage)
    return _log(
        intent.month,
        intent.request_id,
        *_caller(intent.caller),
        intent.correlation_id,
        intent.received_at,
        intent.kind,
        _model(intent.model),
        last.provider_id if last else NOBODY,
        last.provider if last else "",
        last.target if last else "",
        intent.dialect_in,
        last.dialect_out if last else "",
        intent.stream,
        settlement.status,
        settlement.error_code or "",
        settlement.dispatched,
        len(call.attempts),
        usage.input,
        usage.cached,
        usage.output,
        usage.reasoning,
        settlement.cost_nano_usd,
        settlement.usage_source,
        settlement.duration_us,
        settlement.ttfb_us,
        settlement.overhead_us,
        False,  # idempotent_replay
        why_text(intent.why),
    )


def refusal_row(refusal: Refusal) -> Row:
    """The log row of a call that was refused, or answered again: nothing was sent, and it costs nothing (0; null would say:
    price unknown).
    """
    return _log(
        refusal.month,
        refusal.request_id,
        *_caller(refusal.caller),
        refusal.correlation_id,
        refusal.received_at,
        refusal.kind,
        _model(refusal.model),
        NOBODY,  # provider_id
        "",  # provider
        "",  # target
        refusal.dialect_in,
        "",  # dialect_out
        refusal.stream,
        refusal.status,
        refusal.error_code,
        "no",  # dispatched
        0,  # attempts
        0,  # tokens_in
        0,  # tokens_cached
        0,  # tokens_out
        0,  # tokens_reasoning
        0,  # cost_nano_usd
        "none",  # usage_source
        refusal.duration_us,
        None,  # ttfb_us
        None,  # overhead_us
        refusal.idempotent_replay,
        why_text(refusal.why),
    )


def entry_row(call: Call, settlement: Settlement) -> Row:
    """Money line 1 of a call of which something was, or may have been, sent."""
    intent = call.intent
    usage = credible(settlement.usage)
    return _entry(
        intent.month,
        intent.request_id,
        *_caller(intent.caller),
        1,  # line
        settlement.settled_at,
        day_of(intent.received_at),
        _model(intent.model),
        intent.model_id or NOBODY,
        call.attempts[-1].provider_id if call.attempts else NOBODY,
        usage.input,
        usage.cached,
        usage.output,
        usage.reasoning,
        usage.cache_write,
        usage.images,
        usage.audio_ms,
        settlement.cost_nano_usd,
        settlement.price_id,
        settlement.usage_source,
        settlement.dispatched,
        settlement.overrun,
        NOBODY,  # correction_id
        "",  # reason
        "",  # corrected_by
    )


def attempt_rows(call: Call, settlement: Settlement) -> list[Row]:
    """One row per attempt; one whose end the settlement does not tell has the outcome `unknown`."""
    outcomes = {outcome.n: outcome for outcome in settlement.attempts}
    rows = []
    for started in call.attempts:
        outcome = outcomes.get(started.n) or AttemptOutcome(started.n, UNKNOWN, 0)
        rows.append(
            ATTEMPTS.row(
                month=started.month,
                request_id=started.request_id,
                n=started.n,
                started_at=started.started_at,
                provider_id=started.provider_id,
                provider=started.provider,
                target=started.target,
                dialect_out=started.dialect_out,
                credential_id=started.credential_id,
                price_id=started.price_id,
                outcome=outcome.outcome,
                status=outcome.status,
                duration_us=None if outcome.outcome == UNKNOWN else outcome.duration_us,
                ttfb_us=outcome.ttfb_us,
            )
        )
    return rows


def hold_row(call: Call) -> Row:
    """What an open call may still use."""
    intent = call.intent
    return HOLDS.row(
        month=intent.month,
        request_id=intent.request_id,
        **dict(zip(_CALLER, _caller(intent.caller), strict=True)),
        created_at=intent.received_at,
        tokens=intent.hold_tokens,
        nano_usd=intent.hold_nano_usd,
        model=_model(intent.model),
    )


def content_row(call: Call, settlement: Settlement) -> Row:
    """The sealed bodies of a call that is to keep them."""
    return CONTENTS.row(
        month=call.intent.month,
        request_id=call.intent.request_id,
        tenant_id=call.intent.caller.tenant_id,
        created_at=call.intent.received_at,
        sealed=settlement.content,
    )


def rollup_rows(entries: Iterable[Row]) -> list[Row]:
    """The sums of these money lines, none above `MAX_SUM`, one row per month, caller, model and provider, sorted by those."""
    sums: dict[tuple[Any, ...], Row] = {}
    for entry in entries:
        key = rollup_place(entry)
        row = sums.get(key)
        if row is None:
            row = sums[key] = empty_rollup(entry)
        row.requests += 1
        row.tokens_in += entry.tokens_in
        row.tokens_cached += entry.tokens_cached
        row.tokens_out += entry.tokens_out
        row.tokens_reasoning += entry.tokens_reasoning
        row.cost_nano_usd += entry.cost_nano_usd or 0
        row.unpriced_requests += entry.cost_nano_usd is None
        row.estimated_requests += entry.usage_source == "estimated"
    for row in sums.values():
        for name in _SUMS:
            setattr(row, name, min(getattr(row, name), MAX_SUM))
    return [sums[key] for key in sorted(sums)]


def rollup_place(entry: Any) -> tuple[Any, ...]:
    """Which sums a money line (a row or a `LedgerEntry`) belongs to: hashed at once, and in the order in which all write them."""
    return (
        entry.month,
        entry.tenant_id.int,
        entry.project_id.int,
        entry.account_id.int,
        entry.key_id.int,
        entry.model,
        entry.model_id.int,
        entry.provider_id.int,
    )


def empty_rollup(entry: Any) -> Row:
    """The sums that a money line (a row or a `LedgerEntry`) belongs to, all nought."""
    copied = {name: getattr(entry, name) for name in (*_ROLLUP_KEY, *_NAMES)}
    return ROLLUPS.row(**copied, **dict.fromkeys(_SUMS, 0))


def _caller(caller: Caller) -> tuple[UUID | str, ...]:
    return (
        caller.tenant_id,
        caller.tenant,
        caller.project_id or NOBODY,
        caller.project,
        caller.account_id or NOBODY,
        caller.account,
        caller.key_id,
        caller.key_prefix,
        caller.team,
    )


def _model(name: str) -> str:
    """A caller may send any text as a model's name; PostgreSQL stores no NUL."""
    return name[:_MODEL_LENGTH].replace("\0", "\N{REPLACEMENT CHARACTER}")
