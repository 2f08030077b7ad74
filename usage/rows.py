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
    return LOGS.row(
        month=intent.month,
        request_id=intent.request_id,
        **_caller(intent.caller),
        correlation_id=intent.correlation_id,
        created_at=intent.received_at,
        kind=intent.kind,
        model=_model(intent.model),
        provider_id=last.provider_id if last else NOBODY,
        provider=last.provider if last else "",
        target=last.target if last else "",
        dialect_in=intent.dialect_in,
        dialect_out=last.dialect_out if last else "",
        stream=intent.stream,
        status=settlement.status,
        error_code=settlement.error_code or "",
        dispatched=settlement.dispatched,
        attempts=len(call.attempts),
        tokens_in=usage.input,
        tokens_cached=usage.cached,
        tokens_out=usage.output,
        tokens_reasoning=usage.reasoning,
        cost_nano_usd=settlement.cost_nano_usd,
        usage_source=settlement.usage_source,
        duration_us=settlement.duration_us,
        ttfb_us=settlement.ttfb_us,
        overhead_us=settlement.overhead_us,
        idempotent_replay=False,
        why=why_text(intent.why),
    )


def refusal_row(refusal: Refusal) -> Row:
    """The log row of a call that was refused, or answered again: nothing was sent, and it costs nothing (0; null would say:
    price unknown).
    """
    return LOGS.row(
        month=refusal.month,
        request_id=refusal.request_id,
        **_caller(refusal.caller),
        correlation_id=refusal.correlation_id,
        created_at=refusal.received_at,
        kind=refusal.kind,
        model=_model(refusal.model),
        provider_id=NOBODY,
        provider="",
        target="",
        dialect_in=refusal.dialect_in,
        dialect_out="",
        stream=refusal.stream,
        status=refusal.status,
        error_code=refusal.error_code,
        dispatched="no",
        attempts=0,
        tokens_in=0,
        tokens_cached=0,
        tokens_out=0,
        tokens_reasoning=0,
        cost_nano_usd=0,
        usage_source="none",
        duration_us=refusal.duration_us,
        ttfb_us=None,
        overhead_us=None,
        idempotent_replay=refusal.idempotent_replay,
        why=why_text(refusal.why),
    )


def entry_row(call: Call, settlement: Settlement) -> Row:
    """Money line 1 of a call of which something was, or may have been, sent."""
    intent = call.intent
    usage = credible(settlement.usage)
    return ENTRIES.row(
        month=intent.month,
        request_id=intent.request_id,
        **_caller(intent.caller),
        line=1,
        created_at=settlement.settled_at,
        day=day_of(intent.received_at),
        model=_model(intent.model),
        model_id=intent.model_id or NOBODY,
        provider_id=call.attempts[-1].provider_id if call.attempts else NOBODY,
        tokens_in=usage.input,
        tokens_cached=usage.cached,
        tokens_out=usage.output,
        tokens_reasoning=usage.reasoning,
        tokens_cache_write=usage.cache_write,
        images=usage.images,
        audio_ms=usage.audio_ms,
        cost_nano_usd=settlement.cost_nano_usd,
        price_id=settlement.price_id,
        usage_source=settlement.usage_source,
        dispatched=settlement.dispatched,
        overrun=settlement.overrun,
        correction_id=NOBODY,
        reason="",
        corrected_by="",
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
        **_caller(intent.caller),
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


def _caller(caller: Caller) -> dict[str, UUID | str]:
    return {
        "tenant_id": caller.tenant_id,
        "tenant": caller.tenant,
        "project_id": caller.project_id or NOBODY,
        "project": caller.project,
        "account_id": caller.account_id or NOBODY,
        "account": caller.account,
        "key_id": caller.key_id,
        "key_prefix": caller.key_prefix,
        "team": caller.team,
    }


def _model(name: str) -> str:
    """A caller may send any text as a model's name; PostgreSQL stores no NUL."""
    return name[:_MODEL_LENGTH].replace("\0", "\N{REPLACEMENT CHARACTER}")
