"""What the journal holds: the life of one call in at most a handful of records.

`Intent` before anything is sent, `AttemptStarted` before each try, `Settlement` at the end; `Refusal` for a call of a known
caller that never got as far as an intent. Times are microseconds: `*_at` since 1970 UTC, `*_us` durations. Money is integer
nano-USD. `(month, request_id)` names a call for good: both are fixed in the intent, so that a call that crosses midnight on
the last of the month stays one call.
"""

from typing import Literal
from uuid import UUID

import msgspec

from providers.types import Usage

Dispatched = Literal["yes", "no", "unknown"]
UsageSource = Literal["provider", "estimated", "none"]


class Caller(msgspec.Struct, frozen=True, array_like=True):
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


class Intent(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    """A call that passed every gate. `hold_*` bound what it can use; `prompt_estimate` is charged if all else is lost."""

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


class AttemptStarted(msgspec.Struct, frozen=True, array_like=True, tag="a"):
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


class AttemptOutcome(msgspec.Struct, frozen=True, array_like=True):
    """How try `n` ended: `ok`, `upstream_status`, `cancelled`, `revoked`, `drained`, or a `FailureKind` value."""

    n: int
    outcome: str
    duration_us: int
    status: int | None = None
    ttfb_us: int | None = None


class Settlement(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """The end of a call that had an intent. `cost_nano_usd` is None when no price was known: flagged, never 0.

    `status` is what the caller was answered (499: left before an answer). `content` is already sealed.
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


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="r"):
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


Record = Intent | AttemptStarted | Settlement | Refusal

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    """The record as MessagePack."""
    return _encoder.encode(record)


def decode(payload: bytes) -> Record:
    """The record in `payload`. Raises `msgspec.DecodeError` when it is none of ours."""
    return _decoder.decode(payload)
