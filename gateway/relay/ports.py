"""What an exchange is given and what it asks for: the request's head, the house, its seat in it, and its edge's actions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, cast
from uuid import UUID

from gateway.metrics.meters import Meters, meters
from gateway.relay.cooling import Cooling
from gateway.relay.letters import Letters
from gateway.relay.unheard import Unheard
from keys.chain import Chain
from providers.routing import Upstream
from providers.types import Headers, UpstreamRequest
from tenants.clock import Clock
from usage.hands import Lease
from usage.idempotency import Wish
from usage.records import AttemptStarted, Record
from usage.wants import Want


class Actions(Protocol):
    """What an exchange asks of its edge. Any of them may answer with an event before it returns."""

    __slots__ = ()

    def lookup(self, fingerprint: bytes) -> None:
        """Find the caller → `identified`."""

    def read_body(self, limit: int) -> None:
        """Read the whole body, at most `limit` bytes → `received`, `too_large` or `too_late`."""

    def claim(self, wish: Wish) -> None:
        """Ask whose call this is → `claimed`."""

    def unclaim(self, claim: UUID) -> None:
        """Give back a claim of which the journal cannot tell; sooner or later."""

    def peek(self, want: Want) -> None:
        """Find out what a take would come to → `peeked`."""

    def take(self, want: Want) -> None:
        """Take all of it, of every level, or nothing → `taken`."""

    def append(self, record: Record, attempt: AttemptStarted | None = None) -> None:
        """Write to the journal before returning; an intent maybe with its first attempt. Raises `JournalUnavailable`."""

    def commit(self) -> None:
        """Bring what was written into the tables → `committed`."""

    def connect(self, upstream: Upstream, request: UpstreamRequest) -> None:
        """Send the request → `upstream_*`."""

    def abort_upstream(self) -> None:
        """Close the connection upstream at once; no more `upstream_*`."""

    def unreadable(self, upstream: Upstream) -> None:
        """Note in the audit log that this credential does not open."""

    def start(self, status: int, headers: Headers) -> None:
        """Begin the answer."""

    def relay(self, data: bytes) -> None:
        """More of the answer."""

    def finish(self) -> None:
        """The answer is whole. Once it is written: `Exchange.leave`."""

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer: as `start`, `relay` and `finish`. Its length is in the headers."""

    def cut(self) -> None:
        """Nobody is there to answer: `Exchange.leave`."""

    def read_on(self) -> None:
        """The caller left, and the upstream is read on: drop what waits for the caller, and let the upstream come as fast as
        it can. The exchange keeps its seat and hears `upstream_*` until it says `cut`.
        """


class _Gone:
    """The edge of a call that is over: whatever is asked of it, nothing happens."""

    def __getattr__(self, action: str) -> Callable[..., None]:
        return lambda *_: None


GONE: Final = cast(Actions, _Gone())


class Slots:
    """How many calls one worker carries at once."""

    __slots__ = ("free",)

    def __init__(self, count: int) -> None:
        self.free = count


@dataclass(frozen=True, slots=True)
class House:
    """What every exchange of a worker shares."""

    chain: Chain
    clock: Clock
    max_body: int
    slots: Slots
    letters: Letters
    #: Whether a call's intent must be in the tables, not only in the journal, before anything is sent.
    commits: bool = False
    meters: Meters = field(default_factory=meters)
    cooling: Cooling = field(default_factory=Cooling)
    unheard: Unheard = field(default_factory=Unheard)


class Seat:
    """What a call occupies: a slot of the worker, and what the limits leased it. Given back once.

    A call is over when it is settled or refused; its seat is taken until the answer is written, for a caller who reads
    slowly holds memory and a connection all that time.
    """

    __slots__ = ("_slots", "is_over", "lease")

    def __init__(self, slots: Slots) -> None:
        slots.free -= 1
        self._slots: Slots | None = slots
        self.lease: Lease | None = None
        self.is_over = False

    def leave(self) -> None:
        self.is_over = True
        if self._slots is None:
            return
        self._slots.free += 1
        self._slots = None
        if self.lease is not None:
            self.lease.release()
