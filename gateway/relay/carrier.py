"""What an exchange asks for that is the same on every edge: who calls, what the limits say, the journal, the way upstream.

What happens to the caller is each edge's own: `edge/call.py` writes to a connection, `relay/driver.py` to two functions of ASGI.
"""

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from mypy_extensions import mypyc_attr

from gateway.relay.claims import Unclaimable
from gateway.relay.exchange import Exchange
from gateway.relay.ports import Actions
from gateway.relay.relay import Relay
from gateway.snapshot import Found
from providers.routing import Upstream
from providers.types import Headers, UpstreamFailure, UpstreamRequest
from providers.upstreams import UpstreamCall
from usage.hands import Lease
from usage.idempotency import Outcome, Wish
from usage.records import AttemptStarted, Record
from usage.wants import Refused, Told, Want

logger = logging.getLogger(__name__)

#: Seconds for an upstream to end an answer that is complete.
_LAST_WORD: Final = 1.0
_BROKE: Final = "A call broke."


@mypyc_attr(allow_interpreted_subclasses=True)  # the views' conversation
class Carrier(Actions):
    """Half of the exchange's `Actions`, the transport's receiver, and the relay's `Live`."""

    __slots__ = ("__weakref__", "_relay", "_upstream", "exchange", "is_unheard")

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._upstream: UpstreamCall | None = None
        self.is_unheard = False
        """The caller has left, and the upstream is read on."""
        self.exchange = Exchange(self, relay.house)

    @abstractmethod
    def broke(self) -> None:
        """An exception was raised and logged. The call is settled, and its caller sees that there is no more."""

    def tell(self, event: Callable[..., None], *told: object) -> None:
        """An event from the loop's side. A fault in it would be nobody's, and the call would wait for ever."""
        try:
            event(*told)
        except Exception:
            logger.exception(_BROKE, extra=self.exchange.named)
            self.broke()

    # --- what the exchange asks for

    def lookup(self, fingerprint: bytes) -> None:
        relay = self._relay
        relay.watch.look()
        found = relay.snapshot.find(fingerprint)
        if found is not None:
            self.exchange.identified(found)
        else:
            relay.snapshot.load(fingerprint, self._found)

    def _found(self, found: Found) -> None:
        self.tell(self.exchange.identified, found)

    def claim(self, wish: Wish) -> None:
        self._relay.claims.ask(wish, self._claimed, lambda: self.exchange.is_over)

    def unclaim(self, claim: UUID) -> None:
        self._relay.claims.give_back(claim)

    def _claimed(self, outcome: Outcome | Unclaimable) -> None:
        self.tell(self.exchange.claimed, outcome)

    def take(self, want: Want) -> None:
        relay = self._relay
        now = relay.house.clock.monotonic()
        lease = relay.leases.at_hand(want, now)
        if lease is not None:
            self.exchange.taken(lease)
        else:
            relay.leases.take(want, now, self._taken, self._waits)

    def peek(self, want: Want) -> None:
        now = self._relay.house.clock.monotonic()
        self._relay.leases.peek(want, now, self._peeked, self._waits)

    def _peeked(self, found: Sequence[Told] | Refused) -> None:
        self.tell(self.exchange.peeked, found)

    def _taken(self, outcome: Lease | Refused) -> None:
        self.tell(self.exchange.taken, outcome)

    def _waits(self) -> bool:
        return not self.exchange.is_over

    def append(self, record: Record, attempt: AttemptStarted | None = None) -> None:
        self._relay.journal.append(record, attempt)

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.start(status, headers)
        self.relay(body)
        self.finish()

    def commit(self) -> None:
        loop = self._relay.loop
        self._relay.flusher.commit(
            lambda is_there: loop.call_soon_threadsafe(self.tell, self.exchange.committed, is_there)
        )

    def connect(self, upstream: Upstream, request: UpstreamRequest) -> None:
        self._upstream = call = self._relay.upstreams.of(upstream).send(request, self)
        if call.is_sent:  # on a connection that was at hand, so nothing was waited for
            self.exchange.upstream_sent(0.0)

    def abort_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None

    def unreadable(self, upstream: Upstream) -> None:
        self._relay.report_unreadable(upstream)

    def read_on(self) -> None:
        self.is_unheard = True
        if self._upstream is not None:
            self._upstream.resume()

    def _leave(self) -> None:
        """Nothing of the call is left to do. An upstream that said its last word may still hold the connection; it gets a moment
        to end the answer, so that the connection can be used again.
        """
        relay, upstream = self._relay, self._upstream
        relay.live.discard(self)
        self.exchange.leave()
        if upstream is not None:
            self._upstream = None
            upstream.resume()
            relay.loop.call_later(_LAST_WORD, upstream.abort)
        self.exchange.let_go()

    # --- what the upstream answers

    def upstream_sent(self) -> None:
        self.exchange.upstream_sent(self._upstream.waited() if self._upstream else 0.0)

    def upstream_head(self, status: int, headers: Headers) -> None:
        self.tell(self.exchange.upstream_head, status, headers)

    # These two without `tell`: what a stream is made of, and an ordinary answer.

    def upstream_bytes(self, data: bytes) -> None:
        try:
            self.exchange.upstream_bytes(data)
        except Exception:
            logger.exception(_BROKE, extra=self.exchange.named)
            self.broke()

    def upstream_answer(self, status: int, headers: Headers, body: bytes) -> None:
        self._upstream = None
        try:
            self.exchange.upstream_answer(status, headers, body)
        except Exception:
            logger.exception(_BROKE, extra=self.exchange.named)
            self.broke()

    def upstream_end(self) -> None:
        self._upstream = None
        self.tell(self.exchange.upstream_end)

    def upstream_failed(self, failure: UpstreamFailure) -> None:
        self._upstream = None
        self.tell(self.exchange.upstream_failed, failure)

    # --- what happens to the worker

    def concerns(self, keys: set[UUID], tenants: set[UUID]) -> bool:
        """Whether a change of these keys or tenants may end this call."""
        known = self.exchange.known
        return known is not None and (
            known.identity.key_id in keys or known.identity.tenant_id in tenants
        )

    def has_expired(self, now_us: int) -> bool:
        known = self.exchange.known
        ends = known.identity.ends_at if known is not None else None
        return ends is not None and ends <= now_us
