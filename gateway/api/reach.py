"""How far somebody reaches: the house's staff to every tenant, a tenant's people to their own.

What is out of reach is not there: lists leave it out, look-ups answer the 404 of what never was, and a name or id in a filter
or a body means as little as one that does not exist.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet

from tenants.errors import NotFound
from tenants.models import Tenant
from tenants.services import find_tenant

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Reach:
    """The tenants whose rows may be touched; null: those of all, and what is nobody's."""

    tenants: frozenset[UUID] | None

    @property
    def is_limited(self) -> bool:
        return self.tenants is not None

    def wanted(self, column: str = "tenant_id") -> Q:
        """What narrows a query to it. `column` holds the tenant's id."""
        return Q() if self.tenants is None else Q(**{f"{column}__in": self.tenants})

    def rows(self, rows: "QuerySet[M]", column: str = "tenant_id") -> "QuerySet[M]":
        return rows.filter(self.wanted(column))

    def one(self, rows: "QuerySet[M]", column: str = "tenant_id", **named: Any) -> M:
        """The row of that name within it. Raises `NotFound`."""
        found = self.rows(rows, column).filter(**named).first()
        if found is None:
            raise NotFound
        return found

    def require(self, tenant_id: UUID | None) -> None:
        """Raises `NotFound` for a tenant beyond it, and for what is no tenant's own."""
        if self.tenants is not None and tenant_id not in self.tenants:
            raise NotFound

    def guard(self, kind: type[Model], identity: UUID, column: str = "tenant_id") -> None:
        """Before a service is asked to change a row by its id. Raises `NotFound` for one beyond it.

        Who reaches everything is answered by the service, which also writes down what was tried.
        """
        if self.is_limited:
            self.one(kind._default_manager.all(), column, pk=identity)

    def tenant(self, reference: str) -> Tenant:
        """By id or slug. Raises `NotFound`."""
        tenant = find_tenant(reference)
        self.require(tenant.id)
        return tenant


EVERYTHING: Final = Reach(None)
