"""Money in flight: the calls that still run with what they may use, and what workers have borrowed of budgets for such calls."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db.models import Model as DjangoModel
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from gateway.api import holds, paging
from gateway.api.bodies.holds import state_of
from gateway.api.paging import Slice
from gateway.console_views import lists
from gateway.console_views.lists import Asked, Filter
from keys.models import APIKey
from providers.models import Model, Provider
from tenants.clock import SYSTEM
from tenants.errors import Invalid
from tenants.models import Account, Project, Tenant
from usage.models import Hold, HoldSlice

#: Where a level's name stands.
_NAMED: Final[Mapping[str, tuple[type[DjangoModel], str]]] = {
    "key": (APIKey, "name"),
    "project": (Project, "name"),
    "account": (Account, "username"),
    "tenant": (Tenant, "name"),
    "model": (Model, "name"),
    "provider": (Provider, "name"),
}


@dataclass(frozen=True, slots=True)
class Lent:
    """A slice with the name of whose budget it is of; empty when that is gone."""

    row: HoldSlice
    name: str
    state: str


def holds_page(request: HttpRequest) -> HttpResponse:
    asked = lists.read(request, holds.PARAMETERS)
    found = _found(asked)
    now = SYSTEM.now()
    bar = [
        Filter("tenant", "Tenant", offered=lists.offered_tenants()),
        Filter("key", "Key prefix or id"),
    ]
    lent = holds.slices({})
    context = {
        "title": "Holds",
        "rows": found.rows,
        "tokens": sum(row.tokens for row in found.rows),
        "nano_usd": sum(row.nano_usd for row in found.rows),
        "lent": _named(lent.rows, now),
        "more_lent": lent.next_cursor is not None,
        **lists.context(asked, bar, found.next_cursor),
    }
    return render(request, "console/holds/list.html", context, status=lists.status_of(asked))


def _found(asked: Asked) -> Slice[Hold]:
    if asked.fault:
        return Slice([], None)
    try:
        return paging.cut(holds.holds(asked.query), asked.query, tie="request_id")
    except Invalid as refusal:
        asked.fault = refusal.message
        return Slice([], None)


def _named(rows: Sequence[HoldSlice], now: datetime) -> list[Lent]:
    names: dict[UUID, str] = {}
    for kind in {row.balance.level_kind for row in rows}:
        names |= _names(
            kind, {row.balance.level_id for row in rows if row.balance.level_kind == kind}
        )
    return [Lent(row, names.get(row.balance.level_id, ""), state_of(row, now)) for row in rows]


def _names(kind: str, ids: Iterable[UUID]) -> dict[UUID, Any]:
    """One query; of a kind that is none, nothing."""
    if kind not in _NAMED:
        return {}
    model, column = _NAMED[kind]
    return dict(model._default_manager.filter(pk__in=ids).values_list("pk", column))
