"""Filters of the lists that only ever grow: logs and audit."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Q

from tenants import validation
from tenants.errors import Invalid
from tenants.models import Tenant

_TRACE: Final = re.compile("[0-9a-f]{32}")


def as_id(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None


def tenant_id_of(reference: str) -> UUID | None:
    """The id itself (the tenant may be gone), or that of the slug."""
    known = as_id(reference)
    if known is not None:
        return known
    return Tenant.objects.filter(slug=reference).values_list("id", flat=True).first()


def of_tenant(query: Mapping[str, str]) -> Q:
    """The rows of the tenant that a query names, by id, slug, or the name that was copied into them."""
    if "tenant" not in query:
        return Q()
    tenant_id = tenant_id_of(query["tenant"])
    return Q(tenant=query["tenant"]) if tenant_id is None else Q(tenant_id=tenant_id)


def of_key(query: Mapping[str, str]) -> Q:
    """The rows of the key that a query names, by id or prefix."""
    if "key" not in query:
        return Q()
    key_id = as_id(query["key"])
    return Q(key_prefix=query["key"]) if key_id is None else Q(key_id=key_id)


def id_or_name(column: str, value: str) -> Q:
    """By the copied id, or by the copied name."""
    identity = as_id(value)
    return Q(**{column: value}) if identity is None else Q(**{f"{column}_id": identity})


def one_of(query: Mapping[str, str], name: str, choices: tuple[str, ...]) -> Q:
    value = query.get(name)
    if value is None:
        return Q()
    if value not in choices:
        raise Invalid.field(name, f"must be one of {', '.join(choices)}.")
    return Q(**{name: value})


def of_trace(query: Mapping[str, str]) -> Q:
    """The calls of one trace, which a query names as `traceparent` does: 32 hexadecimal digits, and not only noughts."""
    if "trace_id" not in query:
        return Q()
    if not _TRACE.fullmatch(query["trace_id"]):
        raise Invalid.field("trace_id", "must be 32 of 0-9 and a-f, as in traceparent.")
    return Q(trace_id=UUID(query["trace_id"]))


def period(query: Mapping[str, str]) -> Q:
    """`since` is within, `until` is not."""
    found = Q()
    for name, comparison in (("since", "gte"), ("until", "lt")):
        # A plus sign that was not escaped arrives as a space.
        moment: datetime | None = validation.moment(
            name, query.get(name, "").replace(" ", "+") or None
        )
        if moment is not None:
            found &= Q(**{f"created_at__{comparison}": moment})
    return found
