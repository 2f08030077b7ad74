"""From a name to an open connection: resolve, connect, TLS, each with its limit. The miss path of the pools.

The resolver judges addresses (`tenants.outbound`); the connection goes to one of exactly those, and the name is never
resolved again on the way (DNS rebinding). `Host`, TLS name and certificate check stay with the name. Nothing here
reads the environment: no proxies, no key log.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from providers.types import FailureKind, Origin, Timeouts
from tenants.outbound import Address, NameNotFound, OutboundError

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Host and port to judged addresses. Raises OutboundError: NameNotFound, or another for what the filter refuses."""

_MAX_SESSIONS: Final = 64
#: That one session is offered for; each connection that resumes it gets another, which is taken then.
_SESSION_SECONDS: Final = 60.0
_KEEPALIVE_SECONDS: Final = 60
_OUT_OF_SOCKETS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL))


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds a call spent before its request could be written; all 0 on a connection that was at hand."""

    pool_wait: float = 0.0
    dns: float = 0.0
    connect: float = 0.0
    tls: float = 0.0


Line = TypeVar("Line", bound=asyncio.Protocol)
MakeLine = Callable[[socket.socket, bool], Line]
"""From a connected socket, and whether TLS will be spoken on it, to the protocol that reads and writes there."""


class DialError(Exception):
    """No connection, and so not one byte of the request was sent."""

    def __init__(self, kind: FailureKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class UpstreamTls(ssl.SSLContext):
    """Client-side TLS with verified certificates and host names that resumes sessions.

    A session is remembered only from a handshake that passed all checks, and offered only to the same name.
    """

    _last: dict[str, "_Remembered"]

    def remember(self, name: str, tls: ssl.SSLObject) -> None:
        """Offer this connection's session to the next ones to `name`, unless a good one of late is offered already."""
        known, now = self._last.pop(name, None), monotonic()
        if known is None or not tls.session_reused or now - known.since > _SESSION_SECONDS:
            known = _Remembered(tls, now)
        self._last[name] = known
        if len(self._last) > _MAX_SESSIONS:
            del self._last[next(iter(self._last))]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        last = self._last.get(str(server_hostname))
        known = last.session() if last is not None else None
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session or known)


class _Remembered:
    """A connection's session, from its handshake on. To ask OpenSSL for it costs half of what it saves."""

    def __init__(self, tls: ssl.SSLObject, since: float) -> None:
        self.since = since
        self._tls: ssl.SSLObject | None = tls
        self._session: ssl.SSLSession | None = None

    def session(self) -> ssl.SSLSession | None:
        tls = self._tls
        if tls is None:
            return self._session
        found = self._session = tls.session
        # TLS 1.3 hands out tickets only after the handshake: until then it has to be asked again.
        if found is not None and found.has_ticket:
            self._tls = None
        return found


def upstream_tls(cafile: str | None = None) -> UpstreamTls:
    """The system's certificate authorities, or those of one PEM file. At least TLS 1.2, HTTP/1.1 only.

    The settings of `ssl.create_default_context`, which cannot be asked for a subclass.
    """
    context = UpstreamTls(ssl.PROTOCOL_TLS_CLIENT)  # requires certificates and checks host names
    context._last = {}
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cafile is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(cafile)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer(Generic[Line]):
    """Opens connections. Calls that ask for the same name at the same time share one look-up; none is kept."""

    def __init__(self, resolve: Resolve, tls: ssl.SSLContext, make: MakeLine[Line]) -> None:
        self._resolve = resolve
        self._tls = tls
        self._make = make
        self._lookups: dict[tuple[str, int], asyncio.Task[Sequence[Address]]] = {}

    async def dial(self, origin: Origin, limits: Timeouts) -> tuple[Line, Timings]:
        """A connection ready for its first request. Raises DialError."""
        began = monotonic()
        addresses = await self._addresses(origin, limits.dns)
        resolved = monotonic()
        sock = await _connect_to_one(addresses, origin.port, resolved + limits.connect)
        connected = monotonic()
        line = await self._start(sock, origin, limits.tls)
        ready = monotonic()
        return line, Timings(
            dns=resolved - began,
            connect=connected - resolved,
            tls=ready - connected if origin.is_tls else 0.0,
        )

    def close(self) -> None:
        """Give up all look-ups under way."""
        for lookup in self._lookups.values():
            lookup.cancel()

    async def _addresses(self, origin: Origin, limit: float) -> Sequence[Address]:
        key = (origin.host, origin.port)
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(key, limit))
            self._lookups[key] = lookup
            lookup.add_done_callback(lambda done: self._forget(key, done))
        try:
            async with asyncio.timeout(limit):
                addresses = await asyncio.shield(lookup)
        except TimeoutError:
            raise DialError(FailureKind.DNS, "the resolver did not answer in time") from None
        except (NameNotFound, OSError) as error:
            raise DialError(FailureKind.DNS, "the name does not resolve") from error
        except OutboundError as error:
            raise DialError(FailureKind.REFUSED_ADDRESS, "the address filter refused") from error
        if not addresses:
            raise DialError(FailureKind.DNS, "the name has no address")
        return addresses

    async def _look_up(self, key: tuple[str, int], limit: float) -> Sequence[Address]:
        async with asyncio.timeout(limit):
            return await self._resolve(*key)

    def _forget(self, key: tuple[str, int], lookup: asyncio.Task[Sequence[Address]]) -> None:
        del self._lookups[key]
        if not lookup.cancelled():
            lookup.exception()  # seen, even if everybody who waited for it has given up

    async def _start(self, sock: socket.socket, origin: Origin, limit: float) -> Line:
        tls: dict[str, Any] = {}
        name = origin.host.strip("[]")
        if origin.is_tls:
            tls = {
                "ssl": self._tls,
                "server_hostname": name,
                "ssl_handshake_timeout": limit,
            }
        try:
            # From here on the transport owns the socket, and closes it if this fails or is cancelled.
            transport, line = await asyncio.get_running_loop().create_connection(
                lambda: self._make(sock, origin.is_tls), sock=sock, **tls
            )
        except OSError as error:  # every ssl error is one, and so is a handshake out of time
            raise DialError(FailureKind.TLS, _tls_detail(error)) from error
        if origin.is_tls and isinstance(self._tls, UpstreamTls):
            self._tls.remember(name, transport.get_extra_info("ssl_object"))
        return line


async def _connect_to_one(
    addresses: Sequence[Address], port: int, deadline: float
) -> socket.socket:
    """Try one address after the other; each may use its even share of the time that is left."""
    detail = ""
    timed_out = False
    for tried, address in enumerate(addresses):
        share = (deadline - monotonic()) / (len(addresses) - tried)
        try:
            return await _connect(address, port, max(share, 0.001))
        except TimeoutError:
            timed_out = True
        except OSError as error:
            if error.errno in _OUT_OF_SOCKETS:
                raise DialError(FailureKind.OVERLOADED, _errno_name(error)) from error
            detail = _errno_name(error)
    if timed_out:
        raise DialError(FailureKind.CONNECT_TIMEOUT, detail)
    raise DialError(FailureKind.CONNECT, detail)


async def _connect(address: Address, port: int, limit: float) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A model may think for minutes without a byte: the probes keep translators on the way from forgetting us.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
        async with asyncio.timeout(limit):
            await asyncio.get_running_loop().sock_connect(sock, (address.ip, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _errno_name(error: OSError) -> str:
    """`ECONNREFUSED` and the like: says what happened and no address."""
    if error.errno is None:
        return type(error).__name__
    return errno.errorcode.get(error.errno) or os.strerror(error.errno)


def _tls_detail(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"[:200]
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "TLS error")[:200]
    return _errno_name(error)
