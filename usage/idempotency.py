"""One answer for one Idempotency-Key: the first call with it is made, and its answer is what every repetition gets for a day.

A claim is a row that only one call can insert. What becomes of it is told by the journal like everything else about the call,
so whoever brings the journal into the tables (its own worker, or another after a kill) also closes the claim: with the sealed
answer; or without one, when the provider may have been at work and nobody can say it again; or by deleting it, when nothing came
of it. A claim whose call never got into the journal is deleted when that journal is known whole.

What is no call, but a change of configuration, is no journal's: its claim, the change and the answer are one transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final
from uuid import UUID, uuid4

import msgspec
from django.db import transaction
from django.db.models import QuerySet

from tenants import keyring, sealing
from tenants.clock import SYSTEM
from tenants.sealing import Place, SealingError, Secret
from usage.calls import Call, Item
from usage.models import IdempotentCall
from usage.records import Refusal, Settlement

#: How long an answer is kept, and a key is good for one body only.
KEPT: Final = timedelta(hours=24)
#: Bytes of the largest answer that is kept.
MAX_ANSWER: Final = 1024 * 1024
#: Characters of an Idempotency-Key.
MAX_NAME: Final = 255

_PURPOSE: Final = "idempotency"
#: Expired rows that one claim deletes: more than it adds, so that the table follows use.
_SWEEP: Final = 4
_CLIENT_LEFT: Final = 499
#: What is no call is in none.
_NO_JOURNAL: Final = UUID(int=0)


class Answer(msgspec.Struct, frozen=True):
    """What the first call was answered, as it is sealed."""

    status: int
    content_type: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Wish:
    """A request that asks to be made once. `body` is everything that must be the same: path and body.

    `key_id`: whose name it is, an API key's or whoever else asks. `tenant_id`: zero for what belongs to none.
    """

    tenant_id: UUID
    key_id: UUID
    name: str
    body: tuple[bytes, ...]
    request_id: UUID


@dataclass(frozen=True, slots=True)
class Fresh:
    """Nobody used that key: the call is ours to make. `key` (version, purpose key) seals its answer."""

    id: UUID
    tenant_id: UUID
    key: tuple[int, Secret]


class Verdict(Enum):
    """Why a call with a used key is neither made nor answered."""

    IN_FLIGHT = "in flight"
    MISMATCH = "mismatch"
    NOT_REPLAYABLE = "not replayable"


Outcome = Fresh | Answer | Verdict


def claim(wish: Wish, boot: UUID | None) -> Outcome:
    """Whose call it is; `boot` names the journal of whoever asks. At most one transaction.

    Without a journal it is a part of the caller's, which may last: then no row is locked that anybody else wants.

    Raises Django's database errors and `SealingError`.
    """
    version, key = keyring.tenant_key(_owner(wish.tenant_id), _PURPOSE)
    name = sealing.mac(key, b"name", wish.name.encode())
    body = sealing.mac(key, b"body", *wish.body)
    now = SYSTEM.now()
    named = IdempotentCall.objects.filter(key_id=wish.key_id, name=name)
    # Who repeats a call asks again and again; to be told what is there needs no lock that others wait for.
    row = named.filter(created_at__gte=now - KEPT).first()
    if row is None:
        with transaction.atomic():
            if boot is not None:
                _forget_some(expired(now))
            named.filter(created_at__lt=now - KEPT).delete()
            row, is_ours = named.get_or_create(
                key_id=wish.key_id,
                name=name,
                defaults={
                    "id": uuid4(),
                    "tenant_id": wish.tenant_id,
                    "body": body,
                    "boot": boot or _NO_JOURNAL,
                    "request_id": wish.request_id,
                    "created_at": now,
                },
            )
        if is_ours:
            return Fresh(row.id, wish.tenant_id, (version, key))
    if bytes(row.body) != body:
        return Verdict.MISMATCH
    if row.state == IdempotentCall.State.OPEN:
        return Verdict.IN_FLIGHT
    return _answer_of(row)


def expired(now: datetime) -> "QuerySet[IdempotentCall]":
    """Keys that are good for another call, whatever became of the first."""
    return IdempotentCall.objects.filter(created_at__lt=now - KEPT)


def _forget_some(old: "QuerySet[IdempotentCall]") -> None:
    # What somebody else deletes just now is not waited for.
    free = old.order_by("created_at").select_for_update(skip_locked=True)
    ids = list(free.values_list("id", flat=True)[:_SWEEP])
    if ids:
        IdempotentCall.objects.filter(id__in=ids).delete()


def _answer_of(row: IdempotentCall) -> Answer | Verdict:
    if row.sealed is None:
        return Verdict.NOT_REPLAYABLE
    try:
        opened = keyring.unseal_for(
            _owner(row.tenant_id), _PURPOSE, _place(row.tenant_id, row.id), bytes(row.sealed)
        )
    except SealingError:
        return Verdict.NOT_REPLAYABLE
    return msgspec.msgpack.decode(opened.reveal(), type=Answer)


def _owner(tenant_id: UUID) -> UUID | None:
    """Whose root the keys are derived from."""
    return None if tenant_id == keyring.NO_TENANT else tenant_id


def _place(tenant_id: UUID, row_id: UUID) -> Place:
    return Place("usage_idempotentcall", "sealed", tenant_id, row_id, 1)


class Keepsake:
    """Collects the answer of a call whose claim is ours."""

    __slots__ = ("_answer", "_fresh", "_is_too_large")

    def __init__(self, fresh: Fresh) -> None:
        self._fresh = fresh
        self._answer = bytearray()
        self._is_too_large = False

    @property
    def claim(self) -> UUID:
        return self._fresh.id

    def add(self, data: bytes) -> None:
        if self._is_too_large or len(self._answer) + len(data) > MAX_ANSWER:
            self._is_too_large = True
            self._answer.clear()
            return
        self._answer += data

    def sealed(self, status: int, content_type: bytes) -> bytes | None:
        """What the settlement carries; None for an answer too large to be kept."""
        if self._is_too_large:
            return None
        return _sealed(self._fresh, Answer(status, content_type, bytes(self._answer)))


def _sealed(fresh: Fresh, answer: Answer) -> bytes:
    version, key = fresh.key
    place = _place(fresh.tenant_id, fresh.id)
    return sealing.seal(key, version, place, msgspec.msgpack.encode(answer))


# --- in the caller's transaction ----------------------------------------------------------------------------------------


def keep(fresh: Fresh, answer: Answer) -> None:
    """Closes the claim in the transaction that made it. An answer that is too large to be kept cannot be given again."""
    IdempotentCall.objects.filter(id=fresh.id).update(
        state=IdempotentCall.State.CLOSED,
        sealed=_sealed(fresh, answer) if len(answer.body) <= MAX_ANSWER else None,
    )


# --- from the journal ---------------------------------------------------------------------------------------------------


def close_claims(items: Iterable[Item]) -> None:
    """Closes the claims of these calls, in the caller's transaction. To do it twice changes nothing."""
    freed: list[UUID] = []
    gone: list[UUID] = []
    for item in items:
        claimed = item.idempotency if isinstance(item, Refusal) else item.intent.idempotency
        if claimed is None:
            continue
        if isinstance(item, Refusal):
            freed.append(claimed)
        elif item.settlement is not None:
            _close(claimed, item, item.settlement, freed, gone)
    if freed:
        IdempotentCall.objects.filter(id__in=freed).delete()
    if gone:
        IdempotentCall.objects.filter(id__in=gone).update(state=IdempotentCall.State.CLOSED)


def _close(
    claimed: UUID, call: Call, settlement: Settlement, freed: list[UUID], gone: list[UUID]
) -> None:
    if settlement.replay is not None:
        IdempotentCall.objects.filter(id=claimed).update(
            state=IdempotentCall.State.CLOSED, sealed=settlement.replay
        )
    elif _came_to_nothing(settlement):
        freed.append(claimed)
    else:
        gone.append(claimed)


def _came_to_nothing(settlement: Settlement) -> bool:
    """A failure that the caller was told of, for which nothing is charged: to try again is what they should do."""
    if settlement.dispatched == "unknown":
        return False
    return (
        settlement.status >= 400
        and settlement.status != _CLIENT_LEFT
        and settlement.cost_nano_usd == 0
    )


def give_back(claimed: UUID) -> None:
    """The call was not made, and no journal will say so."""
    IdempotentCall.objects.filter(id=claimed, state=IdempotentCall.State.OPEN).delete()


def forget_open(boot: UUID) -> None:
    """Everything of that journal is in the tables: what it left open never got as far as a call."""
    IdempotentCall.objects.filter(boot=boot, state=IdempotentCall.State.OPEN).delete()
