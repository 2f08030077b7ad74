"""Bodies of a call whose key and tenant both asked for them to be kept: bounded, sealed before they reach the journal."""

from typing import Final
from uuid import UUID

import msgspec

from tenants import sealing
from tenants.sealing import Place, Secret

#: Bytes kept of each side.
MAX_KEPT: Final = 256 * 1024


class Bodies(msgspec.Struct, frozen=True):
    """What is sealed, as MessagePack. `truncated` names the sides that were longer than what is kept."""

    request: bytes
    response: bytes
    truncated: list[str]


def place(tenant_id: UUID, request_id: UUID) -> Place:
    return Place("usage_requestcontent", "sealed", tenant_id, request_id, 1)


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
