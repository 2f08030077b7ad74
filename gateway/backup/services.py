"""What can be done with backups: make one, look at what one would do here, put one in. Owners only; the doors see to that."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Final

from django.db import transaction

from gateway.backup import contents as reading
from gateway.backup import exporting, house, restoring
from gateway.backup.contents import Contents
from gateway.backup.exporting import Wish
from gateway.backup.lines import Backup, End, Head
from gateway.backup.putting import put_all
from gateway.backup.remapping import Conflict as NameTaken
from gateway.backup.remapping import Remapping
from gateway.backup.restoring import Restoring
from gateway.backup.tables import TABLES
from gateway.epoch import ANOTHER_DATABASE
from tenants import keyring
from tenants.actor import Actor
from tenants.audit import Entry, Target
from tenants.changes import Change, change, note
from tenants.errors import Conflict, Invalid, ServiceError
from tenants.moments import one_moment
from tenants.services import find_tenant

KIND: Final = "backup"
REFUSE: Final = "refuse"
SKIP: Final = "skip"
ON_CONFLICT: Final = (REFUSE, SKIP)
_SHOWN_DIGEST: Final = 16
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Manner:
    """How a backup is to go in: as it was, into an empty database; or with `remap_ids` into this house, where names that are
    taken are refused or skipped. `accept_unreadable`: although this machine cannot open what is sealed in it.
    """

    remap_ids: bool = False
    on_conflict: str = REFUSE
    accept_unreadable: bool = False

    def __post_init__(self) -> None:
        if self.on_conflict not in ON_CONFLICT:
            raise Invalid.field("on_conflict", f"must be one of {', '.join(ON_CONFLICT)}.")
        if self.on_conflict == SKIP and not self.remap_ids:
            raise Invalid.field("on_conflict", "says something only with remap_ids.")


@dataclass(slots=True)
class Outcome:
    """What an import did, or would do: rows by table. `refusals`: why it cannot be done like this, each as a sentence."""

    head: Head
    manner: Manner
    rows: Counter[str]
    unreadable: int
    new: Counter[str] = field(default_factory=Counter)
    existing: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    conflicts: list[NameTaken] = field(default_factory=list)
    conflict_counts: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def _silent(count: int) -> None:
    pass


# --- out --------------------------------------------------------------------------------------------------------------


def export_backup(
    *,
    actor: Actor,
    file: IO[bytes],
    tenant: str | None = None,
    with_logs: bool = False,
    progress: Progress = _silent,
) -> End:
    """Write everything, or what belongs to one tenant. The audit row stands before anybody can have read the file to its end."""
    if tenant is not None and with_logs:
        raise Invalid.field("with_logs", "goes with a backup of the whole house.")
    owner = None if tenant is None else find_tenant(tenant)
    end = exporting.write(file, Wish(None if owner is None else owner.id, with_logs), progress)
    details = {
        "tenant": owner.slug if owner else None,
        "with_logs": with_logs,
        "rows": end.rows,
        "sha256": end.digest.hex()[:_SHOWN_DIGEST],
    }
    target = Target(KIND, end.digest.hex()[:_SHOWN_DIGEST], owner.slug if owner else "the house")
    note(Entry(actor, "backup.exported", target, details=details))
    return end


# --- in ---------------------------------------------------------------------------------------------------------------


def preview_backup(*, actor: Actor, file: IO[bytes], manner: Manner) -> Outcome:
    """What an import would do. Changes nothing; raises `Invalid` for a file that is none of ours, or not whole."""
    contents = reading.read(Backup(file))
    rehearse = _rehearse_moving if manner.remap_ids else _rehearse_restoring
    with one_moment():
        outcome = rehearse(contents, manner, actor)
    if contents.unreadable and not manner.accept_unreadable:
        outcome.refusals.append(_accept_sentence(contents))
    return outcome


def _rehearse_restoring(contents: Contents, manner: Manner, actor: Actor) -> Outcome:
    outcome = _outcome(contents, manner)
    restoration = Restoring(contents)
    outcome.new = Counter(put[1].label for put in restoration.rows())
    outcome.left_out = restoration.left_out
    outcome.warnings = restoring.warnings(contents)
    fault = _not_as_it_is(contents)
    if fault is not None:
        outcome.refusals.append(fault)
        outcome.existing = Counter(house.what_is_here())
    return outcome


def _rehearse_moving(contents: Contents, manner: Manner, actor: Actor) -> Outcome:
    remapping = Remapping(contents, actor, is_rehearsal=True)
    for _ in remapping.rows():
        pass
    outcome = _outcome(contents, manner)
    _tell_of(remapping, outcome)
    if remapping.conflict_count and manner.on_conflict == REFUSE:
        outcome.refusals.append(_taken_sentence(remapping))
    return outcome


def import_backup(
    *, actor: Actor, file: IO[bytes], manner: Manner, progress: Progress = _silent
) -> Outcome:
    """All of it or nothing, in one transaction. Raises `Invalid` for a bad file, `Conflict` where it does not fit here."""
    is_fresh = house.is_fresh()
    target = Target(KIND, "new")
    try:
        contents = reading.read(Backup(file))
        _check(contents, manner, is_fresh)
    except ServiceError as refusal:
        if not is_fresh:
            with change(actor, "backup.imported", target):
                raise refusal from None
        raise
    try:
        with change(actor, "backup.imported", target) as it:
            return _put_in(contents, manner, it, is_fresh, progress)
    except _Unnoted as failed:
        raise failed.refusal from None


class _Unnoted(Exception):
    """A refusal in an empty database: an audit row about it would be the first thing in there, and keep the next try out."""

    def __init__(self, refusal: ServiceError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def _put_in(
    contents: Contents, manner: Manner, it: Change, is_fresh: bool, progress: Progress
) -> Outcome:
    try:
        outcome = _outcome(contents, manner)
        act = _move if manner.remap_ids else _restore
        act(contents, outcome, it, progress)
    except ServiceError as refusal:
        if is_fresh:
            raise _Unnoted(refusal) from None
        raise
    digest = contents.backup.end.digest.hex()[:_SHOWN_DIGEST]
    it.aim(Target(KIND, digest, "with new ids" if manner.remap_ids else "as it was"))
    it.detail(
        created_at=contents.backup.head.created_at.isoformat(),
        rows=outcome.new.total(),
        existing=outcome.existing.total(),
        left_out=outcome.left_out.total(),
        unreadable=outcome.unreadable,
        tables=dict(outcome.new),
        on_conflict=manner.on_conflict,
        sha256=digest,
    )
    return outcome


def _restore(contents: Contents, outcome: Outcome, it: Change, progress: Progress) -> None:
    if not house.is_fresh():
        raise Conflict(house.sentence())
    house.clear()
    restoration = Restoring(contents)
    outcome.new = put_all(restoration.rows(), progress)
    outcome.left_out = restoration.left_out
    outcome.warnings = restoring.warnings(contents)
    # The audit row of this is under the key that came along.
    keyring.KEYRING.forget()
    transaction.on_commit(keyring.KEYRING.forget)
    it.touch(ANOTHER_DATABASE.kind, ANOTHER_DATABASE.object_id, None)


def _move(contents: Contents, outcome: Outcome, it: Change, progress: Progress) -> None:
    remapping = Remapping(contents, it.entry.actor)
    put_all(remapping.rows(), progress)
    if remapping.conflict_count and outcome.manner.on_conflict == REFUSE:
        raise Conflict(_taken_sentence(remapping), facts=_named(remapping))
    _tell_of(remapping, outcome)
    for touched in dict.fromkeys(remapping.touched):
        it.touch(*touched)


def _outcome(contents: Contents, manner: Manner) -> Outcome:
    return Outcome(contents.backup.head, manner, contents.counts, contents.unreadable)


def _tell_of(remapping: Remapping, outcome: Outcome) -> None:
    outcome.new = remapping.new
    outcome.left_out = remapping.left_out
    outcome.existing = remapping.existing
    outcome.conflicts = remapping.conflicts
    outcome.conflict_counts = remapping.conflict_counts
    outcome.warnings = remapping.warnings()


def _check(contents: Contents, manner: Manner, is_fresh: bool) -> None:
    if contents.unreadable and not manner.accept_unreadable:
        raise Conflict(_accept_sentence(contents), code="master_key_missing")
    fault = None if manner.remap_ids else _not_as_it_is(contents)
    if fault is not None:
        raise Conflict(fault)


def _not_as_it_is(contents: Contents) -> str | None:
    """Why the backup cannot go in with the ids that it has."""
    if contents.backup.head.tenant is not None:
        return "This is a backup of one tenant: it goes into a house with new ids (--remap-ids, remap_ids=true)."
    return None if house.is_fresh() else house.sentence()


def _accept_sentence(contents: Contents) -> str:
    return (
        f"{contents.what_is_lost()} Put it into GATEHOUSE_KEK, or import without what is sealed"
        " (--accept-unreadable, accept_unreadable=true)."
    )


def _taken_sentence(remapping: Remapping) -> str:
    named = ", ".join(f"{each.table} {each.name!r}" for each in remapping.conflicts[:5])
    return (
        f"{remapping.conflict_count} names are taken here ({named}). With --on-conflict skip"
        " (on_conflict=skip) what is here stays, and the rest comes."
    )


def _named(remapping: Remapping) -> dict[str, Any]:
    return {"conflicts": [{"table": each.table, "name": each.name} for each in remapping.conflicts]}


def counts_of(outcome: Outcome) -> dict[str, dict[str, int]]:
    """By table, in the order of the file: what the backup holds, and what becomes of it."""
    return {
        table.label: {
            "rows": outcome.rows[table.label],
            "new": outcome.new[table.label],
            "existing": outcome.existing[table.label],
            "conflicts": outcome.conflict_counts[table.label],
            "left_out": outcome.left_out[table.label],
        }
        for table in TABLES
        if outcome.rows[table.label] or outcome.new[table.label] or outcome.existing[table.label]
    }
