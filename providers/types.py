"""Values that travel between routing, the dialects and the transport. Pure: no Django, no sockets."""

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from uuid import UUID

import msgspec

from providers.request_head import host_header, letterhead

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

    def within(self, seconds: int | None) -> "Timeouts":
        """Those of a call that may take so long in all: its first byte may come as late as its end. None: as they are."""
        if seconds is None:
            return self
        most = {it.name: min(getattr(self, it.name), float(seconds)) for it in fields(self)}
        return replace(self, **{**most, "first_byte": float(seconds), "total": float(seconds)})


PoolKey = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True, eq=False)
class Letterhead:
    """What is the same in every request to one target with one credential: judged and written down once. Its credential is
    in clear, so it is not shown, and whoever keeps one keeps a secret.

    `path` is the request target as sent (`/v1/chat/completions?x=y`), `headers` lack `host`, `x-request-id`, `content-length`
    and `connection`, which are the transport's. `pool_key` separates connections that must not be shared beyond the origin
    (a credential's generation), so that a rotated credential never rides on an old connection.

    Raises Unwritable for what cannot be written as exactly one HTTP request.
    """

    origin: Origin
    method: bytes
    path: bytes
    headers: Headers = field(repr=False)
    pool_key: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)
    encoded: bytes = field(init=False, repr=False)
    """The head as it is sent, up to the value of `x-request-id`."""
    pool: PoolKey = field(init=False, repr=False)
    """Which connections may carry it."""

    def __post_init__(self) -> None:
        origin = self.origin
        host = host_header(origin.scheme, origin.host, origin.port)
        encoded = letterhead(self.method, self.path, host, self.headers)
        pool = (origin.scheme, origin.host, origin.port, self.pool_key)
        object.__setattr__(self, "encoded", encoded)
        object.__setattr__(self, "pool", pool)


@dataclass(slots=True)  # not frozen: that costs a microsecond in each call
class UpstreamRequest:
    """One whole request for an upstream. Never changed. `attempt_id` is what the upstream's owner can find it by; it is ours,
    and printable.
    """

    letterhead: Letterhead
    attempt_id: str
    body: bytes = field(repr=False)


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
