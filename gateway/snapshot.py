"""The picture of the configuration that the relay reads: identities, routes, prices, each under the epoch it was read at.

Bounded and immutable: entries are made by `load` in a thread and dropped by the epoch, and the request path has no way to
write one. So nothing that is in flight can bring a revoked key back. What could not be looked up is never "unknown".
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection

from gateway import pictures
from gateway.epoch import ANOTHER_DATABASE, MAX_CHANGES, Changed
from keys.chain import Identity, any_imported, load_identity
from keys.tokens import is_imported
from providers.routing import Catalogue, OwnRoutes
from tenants import changes, setting_services
from tenants.clock import Clock
from tenants.sealing import SealingError, Secret
from usage.levels import Level
from usage.records import Caller

logger = logging.getLogger(__name__)

MAX_IDENTITIES: Final = 50_000
MAX_UNKNOWN: Final = 20_000
MAX_TENANTS: Final = 10_000
#: Looks under way, those included for which nobody waits any more.
MAX_LOOKUPS: Final = 1_000
#: Fingerprints that somebody waits for.
MAX_WAITING: Final = 10_000
#: A look-up that takes longer is one that could not be made.
LOOKUP_SECONDS: Final = 3.0
#: After one that failed, so long none is made.
PROBE_SECONDS: Final = 0.25
UNKNOWN_SECONDS: Final = 5.0
_ATTEMPTS: Final = 3
_THREADS: Final = 4


@dataclass(frozen=True, slots=True)
class Known:
    """A caller with everything that a call of theirs needs. `content_key` is there only if their bodies are to be kept.

    `worked_out`: what follows from all this and is not worked out again while it stands (gateway/relay/lanes.py).
    """

    identity: Identity
    caller: Caller
    shared: Catalogue
    own: OwnRoutes
    levels: tuple[Level, ...]
    content_key: tuple[int, Secret] | None
    worked_out: dict[tuple[str, str], Any] = field(default_factory=dict, compare=False, repr=False)


class Unknown:
    """We looked, and there is nobody: 401."""


class Unlookable:
    """We could not look: 503, never 401."""


UNKNOWN: Final = Unknown()
UNLOOKABLE: Final = Unlookable()
Found = Known | Unknown | Unlookable


@dataclass(slots=True, eq=False)
class _Entry:
    """`epoch`: a change up to it is in here already. `known`: the caller as they were found last, with the routes of then."""

    epoch: int
    identity: Identity
    caller: Caller
    levels: tuple[Level, ...]
    content_key: tuple[int, Secret] | None
    known: Known | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """What a look is for: whom a fingerprint stands for, the routes of a tenant's own, or with neither the shared ones."""

    fingerprint: bytes | None = None
    tenant_id: UUID | None = None


SHARED: Final = Want()
_Thing = _Entry | Catalogue | OwnRoutes | None


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What one look brought back: `epoch` was read before it, so it is at least that new. None: nobody. `none_imported`: nobody
    at all has a credential of another gateway.
    """

    epoch: int
    found: _Thing
    none_imported: bool = False


@dataclass(slots=True, eq=False)
class _Lookup:
    """Callers of one fingerprint who wait, and how often each thing was asked for on their behalf."""

    fingerprint: bytes
    answers: list[Callable[[Found], None]]
    asked: Counter[Want] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Look:
    """One thread's work, and who waits for it. `generation`: of the picture when it began."""

    began: float
    generation: int
    lookups: list[_Lookup] = field(default_factory=list)


class Snapshot:
    """Lives on the loop thread. `find` answers at once or says that `load` must be asked."""

    def __init__(self, clock: Clock, executor: Executor | None = None) -> None:
        self.epoch = 0
        #: Told of the keys and tenants that changed; and when nobody can say what did.
        self.on_change: Callable[[set[UUID], set[UUID]], None] = lambda keys, tenants: None
        self.on_reset: Callable[[], None] = lambda: None
        #: Told when a backup was restored: even the secrets of the house are others now.
        self.on_restored: Callable[[], None] = lambda: None
        self.executor = executor or ThreadPoolExecutor(_THREADS, thread_name_prefix="snapshot")
        self._clock = clock
        self._trusted_for = float(settings.AUTH_STALE_SECONDS)
        self._looked_at = clock.monotonic()
        self._identities: OrderedDict[bytes, _Entry] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        #: Until when nobody is looked up by a credential of another gateway, because nobody has one.
        self._none_imported_until = 0.0
        #: By the integer of the tenant's id: a UUID hashes and compares in Python, and every call asks.
        self._own: OrderedDict[int, OwnRoutes] = OrderedDict()
        self._shared: Catalogue | None = None
        self._waiting: dict[bytes, _Lookup] = {}
        self._looks: dict[Want, _Look] = {}
        #: Rises when everything is dropped: what was read before may be of another database.
        self._generation = 0
        self._looking = 0
        #: When the last look failed; None if it did not.
        self._failed_at: float | None = None

    # --- reading: the request path ---

    def find(self, fingerprint: bytes) -> Found | None:
        """The caller if the picture has them; None when it must be looked up (`load`)."""
        now = self._clock.monotonic()
        if now - self._looked_at > self._trusted_for:
            return None
        entry = self._identities.get(fingerprint)
        if entry is None:
            return UNKNOWN if self._is_unknown(fingerprint, now) else None
        return self._complete(entry)

    def _is_unknown(self, fingerprint: bytes, now: float) -> bool:
        if now < self._none_imported_until and is_imported(fingerprint):
            return True
        until = self._unknown.get(fingerprint)
        return until is not None and until > now

    def _complete(self, entry: _Entry) -> Known | None:
        known = entry.known
        own, shared = self._own.get(entry.identity.tenant_id.int), self._shared
        if known is not None and known.own is own and known.shared is shared:
            return known
        if own is None or shared is None:
            return None
        known = entry.known = Known(
            entry.identity, entry.caller, shared, own, entry.levels, entry.content_key
        )
        return known

    def is_stale(self) -> bool:
        """Whether we have been cut off from the database for longer than the picture may be trusted."""
        return self.lag() > self._trusted_for

    def lag(self) -> float:
        """Seconds since the last look at the epoch that succeeded."""
        return self._clock.monotonic() - self._looked_at

    # --- looking up: in a thread, and each thing once however many wait for it ---

    def load(self, fingerprint: bytes, answer: Callable[[Found], None]) -> None:
        """Look the caller up and call `answer` on the loop thread, maybe at once. Callers of the same fingerprint share a
        look-up, and look-ups share what several of them miss: the shared routes, a tenant's own.
        """
        lookup = self._waiting.get(fingerprint)
        if lookup is not None:
            lookup.answers.append(answer)
            return
        if len(self._waiting) >= MAX_WAITING:
            answer(UNLOOKABLE)
            return
        lookup = self._waiting[fingerprint] = _Lookup(fingerprint, [answer])
        asyncio.get_running_loop().call_later(LOOKUP_SECONDS, self._end, lookup, UNLOOKABLE)
        self._go_on(lookup)

    def _go_on(self, lookup: _Lookup) -> None:
        """Answer if nothing is missing any more, else get the next thing that is."""
        if self._waiting.get(lookup.fingerprint) is not lookup:
            return
        want = self._missing(lookup)
        if want is not None:
            self._get(want, lookup)
            return
        entry = self._identities[lookup.fingerprint]
        self._end(lookup, self._complete(entry) or UNLOOKABLE)

    def _missing(self, lookup: _Lookup) -> Want | None:
        # While we cannot see changes, nothing that we had before is good enough for an answer.
        is_stale = self.is_stale()
        entry = self._identities.get(lookup.fingerprint)
        who = Want(fingerprint=lookup.fingerprint)
        if entry is None or (is_stale and not lookup.asked[who]):
            return who
        if self._shared is None or (is_stale and not lookup.asked[SHARED]):
            return SHARED
        tenant_id = entry.identity.tenant_id
        own = Want(tenant_id=tenant_id)
        if tenant_id.int not in self._own or (is_stale and not lookup.asked[own]):
            return own
        return None

    def _get(self, want: Want, lookup: _Lookup) -> None:
        """Join the look that is under way for it, or begin one."""
        lookup.asked[want] += 1
        if lookup.asked[want] > _ATTEMPTS:
            self._end(lookup, UNLOOKABLE)
            return
        now = self._clock.monotonic()
        look = self._looks.get(want)
        # Nobody joins one that nobody waits for any longer.
        if look is None or now - look.began > LOOKUP_SECONDS:
            if self._looking >= MAX_LOOKUPS or self._is_blind(now):
                self._end(lookup, UNLOOKABLE)
                return
            look = self._looks[want] = _Look(now, self._generation)
            self._begin(want, look)
        look.lookups.append(lookup)

    def _is_blind(self, now: float) -> bool:
        """Nobody queues for a database that is away: until a look succeeds one begins now and then."""
        if self._failed_at is None:
            return False
        if now - self._failed_at < PROBE_SECONDS:
            return True
        self._failed_at = now
        return False

    def _begin(self, want: Want, look: _Look) -> None:
        self._looking += 1
        future = asyncio.get_running_loop().run_in_executor(self.executor, _load, want)
        future.add_done_callback(lambda done: self._loaded(want, look, done))

    def _loaded(self, want: Want, look: _Look, done: "asyncio.Future[_Loaded]") -> None:
        self._looking -= 1
        if self._looks.get(want) is look:
            del self._looks[want]
        if done.cancelled():
            return
        fault = done.exception()
        # A look that was only slow, or met a fault of ours, does not say that the database is away.
        is_away = isinstance(fault, DatabaseError | OSError)
        self._failed_at = self._clock.monotonic() if is_away else None
        if fault is not None:
            if not isinstance(fault, DatabaseError | SealingError | OSError):
                logger.error("A look-up failed.", exc_info=fault)
            for lookup in look.lookups:
                self._end(lookup, UNLOOKABLE)
            return
        loaded = done.result()
        # If something changed while we read, what we have may be from before: it is not kept, and who waits looks again.
        is_kept = loaded.epoch >= self.epoch and look.generation == self._generation
        if is_kept:
            self._keep(want, loaded.found)
            if loaded.none_imported:
                self._none_imported_until = self._clock.monotonic() + UNKNOWN_SECONDS
        for lookup in look.lookups:
            if is_kept and loaded.found is None:
                self._end(lookup, UNKNOWN)
            else:
                self._go_on(lookup)

    def _keep(self, want: Want, found: _Thing) -> None:
        if isinstance(found, Catalogue):
            self._shared = found
        elif isinstance(found, OwnRoutes):
            assert want.tenant_id is not None  # noqa: S101 - own routes are loaded for a tenant
            _put(self._own, want.tenant_id.int, found, MAX_TENANTS)
        else:
            assert want.fingerprint is not None  # noqa: S101 - identities are loaded for a fingerprint
            self._keep_identity(want.fingerprint, found)

    def _keep_identity(self, fingerprint: bytes, entry: _Entry | None) -> None:
        if entry is None:
            self._identities.pop(fingerprint, None)
            _put(self._unknown, fingerprint, self._clock.monotonic() + UNKNOWN_SECONDS, MAX_UNKNOWN)
        else:
            self._unknown.pop(fingerprint, None)
            _put(self._identities, fingerprint, entry, MAX_IDENTITIES)

    def _end(self, lookup: _Lookup, found: Found) -> None:
        if self._waiting.get(lookup.fingerprint) is lookup:
            del self._waiting[lookup.fingerprint]
            for answer in lookup.answers:
                answer(found)

    # --- dropping: the epoch ---

    def looked(self) -> None:
        """A look at the epoch succeeded: the picture may be trusted from here on."""
        self._looked_at = self._clock.monotonic()

    def changed(self, lines: list[Changed]) -> None:
        """Drop what the lines name; a gap in them, too many, or a setting of the house drops everything."""
        if not lines:
            return
        newest = max(line.seq for line in lines)
        if any(line.kind == ANOTHER_DATABASE.kind and line.seq > 0 for line in lines):
            self.on_restored()
        expected = range(self.epoch + 1, self.epoch + 1 + len(lines))
        is_gapless = [line.seq for line in lines] == list(expected)
        # What the house decides about itself concerns everybody's calls, those that run included.
        is_of_the_house = any(line.kind == setting_services.KIND for line in lines)
        if len(lines) > MAX_CHANGES or not is_gapless or is_of_the_house:
            self.epoch = max(newest, 0)
            self._drop_everything()
            return
        self.epoch = newest
        keys: dict[UUID, int] = {}
        tenants: dict[UUID, int] = {}
        for line in lines:
            self._drop(line, keys, tenants)
        self._forget_callers(keys, tenants)
        self.on_change(set(keys), set(tenants))

    def _drop(self, line: Changed, keys: dict[UUID, int], tenants: dict[UUID, int]) -> None:
        """Drop the routes that a line names; keys and tenants are noted with the line's `seq`."""
        if line.kind == "api_key":
            keys[line.object_id] = line.seq
        elif line.kind in {"tenant", "account", "project"} and line.tenant_id is not None:
            tenants[line.tenant_id] = line.seq
        elif line.kind in {"provider", "model"}:
            if line.tenant_id is None:
                # A tenant's own model may be served by a shared provider, so those go as well.
                self._shared = None
                self._own.clear()
            else:
                self._own.pop(line.tenant_id.int, None)

    def _forget_callers(self, keys: dict[UUID, int], tenants: dict[UUID, int]) -> None:
        """Drop what was read before these changes; what was read after them knows of them."""
        if not keys and not tenants:
            return
        # A new or rotated key may be one that was asked for before it existed.
        self._forget_unknown()
        for fingerprint, entry in list(self._identities.items()):
            who = entry.identity
            if entry.epoch < max(keys.get(who.key_id, 0), tenants.get(who.tenant_id, 0)):
                del self._identities[fingerprint]
        for tenant_id in tenants:
            self._own.pop(tenant_id.int, None)

    def _forget_unknown(self) -> None:
        self._unknown.clear()
        self._none_imported_until = 0.0

    def _drop_everything(self) -> None:
        self._generation += 1
        self._identities.clear()
        self._forget_unknown()
        self._own.clear()
        self._shared = None
        self.on_reset()

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)


K = TypeVar("K")
V = TypeVar("V")


def _put(cache: OrderedDict[K, V], key: K, value: V, bound: int) -> None:
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > bound:
        cache.popitem(last=False)


def _load(want: Want) -> _Loaded:
    """Runs in a thread. The epoch is read first: everything after it is at least as new."""
    try:
        epoch = changes.epoch()
        if want.fingerprint is not None:
            found = _entry(epoch, want.fingerprint)
            nobody = found is None and is_imported(want.fingerprint) and not any_imported()
            return _Loaded(epoch, found, none_imported=nobody)
        if want.tenant_id is not None:
            return _Loaded(epoch, pictures.own_routes(want.tenant_id))
        return _Loaded(epoch, pictures.shared_catalogue())
    finally:
        connection.close()


def _entry(epoch: int, fingerprint: bytes) -> _Entry | None:
    identity = load_identity(fingerprint)
    if identity is None:
        return None
    return _Entry(
        epoch,
        identity,
        pictures.caller_of(identity),
        pictures.levels_of(identity),
        pictures.content_key(identity),
    )
