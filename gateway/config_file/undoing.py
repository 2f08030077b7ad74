"""What takes a revision back: the rows as they were, for exactly what the revision changed.

A row is told by its columns, with those below it that belong to it alone (credentials, targets, prices, secrets). Before and
after a step are compared, and what differs is kept. A sealed credential is kept as the sealed record that it was, so it opens
only where it stood and only as long as its tenant's root secret is there. Sums of what was spent, logs and revocations are in no
such record.
"""

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.apps import apps
from django.db import IntegrityError, connection, models, transaction

from gateway.config_file.differences import Step
from gateway.config_file.handlers import Handler
from keys.models import APIKey
from providers import credentials
from providers.models import Credential, Model, Provider
from providers.models import Target as RouteTarget
from tenants.changes import Change
from tenants.clock import SYSTEM
from tenants.errors import Conflict
from tenants.models import Account, Project, Tenant
from tenants.services import delete_tenant
from usage.models import Balance

#: (table, id) → columns.
Rows = dict[tuple[str, str], dict[str, Any]]
Undo = dict[str, Any]
_MEMBERS: Final = "members"


class Blocked(Conflict):
    """A revision cannot be taken back, because something else has come to rest on what it made."""

    code = "rollback_blocked"


# --- rows as JSON -----------------------------------------------------------------------------------------------------


def rows_of(handler: Handler, row_id: UUID | None) -> Rows:
    """The row and its parts as they are in the database now; empty when it is not there."""
    row = handler.model.objects.filter(pk=row_id).first() if row_id else None
    if row is None:
        return {}
    return {(it._meta.label, str(it.pk)): _columns(it) for it in [row, *handler.parts(row)]}


def _columns(row: models.Model) -> dict[str, Any]:
    return {
        column.attname: _plain(column.value_from_object(row))
        for column in row._meta.concrete_fields
        if not column.primary_key
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _set(row: models.Model, columns: dict[str, Any]) -> None:
    for column in row._meta.concrete_fields:
        if column.attname in columns:
            value = columns[column.attname]
            is_bytes = isinstance(column, models.BinaryField) and value is not None
            value = base64.b64decode(value) if is_bytes else column.to_python(value)
            setattr(row, column.attname, value)


# --- what is kept -----------------------------------------------------------------------------------------------------


def kept(step: Step, before: Rows, after: Rows, tenant_id: UUID | None) -> Undo:
    """What would lead from `after` back to `before`. `members`: of a project that went, the keys that belonged to it."""
    return {
        "kind": step.kind,
        "id": str(step.row.id),
        "name": step.name,
        "tenant": step.tenant,
        "tenant_id": str(tenant_id) if tenant_id else None,
        "made": not before,
        "remove": [list(place) for place in after if place not in before],
        "put": [
            [*place, _differing(columns, after.get(place)), place not in after]
            for place, columns in before.items()
            if columns != after.get(place)
        ],
        "members": step.fields.get(_MEMBERS, []),
    }


def _differing(was: dict[str, Any], now: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in was.items() if now is None or now[name] != value}


def note_members(step: Step) -> None:
    """To be called before a project goes: its keys will belong to none."""
    if step.action == "delete" and isinstance(step.row, Project):
        keys = APIKey.objects.filter(project=step.row).values_list("id", flat=True)
        step.fields[_MEMBERS] = [str(key_id) for key_id in keys]


# --- taking back ------------------------------------------------------------------------------------------------------


def take_back(undo: Iterable[Undo], handlers: dict[str, Handler], it: Change) -> list[str]:
    """Inside of the change that does it, newest first. Gives sentences about what stayed. Raises `Blocked`."""
    warnings: list[str] = []
    tables: set[str] = set()
    try:
        with transaction.atomic():
            for one in reversed(list(undo)):
                warnings += _take_back(one, handlers[one["kind"]], it, tables)
            # What points to nothing would else be found out at the commit, where nobody can say what it was.
            connection.check_constraints(table_names=sorted(tables))
    except IntegrityError:
        raise Blocked(
            "What this revision changed cannot be put back: something it belonged to is gone, or its name is taken."
        ) from None
    return warnings


def _take_back(one: Undo, handler: Handler, it: Change, tables: set[str]) -> list[str]:
    row = handler.model.objects.select_for_update().filter(pk=one["id"]).first()
    tenant_id = UUID(one["tenant_id"]) if one["tenant_id"] else None
    it.touch(handler.touches, UUID(one["id"]), tenant_id)
    if one["made"]:
        return [] if row is None else _unmake(row, one, it)
    if row is None and not any(whole for *_, whole in one["put"]):
        return [f"The {one['kind']} {one['name']} is gone, so nothing of it was put back."]
    _make_way(row, one)
    for label, id_ in one["remove"]:
        apps.get_model(label).objects.filter(pk=id_).delete()
    for label, id_, columns, whole in one["put"]:
        _put(label, id_, columns, whole, tables)
    if one["members"]:
        members = APIKey.objects.filter(id__in=one["members"], project=None)
        for key in members:
            it.touch("api_key", key.id, key.tenant_id)
        members.update(project_id=one["id"])
    return []


def _make_way(row: Any, one: Undo) -> None:
    """Credentials and targets that came by other means since are in the same place as those that come back."""
    concerned = {place[0] for place in [*one["remove"], *one["put"]]}
    if isinstance(row, Provider) and Credential._meta.label in concerned:
        credentials.retire(row)
    if isinstance(row, Model) and RouteTarget._meta.label in concerned:
        row.targets.all().delete()


def _put(label: str, id_: str, columns: dict[str, Any], whole: bool, tables: set[str]) -> None:
    model = apps.get_model(label)
    tables.add(model._meta.db_table)
    if whole and not model.objects.filter(pk=id_).exists():
        row = model(pk=model._meta.pk.to_python(id_))
        _set(row, columns)
        row.save(force_insert=True)
        return
    found = model.objects.filter(pk=id_).first()
    if found is not None:
        _set(found, columns)
        found.save(update_fields=[*columns])


def _unmake(row: Any, one: Undo, it: Change) -> list[str]:
    """Take away what the revision made, unless something else has come to rest on it since."""
    label = f"The {one['kind']} {one['name']}"
    if isinstance(row, APIKey) and row.revoked_at is not None:
        return [f"{label} was revoked, and stays so."]
    if isinstance(row, Account) and Balance.objects.filter(level_id=row.id).exists():
        row.is_active, row.deleted_at = False, SYSTEM.now()
        row.save()
        return [f"{label} has been paid into or used: it is deleted, and its books stay."]
    if isinstance(row, Tenant):
        return _unmake_tenant(row, label, it)
    _refuse_if_used(row, label)
    row.delete()
    return []


def _refuse_if_used(row: Any, label: str) -> None:
    users: list[str] = []
    if isinstance(row, Provider):
        users = [target.model.name for target in row.targets.select_related("model")[:20]]
    elif isinstance(row, Project | Account):
        users = [key.name for key in row.api_keys.all()[:20]]
    if users:
        raise Blocked(
            f"{label} is used by what this revision did not make: {', '.join(users[:5])}.",
            facts={"used_by": users},
        )


#: What hangs on a tenant, by the names of the relations. Prices for it alone stand on models of the house.
_BELOW: Final = tuple(
    str(relation.get_accessor_name())
    for relation in Tenant._meta.related_objects
    if relation.one_to_many and relation.get_accessor_name() not in ("own_prices", "+")
)


def _unmake_tenant(tenant: Tenant, label: str, it: Change) -> list[str]:
    """A tenant goes only when it is empty. Revoked keys keep it, for they must stay known; it is stopped then."""
    below = [row for name in _BELOW for row in getattr(tenant, name).all()[:20]]
    alive = [
        row
        for row in below
        if getattr(row, "revoked_at", None) is None and getattr(row, "deleted_at", None) is None
    ]
    if alive:
        raise Blocked(
            f"{label} has things that this revision did not make: {', '.join(map(str, alive[:5]))}.",
            facts={"used_by": [str(row) for row in alive]},
        )
    if below:
        tenant.status = Tenant.Status.INACTIVE
        tenant.save(update_fields=["status"])
        return [f"{label} has revoked keys or closed books, so it stays, and is inactive."]
    delete_tenant(actor=it.entry.actor, tenant_id=tenant.id)
    return []
