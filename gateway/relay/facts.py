"""What is known of one call, step by step: values that are made once and handed on.

They are `msgspec.Struct`s, which are made without a frame of Python, and stand apart from the steps because compiled code
(gateway/compiled.py) cannot define them.
"""

from typing import Final
from uuid import UUID

import msgspec

from gateway.relay.endpoints import Endpoint
from gateway.relay.errors import Problem
from gateway.relay.lanes import Lane
from gateway.snapshot import Known
from providers.dialects.base import CallBody, StreamWatcher
from providers.types import Usage
from usage.records import UsageSource


class Asked(msgspec.Struct, frozen=True, gc=False):
    """`item`: the model that the path names, if it does. `unknown` and `unfit`: why nobody can be looked up, and why the body
    is not read, None for no reason. `once`: the values of Idempotency-Key. `offered_id`: the caller's own name for the call.
    `trace_id`: of the trace that the caller counts it to.
    """

    endpoint: Endpoint
    item: str
    fingerprint: bytes
    unknown: Problem | None
    unfit: Problem | None
    is_dry: bool
    forwarded: tuple[tuple[bytes, bytes], ...]
    once: tuple[bytes, ...]
    offered_id: str | None
    trace_id: UUID | None = None


class Head(msgspec.Struct, frozen=True, gc=False):
    """A request that has come. `address` is the caller's, proxies seen through.

    `request_id` is ours and names the call in every table; `correlation_id` is what the caller sees, their own if they
    sent one. `received_at` is in microseconds since 1970, `began` on the monotonic clock.
    """

    asked: Asked
    address: str
    request_id: UUID
    correlation_id: str
    received_at: int
    began: float


class Order(msgspec.Struct, frozen=True, gc=False):
    """What steps 1 to 5 made of a request. `read_at` is when its body was complete, on the monotonic clock."""

    head: Head
    known: Known
    call: CallBody
    lane: Lane
    body: bytes
    read_at: float

    def without_words(self) -> "Order":
        """What stays of it when it cannot be sent any more."""
        call = self.call.without_words()
        return Order(self.head, self.known, call, self.lane, b"", self.read_at)


class Bound(msgspec.Struct, frozen=True, gc=False):
    """What a call can use at most. Tokens 0: nothing bounds them. `cap`: to be set upstream; None: the caller's is as it is."""

    tokens_in: int
    tokens_out: int
    nano_usd: int
    cap: int | None


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What was seen of the last try of a call: how it ended, and the provider's answer as far as it came, with the usage that it
    reports, if it does.

    `most` is what the call could use at most (input, output); 0 where nothing bounds it.
    """

    endpoint: Endpoint
    call: CallBody
    outcome: str
    status: int
    sent: bool
    answer: bytes
    watcher: StreamWatcher | None
    reported: Usage | None
    most: tuple[int, int]


class Used(msgspec.Struct, frozen=True, gc=False):
    """Credible figures. `overrun`: the provider reported more than the call could use at most."""

    usage: Usage
    source: UsageSource
    overrun: bool = False


NOTHING: Final = Used(Usage(), "none")


class Told(msgspec.Struct, frozen=True, gc=False):
    """What is taken over of the headers of an upstream's answer; everything else stays behind."""

    content_type: bytes = b""
    retry_after: bytes = b""
    request_id: bytes = b""

    @property
    def is_event_stream(self) -> bool:
        told = self.content_type
        return (
            told == b"text/event-stream"
            or told.split(b";", 1)[0].strip().lower() == b"text/event-stream"
        )

    def as_json(self) -> "Told":
        return Told(b"application/json", self.retry_after, self.request_id)


NOTHING_TOLD: Final = Told()
