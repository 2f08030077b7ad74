"""What the journal holds: the life of one call in at most a handful of records.

`Intent` before anything is sent, `AttemptStarted` before each try, `Settlement` at the end; `Refusal` for a call of a known
caller that never got as far as an intent. Times are microseconds: `*_at` since 1970 UTC, `*_us` durations. Money is integer
nano-USD. `(month, request_id)` names a call for good: both are fixed in the intent, so that a call that crosses midnight on
the last of the month stays one call.

A journal of an older version is read: what a record has got since then stands at its end, with a default.
"""

from collections.abc import Callable
from typing import Literal
from uuid import UUID

import msgspec

from providers.types import Usage

Dispatched = Literal["yes", "no", "unknown"]
UsageSource = Literal["provider", "estimated", "none"]


class Caller(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who called: ids to join by while they exist, names to read when they no longer do."""

    tenant_id: UUID
    tenant: str
    key_id: UUID
    key_prefix: str
    team: str = ""
    project_id: UUID | None = None
    project: str = ""
    account_id: UUID | None = None
    account: str = ""


#: (kind of the level, what it limits, the limit or 0 if unknown, what was left of it before this call, and after its take).
#: Of a budget: what the worker had in hand of it.
Taken = tuple[str, str, int, int, int]


class Why(msgspec.Struct, frozen=True, array_like=True):
    """What a call was asked on its way in, short: every log row has one.

    `checked` has a letter for each list that stood between the caller and this: `a` addresses, `m` models, `c` capabilities; and
    `b` once the body was understood.
    `candidates`: the targets that were considered, in their order. `taken`: every limit that counted.
    """

    checked: str = ""
    candidates: tuple[str, ...] = ()
    taken: tuple[Taken, ...] = ()


class Intent(msgspec.Struct, frozen=True, array_like=True, tag="i", gc=False):
    """A call that passed every gate. `hold_*` bound what it can use; `prompt_estimate` is charged if all else is lost.
    `trace_id`: of the trace that the caller counts it to.
    """

    month: str
    request_id: UUID
    correlation_id: str
    received_at: int
    caller: Caller
    model: str
    dialect_in: str
    stream: bool
    hold_tokens: int
    hold_nano_usd: int
    prompt_estimate: int
    kind: str = "model"
    idempotency: UUID | None = None
    model_id: UUID | None = None
    why: Why | None = None
    trace_id: UUID | None = None


class AttemptStarted(msgspec.Struct, frozen=True, array_like=True, tag="a", gc=False):
    """One try at one target, written before its first byte leaves. `n` counts from 1."""

    month: str
    request_id: UUID
    n: int
    started_at: int
    provider_id: UUID
    provider: str
    target: str
    dialect_out: str
    credential_id: UUID | None = None
    price_id: UUID | None = None


class AttemptOutcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How try `n` ended: `ok`, `upstream_status`, `no_answer` (what came is none), `upstream_error_event`, `cancelled`,
    `revoked`, `drained`, `unknown` (its worker died), or a `FailureKind` value.
    """

    n: int
    outcome: str
    duration_us: int
    status: int | None = None
    ttfb_us: int | None = None


class Settlement(msgspec.Struct, frozen=True, array_like=True, tag="s", gc=False):
    """The end of a call that had an intent. `cost_nano_usd` is None when no price was known: flagged, never 0.

    `status` is what the caller was answered (499: left before an answer). `content` is already sealed. `overrun`: the provider
    says that it used more than the call's bound.
    """

    month: str
    request_id: UUID
    settled_at: int
    status: int
    error_code: str | None
    dispatched: Dispatched
    usage: Usage
    usage_source: UsageSource
    cost_nano_usd: int | None
    price_id: UUID | None
    duration_us: int
    ttfb_us: int | None
    overhead_us: int | None
    attempts: list[AttemptOutcome]
    content: bytes | None = None
    replay: bytes | None = None
    overrun: bool = False


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False):
    """A call of a known caller that was refused before an intent: a log row, no hold, no ledger line, no attempt."""

    month: str
    request_id: UUID
    correlation_id: str
    received_at: int
    caller: Caller
    model: str
    dialect_in: str
    stream: bool
    status: int
    error_code: str
    duration_us: int
    kind: str = "model"
    idempotency: UUID | None = None
    idempotent_replay: bool = False
    why: Why | None = None
    trace_id: UUID | None = None


Record = Intent | AttemptStarted | Settlement | Refusal

#: A UUID is 16 bytes here; one that was written as text is read as well.
_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_why_decoder: msgspec.json.Decoder[Why] = msgspec.json.Decoder(Why)


def why_text(why: Why | None) -> str:
    """As the log keeps it: compact JSON; nothing for nothing."""
    return "" if why is None else msgspec.json.encode(why).decode()


def why_of(text: str) -> Why | None:
    """What `why_text` wrote; None for nothing, and for what is none of ours."""
    try:
        return _why_decoder.decode(text) if text else None
    except msgspec.DecodeError:
        return None


#: The record as MessagePack. Not a function around it: every call passes here three times.
encode: Callable[[Record], bytes] = _encoder.encode


def decode(payload: bytes) -> Record:
    """The record in `payload`. Raises `msgspec.DecodeError` when it is none of ours."""
    return _decoder.decode(payload)
