"""What a backup holds: each table, told once, in the order in which rows can be put back (what is referred to comes first).

Columns are not listed: a table's rows are all its columns, so that a new one cannot be forgotten. A new model must be told here
or among `LEFT_OUT`, with a reason; a test compares both with all that Django knows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db.models import AutoField, Field, ForeignKey, Model, Q

from keys.models import APIKey, ImportedKey, KeySecret
from providers import credentials, store_services
from providers import models as providers
from providers.credentials import SealedCredential
from tenants import keyring
from tenants import models as tenants
from tenants.sealing import Place
from usage import contents
from usage import models as usage

#: A row by its columns; a reference is `tenant_id`.
Row = dict[str, Any]


class Part(StrEnum):
    """What a table is of. A move into another house takes configuration, and of the books what accounts have left."""

    ROOTS = "roots"
    HOUSE = "house"
    CONFIGURATION = "configuration"
    PEOPLE = "people"
    BOOKS = "books"
    AUDIT = "audit"
    LOGS = "logs"


@dataclass(frozen=True, slots=True)
class Name:
    """What there is only one of besides its id. `when`: only of rows in which this column says something."""

    columns: tuple[str, ...]
    when: str = ""
    any_case: bool = False

    def of(self, row: Row) -> tuple[Any, ...] | None:
        if self.when and not row[self.when]:
            return None
        values = [row[column] for column in self.columns]
        return tuple(v.casefold() if self.any_case and isinstance(v, str) else v for v in values)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column of sealed values: for what they were sealed, and where such a row's value stands. The row's `tenant` is whose
    root it was; None: the house's own for what is shared.
    """

    column: str
    purpose: str
    place: Callable[[Row, UUID | None], Place]


@dataclass(frozen=True)
class Table:
    """`tenant`: the column that says whose a row is, or the reference whose row does. `part_of`: a row that goes where this one
    goes, unless the column `unless` says something. `fixed`: columns that do not come along, and what they say afterwards.
    `peppered`: rows that are worth nothing without the pepper. `kind`: what workers know a row by when it changes.
    """

    model: type[Model]
    part: Part
    tenant: str = ""
    names: tuple[Name, ...] = ()
    part_of: str = ""
    unless: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    sealed: Sealed | None = None
    peppered: bool = False
    kind: str = ""
    of_tenant: Callable[[UUID], Q] | None = None

    @cached_property
    def label(self) -> str:
        return self.model._meta.label_lower

    @cached_property
    def columns(self) -> dict[str, "Field[Any, Any]"]:
        """By the name that a row has them under. Ids that a database counts mean nothing elsewhere, and nothing names them."""
        return {
            each.attname: each
            for each in self.model._meta.concrete_fields
            if not isinstance(each, AutoField) and each.attname not in self.fixed
        }

    @cached_property
    def references(self) -> dict[str, str]:
        """Column → the label of the table that it refers to."""
        return {
            column: each.related_model._meta.label_lower
            for column, each in self.columns.items()
            if isinstance(each, ForeignKey) and not isinstance(each.related_model, str)
        }

    @cached_property
    def has_id(self) -> bool:
        return "id" in self.columns


def _credential_place(row: Row, tenant_id: UUID | None) -> Place:
    return SealedCredential(row["id"], row["version"], tenant_id, row["binding"], b"").place()


def _content_place(row: Row, tenant_id: UUID | None) -> Place:
    return contents.place(row["tenant_id"], row["request_id"])


def _store_place(row: Row, tenant_id: UUID | None) -> Place:
    return store_services.place(providers.Store(**row))


def _of_tenant(tenant_id: UUID) -> Q:
    return Q(tenant=tenant_id)


def _copied(tenant_id: UUID) -> Q:
    return Q(tenant_id=tenant_id)


def _roots(tenant_id: UUID) -> Q:
    """Its own, and the pepper: without it nobody could say whether the keys still open a door."""
    return Q(tenant=tenant_id) | Q(tenant__isnull=True, purpose=keyring.PEPPER)


def _levels(tenant_id: UUID) -> Q:
    """Budgets of the tenant and of what is its own."""
    own = (tenants.Project, tenants.Account, APIKey, providers.Model, providers.Provider)
    found = Q(level_id=tenant_id)
    for model in own:
        found |= Q(level_id__in=model._default_manager.filter(tenant=tenant_id).values("id"))
    return found


TABLES: Final = (
    Table(
        tenants.Tenant,
        Part.CONFIGURATION,
        tenant="id",
        names=(Name(("slug",)),),
        kind="tenant",
        of_tenant=lambda tenant_id: Q(id=tenant_id),
    ),
    Table(tenants.RootSecret, Part.ROOTS, tenant="tenant_id", of_tenant=_roots),
    Table(tenants.Setting, Part.HOUSE),
    Table(tenants.ConfigRevision, Part.HOUSE),
    Table(ImportedKey, Part.HOUSE, tenant="tenant_id", peppered=True),
    Table(tenants.User, Part.PEOPLE),
    Table(tenants.Membership, Part.PEOPLE),
    Table(tenants.ServiceToken, Part.PEOPLE, peppered=True),
    Table(tenants.Invitation, Part.PEOPLE),
    Table(
        tenants.Project,
        Part.CONFIGURATION,
        tenant="tenant_id",
        names=(Name(("tenant_id", "name"), any_case=True),),
        kind="project",
        of_tenant=_of_tenant,
    ),
    Table(
        tenants.Account,
        Part.CONFIGURATION,
        tenant="tenant_id",
        names=(Name(("tenant_id", "username"), any_case=True),),
        kind="account",
        of_tenant=_of_tenant,
    ),
    Table(APIKey, Part.CONFIGURATION, tenant="tenant_id", kind="api_key", of_tenant=_of_tenant),
    Table(
        KeySecret,
        Part.CONFIGURATION,
        tenant="key_id",
        part_of="key_id",
        peppered=True,
        of_tenant=lambda tenant_id: Q(key__tenant=tenant_id),
    ),
    Table(
        providers.Provider,
        Part.CONFIGURATION,
        tenant="tenant_id",
        names=(Name(("tenant_id", "name")), Name(("tenant_id",), when="is_tenant_default")),
        kind="provider",
        of_tenant=_of_tenant,
    ),
    Table(
        providers.Provider.granted.through,
        Part.CONFIGURATION,
        tenant="provider_id",
        part_of="provider_id",
    ),
    Table(
        providers.Credential,
        Part.CONFIGURATION,
        tenant="provider_id",
        part_of="provider_id",
        sealed=Sealed("sealed", credentials.PURPOSE, _credential_place),
        of_tenant=lambda tenant_id: Q(provider__tenant=tenant_id),
    ),
    Table(
        providers.Model,
        Part.CONFIGURATION,
        tenant="tenant_id",
        names=(Name(("tenant_id", "name")),),
        kind="model",
        of_tenant=_of_tenant,
    ),
    Table(
        providers.Model.granted.through,
        Part.CONFIGURATION,
        tenant="model_id",
        part_of="model_id",
    ),
    Table(
        providers.Target,
        Part.CONFIGURATION,
        tenant="model_id",
        part_of="model_id",
        of_tenant=lambda tenant_id: Q(model__tenant=tenant_id),
    ),
    Table(
        providers.Price,
        Part.CONFIGURATION,
        tenant="model_id",
        part_of="model_id",
        unless="tenant_id",
        names=(Name(("model_id", "tenant_id", "effective_from"), when="tenant_id"),),
        of_tenant=lambda tenant_id: Q(model__tenant=tenant_id) | Q(tenant=tenant_id),
    ),
    Table(
        providers.Store,
        Part.CONFIGURATION,
        tenant="tenant_id",
        names=(Name(("tenant_id", "store_id")), Name(("tenant_id", "name"), any_case=True)),
        sealed=Sealed("sealed", store_services.PURPOSE, _store_place),
        kind=store_services.KIND,
        of_tenant=_of_tenant,
    ),
    Table(usage.Credit, Part.BOOKS, tenant="tenant_id", of_tenant=_copied),
    # What workers have borrowed is no longer with anybody who could give it back.
    Table(usage.Balance, Part.BOOKS, fixed={"held": 0}, of_tenant=_levels),
    Table(usage.Opening, Part.BOOKS, of_tenant=_levels),
    Table(usage.Rollup, Part.BOOKS, tenant="tenant_id", of_tenant=_copied),
    Table(tenants.AuditHead, Part.AUDIT),
    Table(tenants.AuditEvent, Part.AUDIT),
    Table(tenants.AuditPrune, Part.AUDIT),
    Table(usage.LedgerEntry, Part.LOGS, tenant="tenant_id"),
    Table(usage.Attempt, Part.LOGS),
    Table(usage.RequestLog, Part.LOGS, tenant="tenant_id"),
    Table(
        usage.RequestContent,
        Part.LOGS,
        tenant="tenant_id",
        sealed=Sealed("sealed", contents.PURPOSE, _content_place),
    ),
)
BY_LABEL: Final[Mapping[str, Table]] = {table.label: table for table in TABLES}

#: Models that no backup holds, and why.
LEFT_OUT: Final[Mapping[type[Model], str]] = {
    tenants.Session: "who was signed in signs in again: a copied session would open two houses",
    tenants.SignInTry: "who tried to sign in here a moment ago",
    tenants.SpentTicket: "tickets belong to sessions, which do not come along",
    tenants.ConfigChange: "tells the workers of this database what changed in it; an import adds its own line",
    tenants.Duty: "whose turn it is among the workers of this database",
    providers.ProviderHealth: "what an upstream answered when the old house asked it last",
    usage.Quarter: "which sums are whole: of the log of this database",
    usage.QuarterSum: "made again from the log that comes along; what it had forgotten is in the monthly sums",
    usage.Hold: "calls in flight are of the workers that make them",
    usage.HoldSlice: "what workers have borrowed; their journals, not a backup, say what became of it",
    usage.SharedLimit: "what was taken of rates in the last minutes, by the clock of the old database",
    usage.IdempotentCall: "answers kept for a day, to be given again to who repeats a call here",
    LogEntry: "the stock admin's log, in which nobody writes; the audit log is ours",
    ContentType: "made by `migrate`",
    Permission: "made by `migrate`; roles are ours (tenants/roles.py)",
    Group: "not used; roles are ours (tenants/roles.py)",
    Group.permissions.through: "not used; roles are ours (tenants/roles.py)",
}
