"""What would have to be done so that everything a file names is as it says. Nothing is changed here."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from gateway.config_file.faults import Faults
from gateway.config_file.handlers import (
    HIDDEN,
    AccountHandler,
    Handler,
    ProjectHandler,
    TenantHandler,
    shown,
)
from gateway.config_file.key_handler import KeyHandler
from gateway.config_file.routing_handlers import (
    ModelHandler,
    OwnProviderHandler,
    ProviderHandler,
    missing_prices,
)
from gateway.config_file.shape import Entry, Wish
from keys.models import APIKey
from keys.services import refuse_unfit
from tenants.errors import Invalid
from tenants.models import ConfigRevision, Tenant
from tenants.sealing import Secret

#: What points to others goes before them.
_REMOVAL: Final = (
    *("key", "model", "provider_config", "provider"),
    *("project", "account", "tenant"),
)
Owned = list[list[str]]


@dataclass(slots=True)
class Step:
    """`action`: create, update, delete, unchanged. `fields` go to the service, `changes` to people."""

    action: str
    handler: Handler
    name: str
    tenant: str | None
    entry: Entry | None = None
    row: Any = None
    fields: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    adopts: bool = False

    @property
    def kind(self) -> str:
        return self.handler.sort.kind

    def named(self) -> dict[str, Any]:
        return {"kind": self.kind, "tenant": self.tenant, "name": self.name}

    def told(self) -> dict[str, Any]:
        return {"action": self.action, **self.named(), "changes": self.changes}


@dataclass(slots=True)
class Plan:
    """`revision` is the number of the one in force, 0 before the first. `orphans` are steps that pruning would do."""

    revision: int
    steps: list[Step] = field(default_factory=list)
    orphans: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    handlers: dict[str, Handler] = field(default_factory=dict)

    @property
    def changing(self) -> list[Step]:
        return [step for step in self.steps if step.action != "unchanged"]

    @property
    def adopting(self) -> list[Step]:
        return [step for step in self.steps if step.adopts]

    @property
    def is_empty(self) -> bool:
        """Everything is as the file says, whoever owns it."""
        return not self.changing

    @property
    def has_work(self) -> bool:
        return bool(self.changing or self.adopting)

    def counts(self) -> dict[str, int]:
        found = Counter(step.action for step in self.steps)
        return {
            **{name: found[name] for name in ("create", "update", "delete", "unchanged")},
            "adopted": len(self.adopting),
            "orphans": len(self.orphans),
        }


def handlers() -> dict[str, Handler]:
    made: tuple[Handler, ...] = (
        TenantHandler(),
        ProjectHandler(),
        AccountHandler(),
        ProviderHandler(),
        OwnProviderHandler(),
        ModelHandler(),
        KeyHandler(),
    )
    return {handler.sort.kind: handler for handler in made}


def in_force() -> ConfigRevision | None:
    """The newest revision that was not rolled back."""
    return ConfigRevision.objects.filter(rolled_back_at=None).order_by("-number").first()


def differences(wish: Wish, *, prune: bool) -> Plan:
    """Raises `ConfigInvalid`. Read inside of `changes.in_turn`, if it is to hold."""
    return _Looker(wish).plan(prune)


class _Looker:
    def __init__(self, wish: Wish) -> None:
        revision = in_force()
        self._wish = wish
        self._owned: Owned = revision.owned if revision else []
        self._faults = Faults(wish.document)
        self._plan = Plan(revision.number if revision else 0, handlers=handlers())
        self._named: dict[tuple[str, str | None], set[str]] = {}
        for entry in wish.entries:
            self._named.setdefault((entry.sort.kind, entry.tenant), set()).add(entry.name)
        self._rows: dict[tuple[str, str | None], Sequence[Any]] = {}
        self._tenants = {tenant.slug: tenant for tenant in self._plan.handlers["tenant"].rows(None)}
        self._secrets: set[Secret] = set()

    def plan(self, prune: bool) -> Plan:
        for entry in self._wish.entries:
            self._look_at(entry)
        self._find_orphans(prune)
        self._faults.raise_if_any()
        return self._plan

    def _of(self, handler: Handler, slug: str | None) -> Sequence[Any]:
        """The rows of one sort in one tenant, read once. A tenant that is yet to be made has none."""
        place = (handler.sort.kind, slug)
        if place not in self._rows:
            tenant: Tenant | None = self._tenants.get(slug) if slug else None
            is_new = slug is not None and tenant is None
            names = self._names(*place)
            self._rows[place] = [] if is_new else handler.rows(tenant, names)
        return self._rows[place]

    def _names(self, kind: str, slug: str | None) -> Collection[str]:
        return self._named.get((kind, slug), ())

    def _look_at(self, entry: Entry) -> None:
        handler = self._plan.handlers[entry.sort.kind]
        row = handler.find(self._of(handler, entry.tenant), entry)
        step = Step("unchanged", handler, entry.name, entry.tenant, entry, row)
        if entry.sort.kind == "key":
            self._check_secret(entry, row)
        if entry.sort.kind == "provider_config" and not entry.given and not entry.has_secret:
            step.action = "unchanged" if row is None else "delete"
            if row is None:
                return
        elif row is None:
            self._new(step, entry)
        elif handler.is_gone(row):
            self._plan.warnings.append(
                f"{label(step)} was revoked and stays so: a file brings no key back."
            )
        else:
            self._known(step, entry, row)
        self._plan.steps.append(step)

    def _new(self, step: Step, entry: Entry) -> None:
        if not entry.owns:
            self._faults.add(entry.path, f"there is no model {entry.name[:64]!r}.")
            return
        if entry.sort.kind == "key" and entry.secret is None and not entry.is_made:
            self._faults.add(
                entry.path, "is a new key, so it needs its secret, or `made: true` in its place."
            )
        step.action = "create"
        step.changes = {name: _change(None, value) for name, value in entry.given.items()}
        if entry.has_secret or entry.is_made:
            step.changes[entry.sort.hides] = _change(None, HIDDEN)

    def _known(self, step: Step, entry: Entry, row: Any) -> None:
        handler = step.handler
        state = handler.state(row)
        for name, value in entry.clean.items():
            if name == "prices":
                self._add_prices(step, entry, row)
            elif not handler.is_same(name, state[name], value):
                if name in handler.fixed:
                    self._faults.add(f"{entry.path}.{name}", "cannot be changed.")
                step.fields[name] = entry.given[name]
                step.changes[name] = _change(state[name], value)
        if entry.has_secret and not handler.has_secret(row, entry.secret):
            step.fields[entry.sort.hides] = entry.secret
            hidden = HIDDEN if entry.secret is not None else None
            step.changes[entry.sort.hides] = _change(HIDDEN, hidden)
        is_ours = [entry.sort.kind, str(row.id)] in self._owned
        is_foreign_key = entry.sort.kind == "key" and row.source != APIKey.Source.CONFIG
        step.adopts = entry.owns and (not is_ours or is_foreign_key)
        if step.fields:
            step.action = "update"

    def _add_prices(self, step: Step, entry: Entry, row: Any) -> None:
        missing = missing_prices(row, entry.given["prices"], entry.clean["prices"])
        if missing:
            step.fields["prices"] = missing
            step.changes["prices"] = _change([], missing)

    def _check_secret(self, entry: Entry, row: Any) -> None:
        """Of two keys with one secret nobody could say which one calls."""
        if entry.secret is None:
            return
        path = f"{entry.path}.{entry.sort.hides}"
        if entry.secret in self._secrets:
            self._faults.add(path, "is the secret of another key in this file.")
        self._secrets.add(entry.secret)
        try:
            refuse_unfit(entry.secret, row)
        except Invalid as fault:
            self._faults.of_fields(entry.path, fault)

    def _find_orphans(self, prune: bool) -> None:
        named = {(step.kind, str(step.row.id)) for step in self._plan.steps if step.row is not None}
        left = [(kind, id_) for kind, id_ in self._owned if (kind, id_) not in named]
        for kind in _REMOVAL:
            ids = [UUID(id_) for of, id_ in left if of == kind]
            handler = self._plan.handlers[kind]
            for row in handler.model.objects.filter(id__in=ids) if ids else ():
                if not handler.is_gone(row):
                    self._orphan(handler, row, prune)

    def _orphan(self, handler: Handler, row: Any, prune: bool) -> None:
        tenant = None if isinstance(row, Tenant) else row.tenant
        step = Step(
            "delete", handler, handler.name_of(row), tenant.slug if tenant else None, row=row
        )
        if isinstance(row, Tenant):
            step.changes = {"status": _change(row.status, "inactive")}
        if prune:
            self._plan.steps.append(step)
            return
        self._plan.orphans.append(step)
        self._plan.warnings.append(
            f"{label(step)} is not in the file any more; it stays until it is pruned."
        )


def label(step: Step) -> str:
    inside = f" of {step.tenant}" if step.tenant else ""
    return f"The {step.kind} {step.name}{inside}"


def _change(was: Any, now: Any) -> dict[str, Any]:
    return {"from": shown(was), "to": shown(now)}
