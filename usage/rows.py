"""What calls look like in each table: one function per table, from the records of calls that are alike to a block of rows."""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from usage.alike import UNKNOWN, Ended, Try
from usage.calls import Call
from usage.models import NOBODY, Attempt, Hold, LedgerEntry, RequestContent, RequestLog
from usage.records import Caller, Refusal
from usage.sums import Portion, Totals, Whose
from usage.tables import Block, Table
from usage.windows import day_of

#: Characters of a model's name; it is the caller's text, and the tables take no more.
_MODEL_LENGTH: Final = 256
#: What `_caller` gives.
_CALLER: Final = (
    *("tenant_id", "tenant", "project_id", "project", "account_id", "account"),
    *("key_id", "key_prefix", "team"),
)
LOGS: Final = Table(
    RequestLog,
    shared=(
        *("month", *_CALLER, "kind", "model", "provider_id", "provider", "target"),
        *("dialect_in", "dialect_out", "stream", "status", "error_code", "dispatched"),
        *("attempts", "usage_source", "idempotent_replay"),
    ),
    own=(
        *("request_id", "correlation_id", "created_at", "tokens_in", "tokens_cached"),
        *("tokens_out", "tokens_reasoning", "cost_nano_usd", "duration_us", "ttfb_us"),
        *("overhead_us", "why", "trace_id"),
    ),
    documents=("why",),
)
ENTRIES: Final = Table(
    LedgerEntry,
    shared=(
        *("month", *_CALLER, "line", "day", "model", "model_id", "provider_id", "images"),
        *("audio_ms", "price_id", "usage_source", "dispatched", "overrun", "correction_id"),
        *("reason", "corrected_by"),
    ),
    own=(
        *("request_id", "created_at", "tokens_in", "tokens_cached", "tokens_out"),
        *("tokens_reasoning", "tokens_cache_write", "cost_nano_usd"),
    ),
)
ATTEMPTS: Final = Table(
    Attempt,
    shared=(
        *("month", "n", "provider_id", "provider", "target", "dialect_out"),
        *("credential_id", "price_id", "outcome", "status"),
    ),
    own=("request_id", "started_at", "duration_us", "ttfb_us"),
)
HOLDS: Final = Table(
    Hold,
    own=(
        "month",
        "request_id",
        *_CALLER,
        "created_at",
        "tokens",
        "nano_usd",
        "model",
        "provider_id",
    ),
)
CONTENTS: Final = Table(
    RequestContent, own=("month", "request_id", "tenant_id", "created_at", "sealed")
)


def log_block(calls: Sequence[Ended]) -> Block:
    """The log rows of settled calls; provider and target are those of the last attempt."""
    intent, last, end = calls[0].intent, calls[0].last, calls[0].end
    shared = (
        intent.month,
        *_caller(intent.caller),
        intent.kind,
        _model(intent.model),
        last.provider_id,
        last.provider,
        last.target,
        intent.dialect_in,
        last.dialect_out,
        intent.stream,
        end.status,
        end.error_code or "",
        end.dispatched,
        calls[0].attempts,
        end.usage_source,
        False,  # idempotent_replay
    )
    intents = [it.intent for it in calls]
    usages = [it.usage for it in calls]
    ends = [it.end for it in calls]
    own = (
        [it.request_id for it in intents],
        [it.correlation_id for it in intents],
        [it.received_at for it in intents],
        [it.input for it in usages],
        [it.cached for it in usages],
        [it.output for it in usages],
        [it.reasoning for it in usages],
        [it.cost_nano_usd for it in ends],
        [it.duration_us for it in ends],
        [it.ttfb_us for it in ends],
        [it.overhead_us for it in ends],
        [it.why for it in intents],
        [it.trace_id for it in intents],
    )
    return Block(shared, own)


def refusal_block(refusals: Sequence[Refusal]) -> Block:
    """The log rows of calls that were refused, or answered again: nothing was sent, and it costs nothing (0; null would say:
    price unknown).
    """
    first = refusals[0]
    shared = (
        first.month,
        *_caller(first.caller),
        first.kind,
        _model(first.model),
        NOBODY,  # provider_id
        "",  # provider
        "",  # target
        first.dialect_in,
        "",  # dialect_out
        first.stream,
        first.status,
        first.error_code,
        "no",  # dispatched
        0,  # attempts
        "none",  # usage_source
        first.idempotent_replay,
    )
    noughts, nones = [0] * len(refusals), [None] * len(refusals)
    own = (
        [it.request_id for it in refusals],
        [it.correlation_id for it in refusals],
        [it.received_at for it in refusals],
        noughts,  # tokens_in
        noughts,  # tokens_cached
        noughts,  # tokens_out
        noughts,  # tokens_reasoning
        noughts,  # cost_nano_usd
        [it.duration_us for it in refusals],
        nones,  # ttfb_us
        nones,  # overhead_us
        [it.why for it in refusals],
        [it.trace_id for it in refusals],
    )
    return Block(shared, own)


def entry_block(calls: Sequence[Ended]) -> Block:
    """Money lines 1 of calls of which something was, or may have been, sent."""
    intent, last, end, usage = calls[0].intent, calls[0].last, calls[0].end, calls[0].usage
    shared = (
        intent.month,
        *_caller(intent.caller),
        1,  # line
        day_of(intent.received_at),
        _model(intent.model),
        intent.model_id or NOBODY,
        last.provider_id,
        usage.images,
        usage.audio_ms,
        end.price_id,
        end.usage_source,
        end.dispatched,
        end.overrun,
        NOBODY,  # correction_id
        "",  # reason
        "",  # corrected_by
    )
    usages = [it.usage for it in calls]
    ends = [it.end for it in calls]
    own = (
        [it.request_id for it in ends],
        [it.settled_at for it in ends],
        [it.input for it in usages],
        [it.cached for it in usages],
        [it.output for it in usages],
        [it.reasoning for it in usages],
        [it.cache_write for it in usages],
        [it.cost_nano_usd for it in ends],
    )
    return Block(shared, own)


def portion(calls: Sequence[Ended]) -> Portion:
    """What these money lines come to."""
    intent, last, end = calls[0].intent, calls[0].last, calls[0].end
    whose = Whose(
        intent.month,
        day_of(intent.received_at),
        *_caller(intent.caller),
        _model(intent.model),
        intent.model_id or NOBODY,
        last.provider_id,
    )
    costs = [it.end.cost_nano_usd for it in calls]
    usages = [it.usage for it in calls]
    totals = Totals(
        requests=len(calls),
        tokens_in=sum([it.input for it in usages]),
        tokens_cached=sum([it.cached for it in usages]),
        tokens_out=sum([it.output for it in usages]),
        tokens_reasoning=sum([it.reasoning for it in usages]),
        cost_nano_usd=sum(filter(None, costs)),
        unpriced_requests=costs.count(None),
        estimated_requests=len(calls) if end.usage_source == "estimated" else 0,
    )
    return whose, totals


def attempt_block(tries: Sequence[Try]) -> Block:
    started, outcome = tries[0].started, tries[0].outcome
    shared = (
        started.month,
        started.n,
        started.provider_id,
        started.provider,
        started.target,
        started.dialect_out,
        started.credential_id,
        started.price_id,
        outcome.outcome,
        outcome.status,
    )
    is_unknown = outcome.outcome == UNKNOWN
    own = (
        [it.started.request_id for it in tries],
        [it.started.started_at for it in tries],
        [None if is_unknown else it.outcome.duration_us for it in tries],
        [it.outcome.ttfb_us for it in tries],
    )
    return Block(shared, own)


def hold_blocks(calls: Sequence[Call]) -> list[Block]:
    """What open calls may still use."""
    intents = [it.intent for it in calls]
    own: tuple[Sequence[Any], ...] = (
        [it.month for it in intents],
        [it.request_id for it in intents],
        *zip(*[_caller(it.caller) for it in intents], strict=True),
        [it.received_at for it in intents],
        [it.hold_tokens for it in intents],
        [it.hold_nano_usd for it in intents],
        [_model(it.model) for it in intents],
        [it.attempts[-1].provider_id if it.attempts else NOBODY for it in calls],
    )
    return [Block((), own)] if calls else []


def content_blocks(groups: Iterable[Sequence[Ended]]) -> list[Block]:
    """The sealed bodies of those calls that are to keep them."""
    calls = [call for alike in groups for call in alike if call.end.content is not None]
    intents = [it.intent for it in calls]
    own = (
        [it.month for it in intents],
        [it.request_id for it in intents],
        [it.caller.tenant_id for it in intents],
        [it.received_at for it in intents],
        [it.end.content for it in calls],
    )
    return [Block((), own)] if calls else []


def _caller(caller: Caller) -> tuple[UUID, str, UUID, str, UUID, str, UUID, str, str]:
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
