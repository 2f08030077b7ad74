"""Values that travel between routing, the dialects and the transport. Pure: no Django, no sockets."""

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

import msgspec

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections of one kind go: `scheme` is `http` or `https`, `host` a name or literal address."""

    scheme: str
    host: str
    port: int

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one upstream call in seconds (security notes: every hop has one)."""

    dns: float = 2.0
    connect: float = 3.0
    tls: float = 5.0
    write: float = 30.0
    first_byte: float = 120.0
    between_chunks: float = 60.0
    total: float = 1800.0


@dataclass(slots=True)  # not frozen: that costs a microsecond in each call
class UpstreamRequest:
    """One whole request for an upstream. Never changed.

    `path` is the request target as sent (`/v1/chat/completions?x=y`), `headers` lack `host`, `content-length` and
    `connection`, which the transport sets. `pool_key` separates connections that must not be shared beyond the origin
    (a credential's generation), so that a rotated credential never rides on an old connection.
    """

    origin: Origin
    method: bytes
    path: bytes
    headers: Headers
    body: bytes
    pool_key: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)


class FailureKind(StrEnum):
    """How a call to an upstream failed before its answer was complete."""

    REFUSED_ADDRESS = "refused_address"  # the address filter said no; nothing was sent
    DNS = "dns"
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    OVERLOADED = "overloaded"  # our own pool is full; nothing was sent
    WRITE = "write"
    WRITE_TIMEOUT = "write_timeout"
    CLOSED = "closed"  # the connection ended before the answer did
    PROTOCOL = "protocol"  # not HTTP/1.1 that we accept
    TOO_LARGE = "too_large"  # head, event or body over our cap
    TIMEOUT = "timeout"  # first byte, between chunks or total


@dataclass(frozen=True, slots=True)
class UpstreamFailure:
    """`nothing_sent` is true only if not one byte of the request can have reached the upstream."""

    kind: FailureKind
    nothing_sent: bool
    detail: str = ""


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one call used, in tokens where nothing else is said.

    `input` includes `cached` (read from the provider's cache) and `cache_write` (put into it); `output` includes `reasoning`
    (OpenAI's meaning). `images` are pictures made, `audio_ms` milliseconds of sound heard or spoken.
    """

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    cache_write: int = 0
    images: int = 0
    audio_ms: int = 0


class PriceTag(msgspec.Struct, frozen=True):
    """A price: nano-USD per million tokens, per image, per minute of sound, and per call.

    None costs what it is part of: `cached_input` and `cache_write` what input costs, `reasoning` what output costs. A call
    with more than `long_from` input tokens has a long context: all of its tokens cost the `long_*` prices, where there is one.
    """

    id: UUID
    input: int
    output: int
    cached_input: int | None = None
    reasoning: int | None = None
    per_request: int = 0
    cache_write: int | None = None
    per_image: int = 0
    per_minute: int = 0
    long_from: int | None = None
    long_input: int | None = None
    long_output: int | None = None
    long_cached_input: int | None = None
    long_cache_write: int | None = None
