"""From a plan to rows: one transaction, one audit row with the counts beside those of what services made, all of it or none.

What is here already stays as it is, and nothing that was taken over once comes back. A dry run does all of it and takes it back.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from django.db.models.functions import Lower

from gateway.imports.plan import Plan, PlannedGroup, PlannedKey, PlannedModel
from gateway.imports.plan import Used as PlannedUse
from keys import importing
from keys.importing import TakenOver
from providers import model_services, services
from providers.models import Model, Provider
from tenants import account_services, project_services
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import Change, change
from tenants.clock import SYSTEM, to_unix_us
from tenants.errors import Invalid, NotFound, ServiceError
from tenants.models import Account, Project, Tenant
from tenants.services import locked_tenant
from usage import openings
from usage.balance_services import top_up
from usage.levels import Kind
from usage.money import usd_text
from usage.openings import Used
from usage.windows import window_at

State = Literal["added", "existing", "gone"]
_NAMED: Final = 50


class Thing(NamedTuple):
    """What became of one thing of the plan. `gone`: a key that came here before and is revoked, rotated or deleted by now."""

    kind: str
    name: str
    state: State
    shown: str = ""
    used: int = 0


@dataclass(slots=True)
class Outcome:
    things: list[Thing] = field(default_factory=list)

    def counts(self) -> dict[str, dict[str, int]]:
        found = Counter((thing.kind, thing.state) for thing in self.things)
        kinds = ("providers", "models", "projects", "accounts", "keys")
        return {
            kind: {state: found[kind, state] for state in ("added", "existing", "gone")}
            for kind in kinds
        }


class _TakeBack(Exception):
    """Ends a dry run."""


def carry_out(
    *, actor: Actor, plan: Plan, tenant_id: UUID, shared: bool = False, dry_run: bool = False
) -> Outcome:
    """Bring what the plan has into a tenant. `shared`: providers and models are everybody's, not this tenant's own.

    Raises what the services refuse; then nothing was done. The plan's faults are the caller's to look at before.
    """
    outcome = Outcome()
    try:
        with change(actor, "import.carried_out", Target("import", plan.source), tenant_id) as it:
            tenant = locked_tenant(tenant_id)
            owner = None if shared else tenant
            _Carrier(actor, it, plan, tenant, owner, outcome).carry()
            it.detail(
                counts=outcome.counts(),
                left_behind=len(plan.left_behind),
                faults=len(plan.faults),
                first_keys=[t.shown for t in outcome.things if t.kind == "keys"][:_NAMED],
            )
            if dry_run:
                raise _TakeBack
    except _TakeBack:
        pass
    return outcome


class _Carrier:
    """One import under way."""

    def __init__(
        self,
        actor: Actor,
        it: Change,
        plan: Plan,
        tenant: Tenant,
        owner: Tenant | None,
        outcome: Outcome,
    ) -> None:
        self._actor, self._it, self._plan = actor, it, plan
        self._tenant, self._owner, self._outcome = tenant, owner, outcome
        self._used: list[Used] = []
        #: References of accounts and projects that were made just now.
        self._fresh: set[tuple[str, str]] = set()
        self._at = to_unix_us(SYSTEM.now())

    def carry(self) -> None:
        self._models()
        projects = self._groups("projects", Project, "name", self._plan.projects)
        accounts = self._groups("accounts", Account, "username", self._plan.accounts)
        self._keys(projects, accounts)
        openings.enter(self._it, self._used, f"used before the import from {self._plan.source}")
        # Last: a balance begins with what was entered for it.
        for name, group in self._plan.accounts.items():
            if group.paid_in and ("accounts", name) in self._fresh:
                top_up(
                    actor=self._actor,
                    account_id=accounts[name].pk,
                    amount_usd=usd_text(group.paid_in),
                    note=f"import from {self._plan.source}",
                )

    # --- providers and models

    def _models(self) -> None:
        owner_id = self._owner.id if self._owner else None
        here = set(Model.objects.filter(tenant=self._owner).values_list("name", flat=True))
        wanted = [model for name, model in self._plan.models.items() if name not in here]
        needed = {reference for model in wanted for reference, _ in model.targets}
        providers = {
            reference: self._provider(planned.fields, owner_id)
            for reference, planned in self._plan.providers.items()
            if reference in needed
        }
        for name in self._plan.models:
            if name in here:
                self._outcome.things.append(Thing("models", name, "existing"))
        for model in wanted:
            self._model(model, providers, owner_id)

    def _provider(self, fields: Mapping[str, Any], owner_id: UUID | None) -> Provider:
        name = fields["name"]
        found = Provider.objects.filter(name=name, tenant=self._owner).first()
        if found is None:
            found = services.create_provider(actor=self._actor, tenant_id=owner_id, **fields)
            self._outcome.things.append(Thing("providers", name, "added"))
        else:
            self._outcome.things.append(Thing("providers", name, "existing"))
        return found

    def _model(
        self, model: PlannedModel, providers: Mapping[str, Provider], owner_id: UUID | None
    ) -> None:
        targets = [
            {"provider": str(providers[reference].id), "upstream_model": upstream}
            for reference, upstream in model.targets
        ]
        try:
            model_services.create_model(
                actor=self._actor, tenant_id=owner_id, targets=targets, **model.fields
            )
        except ServiceError as refusal:
            raise _at(model.where, refusal) from None
        self._outcome.things.append(Thing("models", model.fields["id"], "added"))

    # --- projects and accounts

    def _groups(
        self,
        kind: str,
        table: type[Project] | type[Account],
        column: str,
        planned: Mapping[str, PlannedGroup],
    ) -> dict[str, Any]:
        """The rows by the plan's references; of those of one name, in whatever case, there is one."""
        rows: Any = table._default_manager.filter(tenant=self._tenant)
        here = {row.lowered: row for row in rows.annotate(lowered=Lower(column))}
        found: dict[str, Any] = {}
        for reference, group in planned.items():
            row = here.get(group.name.lower())
            state: State = "existing"
            if row is not None and getattr(row, "deleted_at", None) is not None:
                raise Invalid(f"The account {group.name} was deleted here; its name is taken.")
            if row is None:
                row, state = self._made(kind, group), "added"
                here[group.name.lower()] = row
                self._fresh.add((kind, reference))
                self._note_used("project" if kind == "projects" else "account", row.pk, group.used)
            found[reference] = row
            used = sum(each.nano_usd for each in group.used[:1]) if state == "added" else 0
            self._outcome.things.append(Thing(kind, group.name, state, used=used))
        return found

    def _made(self, kind: str, group: PlannedGroup) -> Any:
        if group.is_here:
            raise NotFound(f"There is no account {group.name[:64]} in this tenant.")
        try:
            if kind == "projects":
                return project_services.create_project(
                    actor=self._actor, tenant_id=self._tenant.id, name=group.name, **group.fields
                )
            return account_services.create_account(
                actor=self._actor, tenant_id=self._tenant.id, username=group.name, **group.fields
            )
        except ServiceError as refusal:
            raise _at(f"{kind[:-1]} {group.name}", refusal) from None

    # --- keys

    def _keys(self, projects: Mapping[str, Project], accounts: Mapping[str, Account]) -> None:
        before = importing.taken_over_before([key.sha256 for key in self._plan.keys])
        fresh = [key for key in self._plan.keys if key.sha256 not in before]
        taken = [
            TakenOver(
                key.sha256,
                key.shown,
                {
                    **key.values,
                    "project": projects.get(key.project),
                    "account": accounts.get(key.account),
                },
            )
            for key in fresh
        ]
        made = importing.take_over(self._it, self._tenant, taken) if taken else []
        for key, row in zip(fresh, made, strict=True):
            self._note_used("key", row.id, key.used)
        for key in self._plan.keys:
            self._outcome.things.append(_key_thing(key, before.get(key.sha256)))

    def _note_used(self, kind: Kind, level_id: UUID, used: Sequence[PlannedUse]) -> None:
        self._used += [
            Used(kind, level_id, window_at(each.window, self._at), each.nano_usd)
            for each in used
            if each.nano_usd > 0
        ]


def _key_thing(key: PlannedKey, before: bool | None) -> Thing:
    state: State = "added" if before is None else "existing" if before else "gone"
    used = sum(each.nano_usd for each in key.used[:1]) if state == "added" else 0
    return Thing("keys", key.values["name"], state, key.shown, used)


def _at(where: str, refusal: ServiceError) -> ServiceError:
    said = [f"{name}: {sentence}" for name, sentence in refusal.fields.items()]
    return Invalid(f"{where}: {'; '.join(said) or refusal.message}", fields=refusal.fields)
