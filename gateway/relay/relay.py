"""The relay of one worker: everything that its exchanges share, its start, its drain, its end."""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection
from django.urls import get_resolver

from gateway import lifecycle
from gateway.epoch import Watch, watch_for
from gateway.relay.claims import Claims
from gateway.relay.exchange import Exchange
from gateway.relay.letters import Letters
from gateway.relay.ports import House, Slots
from gateway.snapshot import Found, Known, Snapshot, Unknown
from keys import services as key_services
from keys.chain import Chain
from providers.errors import CredentialUnreadable
from providers.routing import Upstream
from providers.services import KIND, address_filter
from providers.types import Timeouts
from providers.upstreams import Upstreams
from tenants import audit, changes, patience, setting_services
from tenants.actor import system_actor
from tenants.audit import Entry, Target
from tenants.clock import SYSTEM
from tenants.keyring import KEYRING
from tenants.models import AuditEvent
from usage import budgets
from usage.flusher import Flusher
from usage.journal import Journal
from usage.leases import Leases, keepers
from usage.stores_redis import RedisStore
from usage.tiers import Tiers

logger = logging.getLogger(__name__)

_THREADS: Final = 4
_TICK_SECONDS: Final = 0.25
#: The calls of so long are counted at once. What a worker that is killed does not count any more.
_COUNT_SECONDS: Final = 0.02
#: A look-up that could not be made for a running call is made again after this time.
_AGAIN_SECONDS: Final = 0.5
#: An unreadable credential is written down once in this time, however many calls run into it.
_UNREADABLE_SECONDS: Final = 60.0
_MAX_NOTED: Final = 1_000
#: The server gives the whole of the end half a minute.
_FLUSH_SECONDS: Final = 20.0
#: Seconds that PostgreSQL may take for one answer, for those who watch and look up.
_ANSWER_SECONDS: Final = 2.0


class Live(Protocol):
    """A call that is running on some edge of this worker."""

    exchange: Exchange

    def concerns(self, keys: set[UUID], tenants: set[UUID]) -> bool: ...

    def has_expired(self, now_us: int) -> bool: ...

    def is_stuck(self) -> bool: ...

    def abandon(self) -> None: ...


class Relay:
    """Made inside the worker, after the fork, by `start`."""

    def __init__(self, first: "_First", executor: ThreadPoolExecutor) -> None:
        self.loop = asyncio.get_running_loop()
        self.live: set[Live] = set()
        self.snapshot = Snapshot(SYSTEM, executor)
        self.snapshot.epoch = first.epoch
        self.snapshot.on_change = self._on_change
        self.snapshot.on_reset = self._on_reset
        self.snapshot.on_restored = _begin_anew
        self.house = House(
            chain=first.chain,
            clock=SYSTEM,
            max_body=settings.MAX_BODY,
            slots=Slots(settings.MAX_CALLS),
            letters=Letters(first.timeouts),
            commits=settings.LEDGER_DURABILITY == "commit",
        )
        self.upstreams = Upstreams(settings.TRANSPORT, address_filter().resolve)
        self.journal = Journal(settings.VAR / "journal")
        self.claims = Claims(executor, SYSTEM, UUID(self.journal.boot))
        self.leases = Leases(
            Tiers(
                redis=RedisStore() if settings.REDIS_URL else None,
                workers=settings.WEB_CONCURRENCY,
            ),
            budgets,
            self.journal.boot,
            keepers(self.loop.call_soon_threadsafe),
            written=self.journal,
        )
        self.flusher = Flusher(self.journal, on_dead=self.house.meters.settled_for_the_dead)
        # A thread of its own: a crowd of unknown keys may fill the other's queue, and must not make us blind to a revoke.
        self._watchman = _threads(1, "epoch")
        self.watch: Watch = watch_for(self.snapshot, self._watchman)
        self._noted: OrderedDict[UUID, float] = OrderedDict()
        self._ticker: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls) -> "Relay":
        """Read what must be there before the first request, and warm what would make it slow."""
        loop = asyncio.get_running_loop()
        executor = _threads(_THREADS, "relay")
        relay = cls(await loop.run_in_executor(executor, _read_first), executor)
        relay.flusher.start()
        relay.leases.start()
        relay.watch.start()
        relay.house.meters.count_soon = relay._count_soon
        relay._tick()
        lifecycle.report_with("relay", relay.report)
        return relay

    def report(self) -> dict[str, object]:
        """For `/health/detail`."""
        return {
            "calls_running": len(self.live),
            "slots_free": self.house.slots.free,
            "limits": self.leases.report(),
            "snapshot_epoch": self.snapshot.epoch,
            "snapshot_lag_seconds": round(self.snapshot.lag(), 3),
        }

    def _tick(self) -> None:
        self._ticker = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)
        self.house.meters.stands(self.journal.open_calls, self.journal.pending, self.snapshot.lag())
        self._watch_over_all()
        now = SYSTEM.monotonic()
        self.house.unheard.sweep(now)
        self.house.letters.sweep(now)

    def _count_soon(self) -> None:
        self.loop.call_later(_COUNT_SECONDS, self.house.meters.count)

    def _watch_over_all(self) -> None:
        now = SYSTEM.unix_us()
        for live in list(self.live):
            try:
                self._watch_over(live, now)
            except Exception:
                # One call's fault must not keep the others' keys from expiring.
                logger.exception(
                    "A running call could not be looked after.", extra=live.exchange.named
                )

    def _watch_over(self, live: Live, now_us: int) -> None:
        if live.has_expired(now_us):
            live.exchange.revoked()
        if live in self.live and live.is_stuck():
            live.abandon()

    def _on_change(self, keys: set[UUID], tenants: set[UUID]) -> None:
        """Look up afresh whoever is in the middle of a call and may have lost the right to it. Who was refused may be allowed."""
        self.leases.forget_refusals()
        for live in [live for live in self.live if live.concerns(keys, tenants)]:
            self._look_again(live)

    def _on_reset(self) -> None:
        """Nobody can say what changed, or the house's own settings did: everybody is looked up afresh."""
        self.leases.forget_refusals()
        for live in [live for live in self.live if live.exchange.known is not None]:
            self._look_again(live)
        self._read_timeouts()

    def _read_timeouts(self) -> None:
        # Whoever is ending needs none.
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            reading = loop.run_in_executor(self.snapshot.executor, _timeouts)
            reading.add_done_callback(self._timeouts_read)

    def _timeouts_read(self, reading: "asyncio.Future[Timeouts]") -> None:
        if reading.cancelled():
            return
        if reading.exception() is None:
            self.house.letters.limit(reading.result())
        else:
            self.loop.call_later(_AGAIN_SECONDS, self._read_timeouts)

    def _look_again(self, live: Live) -> None:
        if live in self.live:
            self.snapshot.load(live.exchange.fingerprint, partial(self._looked_again, live))

    def _looked_again(self, live: Live, found: Found) -> None:
        if isinstance(found, Unknown):
            live.exchange.revoked()
        elif isinstance(found, Known):
            live.exchange.known_anew(found)
        else:
            # That we could not look does not say that they may go on.
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._look_again, live)

    def report_unreadable(self, upstream: Upstream) -> None:
        """An audit row that this credential does not open; at most one a minute and credential from this worker."""
        credential = upstream.credential
        now = SYSTEM.monotonic()
        if credential is None or self._noted.get(credential.id, -1e9) > now - _UNREADABLE_SECONDS:
            return
        self._noted[credential.id] = now
        while len(self._noted) > _MAX_NOTED:
            self._noted.popitem(last=False)
        self.snapshot.executor.submit(_note_unreadable, upstream, credential.id)

    def drain(self) -> None:
        """The time for running streams is over: end each with an error event."""
        for live in list(self.live):
            live.exchange.drain()

    async def stop(self) -> None:
        """Everything settled goes into the tables before the process ends."""
        self.drain()
        if self._ticker is not None:
            self._ticker.cancel()
        await self.watch.stop()
        await self.upstreams.close()
        self.house.meters.count()
        loop = asyncio.get_running_loop()
        self.leases.give_everything_back()
        await loop.run_in_executor(None, self.leases.stop)
        is_done = await loop.run_in_executor(None, self.flusher.stop, _FLUSH_SECONDS)
        # Somebody else gives back what it has borrowed, if this worker could not.
        self.journal.close(keep=not is_done)
        self.snapshot.close()
        self._watchman.shutdown(wait=False, cancel_futures=True)


def _begin_anew() -> None:
    """A restored backup brought its own secrets, and too much here was made with the ones before: another worker takes over."""
    logger.warning("A backup was restored: this worker ends, and another one begins with it.")
    KEYRING.forget()
    lifecycle.set_draining()


def _threads(number: int, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(
        number,
        thread_name_prefix=name,
        initializer=partial(patience.bound_thread, _ANSWER_SECONDS),
    )


@dataclass(frozen=True, slots=True)
class _First:
    """What a worker reads before its first request."""

    epoch: int
    chain: Chain
    timeouts: Timeouts


def _read_first() -> _First:
    try:
        # First of all: what is read after it is at least as new.
        epoch = changes.epoch()
        chain = key_services.chain()
        # The first request would otherwise pay for importing every view.
        get_resolver().url_patterns  # noqa: B018
        return _First(epoch, chain, Timeouts(**setting_services.upstream_timeouts()))
    finally:
        connection.close()


def _timeouts() -> Timeouts:
    try:
        return Timeouts(**setting_services.upstream_timeouts())
    finally:
        connection.close()


def _note_unreadable(upstream: Upstream, credential_id: UUID) -> None:
    entry = Entry(
        system_actor("relay"),
        "provider.credential_unreadable",
        Target(KIND, str(upstream.id), upstream.name),
        scope=audit.scope_of(upstream.tenant_id),
        outcome=AuditEvent.Outcome.FAILED,
        error_code=CredentialUnreadable.code,
        details={"credential": str(credential_id)},
    )
    try:
        changes.note(entry)
    except DatabaseError:
        logger.exception("An unreadable credential could not be noted in the audit log.")
    finally:
        connection.close()
