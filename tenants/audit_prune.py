"""Taking the oldest rows off the audit log: a segment at a time, out of the table and into a file that proves what it holds.

Of each segment: the chain is verified → the rows are written to a file → in one transaction a signed mark says what went, a row
of the chain tells of it, the trigger against deletion is lifted, the rows go, the trigger is back. Whatever ends this in between,
the rows are in the table or in a file that a mark names, and doing it again finishes it. A file that no mark names is of a run
that was broken off, and its rows are in the table.
"""

import contextlib
import hashlib
import logging
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from django.db import connection
from django.db.models import Max, Min, QuerySet

from tenants import audit, audit_export, audit_marks, audit_triggers
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import change
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, ServiceError
from tenants.models import AuditEvent, AuditPrune

logger = logging.getLogger(__name__)

#: Rows of a segment at most: on SQLite they are deleted in one transaction, for which others wait.
SEGMENT_ROWS: Final = 1_000
_READ_AT_ONCE: Final = 500
_MOST_NAMES: Final = 100
_STALE_SECONDS: Final = 86_400


class Damaged(Conflict):
    """What does not verify is not pruned: it would be the evidence that goes."""

    code = "audit_damaged"


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows `first` to `last` of a chain, all of them older than what is kept."""

    scope: str
    first: int
    last: int

    @property
    def rows(self) -> int:
        return self.last - self.first + 1

    def events(self) -> "QuerySet[AuditEvent]":
        return AuditEvent.objects.filter(scope=self.scope, seq__range=(self.first, self.last))


@dataclass(slots=True)
class Outcome:
    """`refused`: by scope, why nothing more of it was pruned."""

    marks: list[AuditPrune] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(mark.rows for mark in self.marks)


def old(before: datetime, scope: str | None = None) -> list[Segment]:
    """What could be pruned: of each chain the rows up to the first that is not older. Reads, and changes nothing."""
    events = (
        AuditEvent.objects.order_by() if scope is None else AuditEvent.objects.filter(scope=scope)
    )
    found = events.values_list("scope").annotate(first=Min("seq"), last=Max("seq"))
    segments = [
        Segment(name, first, min(last, (_first_young(name, before) or last + 1) - 1))
        for name, first, last in found.order_by("scope")
    ]
    return [each for each in segments if each.rows > 0 and _is_worth_it(each)]


def _first_young(scope: str, before: datetime) -> int | None:
    young = AuditEvent.objects.filter(scope=scope, created_at__gte=before)
    number: int | None = young.aggregate(first=Min("seq"))["first"]
    return number


def _is_worth_it(segment: Segment) -> bool:
    """Not to write down of a chain in which nothing happens that something was written down."""
    return segment.events().exclude(action=audit.PRUNED).exists()


def prune(
    *,
    actor: Actor,
    before: datetime,
    folder: Path,
    scope: str | None = None,
    rows_at_once: int = SEGMENT_ROWS,
    goes_on: Callable[[], bool] = lambda: True,
    progress: Callable[[AuditPrune], object] = lambda mark: None,
) -> Outcome:
    """Prunes what is older than `before`, of every chain or of one. A chain that does not hold is left alone, and told of.

    Raises `Invalid` for a time that is not over, and for a folder that cannot be written to.
    """
    if before > SYSTEM.now():
        raise Invalid.field("before", "lies in the future.")
    _make(folder)
    outcome = Outcome()
    for whole in old(before, scope):
        try:
            _refuse_damaged(whole.scope)
            for segment in _cut(whole, rows_at_once):
                if not goes_on():
                    return outcome
                mark = _prune_one(actor, segment, folder)
                outcome.marks.append(mark)
                progress(mark)
        except ServiceError as refusal:
            outcome.refused[whole.scope] = refusal.message
    return outcome


def _refuse_damaged(scope: str) -> None:
    fault = audit_export.key_fault()
    if fault is not None:
        raise Damaged(fault)
    findings = audit.verify(scope=scope).findings
    if findings:
        first = findings[0]
        raise Damaged(f"The chain does not hold at {first.seq}: {first.sentence} Nothing went.")


def _cut(whole: Segment, rows: int) -> Iterator[Segment]:
    for first in range(whole.first, whole.last + 1, rows):
        yield Segment(whole.scope, first, min(whole.last, first + rows - 1))


def _prune_one(actor: Actor, segment: Segment, folder: Path) -> AuditPrune:
    path, digest, head_hash = _written(segment, folder)
    mark = AuditPrune(
        id=uuid4(),
        scope=segment.scope,
        from_seq=segment.first,
        to_seq=segment.last,
        head_hash=head_hash,
        file=path.name,
        digest=digest,
        created_at=SYSTEM.now(),
        actor_type=actor.type,
        actor_id=audit.clean_text(actor.id, 64),
        actor_label=audit.clean_text(actor.label, 128),
    )
    target = Target("audit_prune", str(mark.id), f"{segment.first} to {segment.last}")
    with change(actor, audit.PRUNED, target, _tenant_id(segment.scope)) as it:
        _take_out(segment, mark)
        it.detail(
            from_seq=segment.first,
            to_seq=segment.last,
            file=path.name,
            machine=platform.node(),
            # In groups: the audit log takes a longer word for a credential.
            digest=digest.hex(" ", 4),
            head_hash=head_hash.hex(" ", 4),
            trigger="lifted for this transaction, and put back",
        )
    logger.info(
        "Audit rows %d to %d of %s went into %s.", mark.from_seq, mark.to_seq, mark.scope, mark.file
    )
    return mark


def _take_out(segment: Segment, mark: AuditPrune) -> None:
    """In the transaction of the row that tells of it, which is the next of the chain: nobody else writes to it before the end."""
    head = audit.locked_head(segment.scope)
    before = audit_marks.newest(segment.scope)
    first = 1 if before is None else before.to_seq + 1
    last = segment.events().filter(seq=segment.last).first()
    is_same = last is not None and bytes(last.row_hash) == bytes(mark.head_hash)
    if first != segment.first or not is_same or segment.events().count() != segment.rows:
        raise Conflict("Somebody else pruned this chain meanwhile. Nothing was done.")
    mark.noted_seq = head.seq + 1
    mark.mac = audit_marks.sign(audit_marks.key(certain=True), mark, before)
    mark.save(force_insert=True)
    logger.info("The trigger against deletion of audit rows is lifted for one transaction.")
    with audit_triggers.deletion_allowed(connection):
        deleted, _ = segment.events().delete()
    if deleted != segment.rows:
        raise Conflict("There were other rows than were written to the file. Nothing was done.")


def _tenant_id(scope: str) -> UUID | None:
    return None if scope == audit.PLATFORM else UUID(scope)


# --- files --------------------------------------------------------------------------------------------------------------


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in folder.glob(".*.part"):
            # Of a process that was killed; the rows are where they were.
            if SYSTEM.now().timestamp() - part.stat().st_mtime > _STALE_SECONDS:
                part.unlink(missing_ok=True)
    except OSError as fault:
        raise Invalid.field("output", f"cannot be made: {fault.strerror}.") from None


def _written(segment: Segment, folder: Path) -> tuple[Path, bytes, bytes]:
    """The file with all rows of the segment, its digest, and the hash of its last row. On the disk when it has its name."""
    part = folder / f".{segment.scope}-{uuid4().hex}.part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as fault:
        raise Invalid.field("output", f"cannot be written to: {fault.strerror}.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            digest, head_hash = _write(segment, file.write)
            file.flush()
            os.fsync(file.fileno())
        path = _name(segment, folder, digest)
        part.rename(path)
        _sync(folder)
    except OSError as fault:
        raise Invalid.field("output", f"cannot be written to: {fault.strerror}.") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path, digest, head_hash


def _write(segment: Segment, write: Callable[[bytes], object]) -> tuple[bytes, bytes]:
    """Each row is verified once more as it is written: it is what the mark will be signed for."""
    before, key = audit_marks.newest(segment.scope), audit.chain_key(certain=True)
    digest, seq = hashlib.sha256(), segment.first - 1
    previous = audit.GENESIS if before is None else bytes(before.head_hash)
    for event in segment.events().order_by("seq").iterator(_READ_AT_ONCE):
        seq += 1
        fault = audit.fault_of(key, event, seq, previous)
        if fault is not None:
            raise Damaged(f"The chain does not hold at {seq}: {fault} Nothing went.")
        line = audit_export.line_of(event).encode()
        digest.update(line)
        write(line)
        previous = bytes(event.row_hash)
    if seq != segment.last:
        raise Conflict("Rows went away while they were written to a file. Nothing was done.")
    return digest.digest(), previous


def _name(segment: Segment, folder: Path, digest: bytes) -> Path:
    """Of a run that was broken off the same file may be there; another one is of another history, and stays."""
    stem = f"{segment.scope}-{segment.first:09d}-{segment.last:09d}"
    for number in range(_MOST_NAMES):
        path = folder / (f"{stem}-{number}.jsonl" if number else f"{stem}.jsonl")
        if not path.exists() or audit_marks.file_digest(path) == digest:
            return path
    raise Invalid.field("output", f"holds {_MOST_NAMES} other files called {stem}.")


def _sync(folder: Path) -> None:
    """A name is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
