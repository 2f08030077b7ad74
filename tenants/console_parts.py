"""Small things that pages of the console are described with."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from tenants.models import Tenant
from tenants.validation import storable

#: Tenants that a filter offers by name; the others are found by typing.
OFFERED_TENANTS = 200


@dataclass(frozen=True, slots=True)
class Crumb:
    label: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A button or menu entry on a thing's page."""

    name: str
    label: str
    url: str
    icon: str = ""
    danger: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of what changes or stays; `mono` is set in the face of ids, between the two texts."""

    text: str
    icon: str = ""
    mono: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """One row of what is so now."""

    name: str
    value: Any
    is_moment: bool = False


class TenantFilter(admin.SimpleListFilter):
    """`?tenant=` by slug or id."""

    title = "tenant"
    parameter_name = "tenant"
    as_select = True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        tenants = Tenant.objects.order_by("name").values_list("slug", "name")[:OFFERED_TENANTS]
        return list(tenants) or [("", "")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Model]") -> "QuerySet[Model]":
        value = self.value()
        if not value:
            return queryset
        try:
            return queryset.filter(tenant_id=UUID(value))
        except ValueError:
            return queryset.filter(tenant__slug=value) if storable(value) else queryset.none()
