"""Plan, apply and roll back a configuration file: what its commands, its routes and the start of a server do.

An apply is one transaction and one audit entry. Two at once queue; the second sees what the first has done.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.config_file import undoing
from gateway.config_file.differences import (
    Plan,
    Step,
    differences,
    handlers,
    in_force,
    label,
)
from gateway.config_file.faults import ConfigInvalid, Faults, StaleRevision
from gateway.config_file.key_handler import KeyHandler
from gateway.config_file.shape import Entry, Wish
from gateway.config_file.undoing import Undo
from keys.services import by_file
from providers.models import Provider
from providers.services import look_up, looked_up
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import in_turn, rehearsal, together
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound, ServiceError, Unavailable
from tenants.models import ConfigRevision, Tenant
from tenants.sealing import Secret

KIND: Final = "config"
#: Revisions that can still be taken back. Of older ones no sealed credential is kept.
UNDOABLE: Final = 20
#: Revisions of which is kept what they said.
_KEPT: Final = 500
_AUDITED_STEPS: Final = 64

#: A key that was made: (tenant, name, credential).
Made = tuple[str, str, Secret]
#: Hears of the keys that were made before anything is committed; what it cannot keep, it refuses.
Deliver = Callable[[list[Made]], None]


@dataclass(slots=True)
class Applied:
    """`revision` is the number of the one in force; `is_new` whether it was made just now."""

    plan: Plan
    revision: int
    is_new: bool
    made: list[Made] = field(default_factory=list)


@dataclass(slots=True)
class RolledBack:
    """`revision` was taken back, `current` is in force now (0: none)."""

    revision: int
    current: int
    warnings: list[str]


def plan(wish: Wish, actor: Actor, *, prune: bool = False) -> Plan:
    """What `apply` would do. It is rehearsed and undone, so that what would be refused is refused. Raises `ConfigInvalid`."""
    unreachable = _look_up_addresses(wish)
    with in_turn():
        found = differences(wish, prune=prune or wish.prune)
        if found.changing:
            with rehearsal(actor):
                _Doer(wish, found, actor, unreachable).do()
    return found


def apply(
    wish: Wish,
    actor: Actor,
    *,
    prune: bool = False,
    base_revision: int | None = None,
    deliver: Deliver = lambda made: None,
) -> Applied:
    """Do it. Raises `ConfigInvalid`, `StaleRevision`; then nothing has happened, and one audit row says so."""
    unreachable = _look_up_addresses(wish)
    with together(actor, "config.applied", Target(KIND, "file", _digest(wish)[:12])) as it:
        found = differences(wish, prune=prune or wish.prune)
        if base_revision is not None and base_revision != found.revision:
            raise StaleRevision(found.revision)
        if not found.has_work:
            it.void()
            return Applied(found, found.revision, is_new=False)
        doer = _Doer(wish, found, actor, unreachable)
        doer.do()
        revision = _record(wish, found, actor, doer.undo)
        it.aim(Target(KIND, str(revision.id), str(revision)))
        it.detail(
            revision=revision.number,
            counts=revision.counts,
            changes=revision.changes[:_AUDITED_STEPS],
            digest=revision.digest,
        )
        deliver(doer.made)
    return Applied(found, revision.number, is_new=True, made=doer.made)


def _look_up_addresses(wish: Wish) -> dict[str, Invalid]:
    """The faults of new addresses, by the path of what has them. Names are looked up before any transaction begins: it can
    take seconds. An address that is stored already was judged when it came.
    """
    stored = set(Provider.objects.values_list("base_url", flat=True))
    new = {
        entry.path: entry.given["base_url"]
        for entry in wish.entries
        if entry.clean.get("base_url") and entry.clean["base_url"] not in stored
    }
    found = {path: look_up(address) for path, address in new.items()}
    return {path: fault for path, fault in found.items() if fault is not None}


# --- doing ------------------------------------------------------------------------------------------------------------


class _Doer:
    """Does the steps of a plan, one after the other, and keeps what takes them back."""

    def __init__(
        self, wish: Wish, plan: Plan, actor: Actor, unreachable: Mapping[str, Invalid]
    ) -> None:
        self._wish = wish
        self._unreachable = unreachable
        self._plan = plan
        self._actor = actor
        self._tenants: dict[str, Tenant] = {}
        self.undo: list[Undo] = []

    @property
    def made(self) -> list[Made]:
        keys = self._plan.handlers["key"]
        return keys.made if isinstance(keys, KeyHandler) else []

    def do(self) -> None:
        for step in self._plan.steps:
            if step.action != "unchanged" or self._takes_over(step):
                self._do(step)

    @staticmethod
    def _takes_over(step: Step) -> bool:
        """A key that somebody else made becomes the file's; other things have no mark of who owns them."""
        return step.adopts and step.kind == "key"

    def _do(self, step: Step) -> None:
        before = undoing.rows_of(step.handler, step.row.id if step.row else None)
        undoing.note_members(step)
        try:
            tenant = self._tenant(step.tenant)
            if step.entry and step.entry.path in self._unreachable:
                raise self._unreachable[step.entry.path]
            with looked_up(), by_file():
                self._call(step, tenant)
        except (ConfigInvalid, Unavailable):
            raise
        except ServiceError as fault:
            faults = Faults(self._wish.document)
            if step.entry is None:
                faults.add("", f"{label(step)} cannot be pruned: {fault.message}")
            else:
                faults.of_fields(step.entry.path, fault)
            faults.raise_if_any()
        # What was made goes as a whole, whatever became of it by then.
        after = undoing.rows_of(step.handler, step.row.id) if before else {}
        owner = step.row.id if isinstance(step.row, Tenant) else getattr(tenant, "id", None)
        self.undo.append(undoing.kept(step, before, after, owner))

    def _call(self, step: Step, tenant: Tenant | None) -> None:
        entry: Entry | None = step.entry
        if step.action == "delete" or entry is None:
            step.handler.remove(self._actor, step.row)
        elif step.row is None:
            step.row = step.handler.create(self._actor, tenant, entry)
        else:
            step.handler.update(self._actor, step.row, dict(step.fields), entry)

    def _tenant(self, slug: str | None) -> Tenant | None:
        if slug is None:
            return None
        if slug not in self._tenants:
            self._tenants[slug] = Tenant.objects.get(slug=slug)
        return self._tenants[slug]


# --- revisions --------------------------------------------------------------------------------------------------------


def _digest(wish: Wish) -> str:
    """Of the file without its secrets: what is published must not help anybody to guess one."""
    text = json.dumps(wish.redacted, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _record(wish: Wish, plan: Plan, actor: Actor, undo: list[Undo]) -> ConfigRevision:
    newest = ConfigRevision.objects.order_by("-number").first()
    revision = ConfigRevision.objects.create(
        number=newest.number + 1 if newest else 1,
        document=wish.redacted,
        digest=_digest(wish),
        counts=plan.counts(),
        changes=[step.told() for step in plan.changing],
        owned=_owned(plan),
        undo=undo,
        actor_type=actor.type[:32],
        actor_id=actor.id[:64],
        actor_label=actor.label[:128],
        applied_at=SYSTEM.now(),
    )
    old = ConfigRevision.objects.filter(number__lte=revision.number - UNDOABLE)
    old.filter(undo__isnull=False).update(undo=None)
    ConfigRevision.objects.filter(number__lte=revision.number - _KEPT).delete()
    return revision


def _owned(plan: Plan) -> list[list[str]]:
    """What the file names, and what it named once and nobody has pruned yet."""
    steps = [
        step
        for step in plan.steps
        if step.action != "delete" and step.row is not None and (not step.entry or step.entry.owns)
    ]
    return [[step.kind, str(step.row.id)] for step in [*steps, *plan.orphans]]


def rollback(actor: Actor, *, revision: object = None) -> RolledBack:
    """Take back the revision in force: what it changed is again as it was before. Naming it makes sure that it is that one.

    Raises `NotFound`, `StaleRevision`, `undoing.Blocked`. What was spent, logs and revocations stay as they are.
    """
    with together(actor, "config.rolled_back", Target(KIND, "revision")) as it:
        found = in_force()
        if found is None:
            raise NotFound("There is no revision to roll back.")
        it.aim(Target(KIND, str(found.id), str(found)))
        _check_named(revision, found)
        if found.undo is None:
            raise Conflict("This revision is too old to be taken back.", code="rollback_blocked")
        warnings = undoing.take_back(found.undo, handlers(), it)
        found.rolled_back_at, found.rolled_back_by = SYSTEM.now(), actor.label[:128]
        found.undo = None
        found.save(update_fields=["rolled_back_at", "rolled_back_by", "undo"])
        it.detail(revision=found.number, counts=found.counts, warnings=warnings)
        current = in_force()
    return RolledBack(found.number, current.number if current else 0, warnings)


def _check_named(revision: object, found: ConfigRevision) -> None:
    if revision is None:
        return
    if isinstance(revision, bool) or not isinstance(revision, int):
        raise Invalid.field("revision", "must be the number of a revision, or null.")
    if revision != found.number:
        raise StaleRevision(found.number)
