"""Which carrier takes a call to an upstream: the sockets' transport, or the provider that lives in this process."""

from typing import Protocol

from providers.call import Receiver
from providers.demo import Demo
from providers.routing import Upstream
from providers.transport import Transport
from providers.types import UpstreamRequest


class UpstreamCall(Protocol):
    """The handle of one call."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None: ...

    def waited(self) -> float:
        """Seconds before the request could be written: queueing, names, connecting, TLS."""


class Carrier(Protocol):
    """Takes a request and answers by callbacks. Raises ValueError for one that cannot be written."""

    def send(self, request: UpstreamRequest, receiver: Receiver) -> UpstreamCall: ...


class Upstreams:
    """The carriers of one worker."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._in_process = Demo()

    def of(self, upstream: Upstream) -> Carrier:
        return self._in_process if upstream.in_process else self.transport

    async def close(self) -> None:
        await self.transport.close()
