"""What is kept of a call beside its figures, sealed before it reaches the journal: its bodies, bounded, if key and tenant both
asked for that; its answer, if it had an Idempotency-Key.
"""

from typing import Final
from uuid import UUID

import msgspec

from gateway.relay.facts import Order
from tenants import sealing
from tenants.sealing import Secret
from usage.contents import Bodies, place
from usage.idempotency import Fresh, Keepsake

#: Bytes kept of each side.
MAX_KEPT: Final = 256 * 1024


class Capture:
    """Collects what a call sent and got."""

    __slots__ = ("_key", "_request", "_response", "_tenant_id", "_truncated")

    def __init__(self, key: tuple[int, Secret], tenant_id: UUID, request: bytes) -> None:
        self._key = key
        self._tenant_id = tenant_id
        self._request = request[:MAX_KEPT]
        self._response = bytearray()
        self._truncated = ["request"] if len(request) > MAX_KEPT else []

    def add(self, data: bytes) -> None:
        room = MAX_KEPT - len(self._response)
        self._response += data[:room]
        if len(data) > room and "response" not in self._truncated:
            self._truncated.append("response")

    def sealed(self, request_id: UUID) -> bytes:
        bodies = Bodies(self._request, bytes(self._response), self._truncated)
        version, key = self._key
        return sealing.seal(
            key, version, place(self._tenant_id, request_id), msgspec.msgpack.encode(bodies)
        )


class Keeping:
    """Of one call that somebody wants the answer of beside its caller: the log, or whoever repeats the call."""

    __slots__ = ("_capture", "_keepsake")

    def __init__(self, capture: Capture | None, keepsake: Keepsake | None) -> None:
        self._capture = capture
        self._keepsake = keepsake

    def add(self, data: bytes) -> None:
        if self._capture is not None:
            self._capture.add(data)
        if self._keepsake is not None:
            self._keepsake.add(data)

    def keep_no_bodies(self) -> None:
        """They are not to be kept any more."""
        self._capture = None

    def content(self, request_id: UUID) -> bytes | None:
        """The bodies, for the log."""
        return None if self._capture is None else self._capture.sealed(request_id)

    def replay(self, status: int, content_type: bytes) -> bytes | None:
        """The whole answer, for repetitions."""
        return None if self._keepsake is None else self._keepsake.sealed(status, content_type)


def keeping(order: Order, claim: Fresh | None) -> Keeping | None:
    """None for most calls."""
    key = order.known.content_key
    if key is None and claim is None:
        return None
    capture = Capture(key, order.known.identity.tenant_id, order.body) if key else None
    return Keeping(capture, Keepsake(claim) if claim else None)
