"""What a request says, field by field. Only names that the route knows get through, so nothing slips into a service's
own parameters; what the values may be is the services' business."""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from django.db.models import Model, QuerySet
from django.http import QueryDict
from rest_framework.request import Request

from gateway.api.reach import EVERYTHING, Reach
from tenants.errors import Invalid, NotFound
from tenants.models import Tenant

MAX_PARAMETER: Final = 256

M = TypeVar("M", bound=Model)


def fields_of(
    request: Request, known: Collection[str], fixed: Collection[str] = ()
) -> dict[str, Any]:
    """The members of the body. Raises `Invalid` for what is no object and for names beyond `known`; `fixed` ones cannot be
    changed."""
    data = request.data
    if not isinstance(data, Mapping):
        raise Invalid("The body must be a JSON object.")
    faults = {
        name: "cannot be changed." if name in fixed else "is not a field of this."
        for name in data
        if name not in known
    }
    if faults:
        first = next(iter(faults))
        raise Invalid(f"{first[:64]}: {faults[first]}", fields=faults)
    return dict(data)


def query_of(request: Request, known: Collection[str] = ()) -> dict[str, str]:
    """The parameters of the URL: see `parameters`."""
    return parameters(request.query_params, known)


def parameters(given: QueryDict, known: Collection[str]) -> dict[str, str]:
    """Each known, once, short and printable, else `Invalid`. Empty ones count as absent."""
    faults = {}
    values = {}
    for name, texts in given.lists():
        if name not in known:
            faults[name[:64]] = "is not a parameter of this."
        elif len(texts) > 1:
            faults[name] = "stands there twice."
        elif len(texts[0]) > MAX_PARAMETER or not texts[0].isprintable():
            faults[name] = f"must be at most {MAX_PARAMETER} printable characters."
        elif texts[0]:
            values[name] = texts[0]
    if faults:
        first = next(iter(faults))
        raise Invalid(f"{first}: {faults[first]}", fields=faults)
    return values


def flag(query: Mapping[str, str], name: str) -> bool:
    """A parameter that is `true` or `false`; absent is false."""
    value = query.get(name, "false")
    if value not in ("true", "false"):
        raise Invalid.field(name, "must be true or false.")
    return value == "true"


def number(query: Mapping[str, str], name: str, lowest: int, highest: int) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", value, re.ASCII) or not lowest <= int(value) <= highest:
        raise Invalid.field(name, f"must be an integer from {lowest} to {highest}.")
    return int(value)


def owner_of(fields: dict[str, Any], reach: Reach = EVERYTHING) -> Tenant:
    """The tenant in which something is to be made, by id or slug; it is taken out of the fields."""
    tenant = tenant_named("tenant", fields.pop("tenant", None), reach)
    if tenant is None:
        raise Invalid.field("tenant", "must be given: its id or slug.")
    return tenant


def tenant_named(field: str, reference: object, reach: Reach = EVERYTHING) -> Tenant | None:
    """The tenant that a body or a query means, by id or slug; null means none. Raises `Invalid` when there is no such within
    reach."""
    if reference is None:
        return None
    if isinstance(reference, str):
        try:
            return reach.tenant(reference)
        except NotFound:
            pass
    raise Invalid.field(field, "is no tenant: give its id or slug, or null.")


def listed(rows: "QuerySet[M]", query: Mapping[str, str], reach: Reach) -> "QuerySet[M]":
    """The rows of a list within reach, of the tenant that `?tenant=` names.

    Who does not reach everything finds nothing in a tenant beyond it, and the same in one that does not exist.
    """
    if "tenant" not in query:
        return reach.rows(rows)
    try:
        tenant = tenant_named("tenant", query["tenant"], reach)
    except Invalid:
        if reach.is_limited:
            return rows.none()
        raise
    return rows.filter(tenant=tenant)
