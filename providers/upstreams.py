"""Which carrier takes a call to an upstream: the chosen transport, or the provider that lives in this process."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from providers.call import Receiver
from providers.demo import Demo
from providers.dialing import Resolve
from providers.routing import Upstream
from providers.transport import Transport
from providers.transport_common import PooledTransport
from providers.transport_httpx import HttpxTransport
from providers.types import UpstreamRequest

#: By the names that `GATEHOUSE_TRANSPORT` knows (gateway/settings.py).
TRANSPORTS: Final[Mapping[str, type[PooledTransport[Any]]]] = MappingProxyType(
    {"native": Transport, "httpx": HttpxTransport}
)


class UpstreamCall(Protocol):
    """The handle of one call. `is_sent`: its whole request was handed over; if not by `send`, `upstream_sent` says so later."""

    @property
    def is_sent(self) -> bool: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None: ...

    def waited(self) -> float:
        """Seconds before the request could be written: queueing, names, connecting, TLS."""


class Carrier(Protocol):
    """Takes a request and answers by callbacks, none of which comes from inside `send`."""

    def send(self, request: UpstreamRequest, receiver: Receiver) -> UpstreamCall: ...


class Upstreams:
    """The carriers of one worker."""

    def __init__(self, transport: str, resolve: Resolve) -> None:
        """`transport` is a name in `TRANSPORTS`; it connects to what `resolve` gives and to nothing else."""
        self.transport = TRANSPORTS[transport](resolve=resolve)
        self._in_process = Demo()

    def of(self, upstream: Upstream) -> Carrier:
        return self._in_process if upstream.in_process else self.transport

    async def close(self) -> None:
        await self.transport.close()
