"""What can be done with each sort of thing that a configuration file names: found, looked at, made, changed, taken away.

Everything is changed by the services that the admin API calls. `state` gives the fields as the rules leave them, so that what the
file says and what is there can be compared.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from gateway.config_file import shape
from gateway.config_file.shape import Entry, Sort
from tenants import account_services, project_services
from tenants import services as tenants
from tenants.actor import Actor
from tenants.models import Account, Project, Tenant
from tenants.sealing import Secret

HIDDEN: Final = "***"


class Handler(ABC):
    """`fixed` fields cannot be changed."""

    sort: ClassVar[Sort]
    model: ClassVar[type[Any]]
    #: As the change log and the audit log call it.
    touches: ClassVar[str]
    fixed: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def rows(self, tenant: Tenant | None, names: Collection[str] | None = None) -> Sequence[Any]:
        """All of a tenant, or all that are shared; of what there may be many of only those of `names`."""

    @abstractmethod
    def create(self, actor: Actor, tenant: Tenant | None, entry: Entry) -> Any: ...

    @abstractmethod
    def update(self, actor: Actor, row: Any, fields: dict[str, Any], entry: Entry) -> None: ...

    @abstractmethod
    def remove(self, actor: Actor, row: Any) -> None: ...

    def find(self, rows: Sequence[Any], entry: Entry) -> Any | None:
        """The row of that natural name."""
        wanted = self.folded(entry.name)
        return next((row for row in rows if self.folded(self.name_of(row)) == wanted), None)

    def folded(self, name: str) -> str:
        return name.casefold() if self.sort.folds else name

    def name_of(self, row: Any) -> str:
        return str(getattr(row, self.sort.named_by))

    def state(self, row: Any) -> dict[str, Any]:
        return {field: self._value(row, field) for field in self._fields()}

    def _fields(self) -> list[str]:
        return [field for field in self.sort.rules if field != self.sort.hides]

    def _value(self, row: Any, field: str) -> Any:
        """A field of the contract that has no column yet is null."""
        return getattr(row, field, None)

    def is_same(self, field: str, was: Any, now: Any) -> bool:
        return bool(was == now)

    def parts(self, row: Any) -> list[Any]:
        """The rows below it that belong to it alone."""
        return []

    def preference(self, row: Any) -> int:
        """Of several rows of one name the one with the lowest is meant."""
        return 0

    def is_gone(self, row: Any) -> bool:
        """It is there for the books only: nobody has to be told that the file does not name it any more."""
        return False

    def has_secret(self, row: Any, secret: Secret | None) -> bool:
        """Whether this is the secret that it has; None: that it has none."""
        return True


def shown(value: Any) -> Any:
    """As JSON, and never a secret."""
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {name: shown(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


class TenantHandler(Handler):
    sort = shape.TENANT
    model = Tenant
    touches = tenants.KIND

    def rows(self, tenant: Tenant | None, names: Collection[str] | None = None) -> Sequence[Any]:
        return list(
            Tenant.objects.all() if names is None else Tenant.objects.filter(slug__in=names)
        )

    def create(self, actor: Actor, tenant: Tenant | None, entry: Entry) -> Any:
        return tenants.create_tenant(actor=actor, **{"name": None, **entry.given})

    def update(self, actor: Actor, row: Any, fields: dict[str, Any], entry: Entry) -> None:
        tenants.update_tenant(actor=actor, tenant_id=row.id, **fields)

    def remove(self, actor: Actor, row: Any) -> None:
        """A file does not end a tenant for good: it stops it."""
        tenants.update_tenant(actor=actor, tenant_id=row.id, status="inactive")


class ProjectHandler(Handler):
    sort = shape.PROJECT
    model = Project
    touches = project_services.KIND

    def rows(self, tenant: Tenant | None, names: Collection[str] | None = None) -> Sequence[Any]:
        return list(Project.objects.filter(tenant=tenant))

    def create(self, actor: Actor, tenant: Tenant | None, entry: Entry) -> Any:
        return project_services.create_project(actor=actor, tenant_id=_id_of(tenant), **entry.given)

    def update(self, actor: Actor, row: Any, fields: dict[str, Any], entry: Entry) -> None:
        project_services.update_project(actor=actor, project_id=row.id, **fields)

    def remove(self, actor: Actor, row: Any) -> None:
        project_services.delete_project(actor=actor, project_id=row.id)


class AccountHandler(Handler):
    sort = shape.ACCOUNT
    model = Account
    touches = account_services.KIND

    def rows(self, tenant: Tenant | None, names: Collection[str] | None = None) -> Sequence[Any]:
        return list(Account.objects.filter(tenant=tenant, deleted_at=None))

    def create(self, actor: Actor, tenant: Tenant | None, entry: Entry) -> Any:
        return account_services.create_account(actor=actor, tenant_id=_id_of(tenant), **entry.given)

    def update(self, actor: Actor, row: Any, fields: dict[str, Any], entry: Entry) -> None:
        account_services.update_account(actor=actor, account_id=row.id, **fields)

    def remove(self, actor: Actor, row: Any) -> None:
        account_services.delete_account(actor=actor, account_id=row.id)

    def is_gone(self, row: Any) -> bool:
        return row.deleted_at is not None


def _id_of(tenant: Tenant | None) -> Any:
    assert tenant is not None, "what stands inside a tenant has one"  # noqa: S101
    return tenant.id
