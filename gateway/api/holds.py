"""Money in flight: what each open call may still use at most, and what workers have borrowed of budgets to serve calls from."""

import re
from collections.abc import Mapping
from typing import Final

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, filters, paging
from gateway.api.bodies.holds import hold_body, slice_body
from gateway.api.door import AdminView
from gateway.api.paging import Slice
from gateway.api.requests import number, query_of
from gateway.api.shapes import holds as shapes
from gateway.api.shapes.fields import KEY_FILTER
from gateway.openapi.schemas import fitting
from gateway.shapes.pages import PAGES
from tenants.clock import SYSTEM
from tenants.errors import Invalid
from usage.models import Balance, Hold, HoldSlice

PARAMETERS: Final = ("tenant", "key")
_PLACE: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_MOST: Final = 200
_PAGES: Final = {**PAGES, "cursor": fitting(_PLACE.pattern)}
_PAGE: Final = 50


def holds(query: Mapping[str, str]) -> "QuerySet[Hold]":
    """The calls in flight that the parameters ask for. A call is here from the first write to the tables that finds it open."""
    return Hold.objects.filter(filters.of_tenant(query) & filters.of_key(query))


def slices(query: Mapping[str, str]) -> Slice[HoldSlice]:
    """What workers hold of budgets, newest first; each page begins below the number of its cursor. Raises `Invalid`."""
    limit = number(query, "limit", 1, _MOST) or _PAGE
    rows = HoldSlice.objects.filter(amount__gt=0)
    if (cursor := query.get("cursor")) is not None:
        if not _PLACE.fullmatch(cursor):
            raise Invalid.field("cursor", "is not one that this list gave out.")
        rows = rows.filter(pk__lt=int(cursor))
    found = list(rows.order_by("-pk")[: limit + 1])
    shown = found[:limit]
    balances = Balance.objects.in_bulk({row.balance_id for row in shown})
    for row in shown:
        row.balance = balances[row.balance_id]
    return Slice(shown, str(shown[-1].pk) if len(found) > limit else None)


class HoldsView(AdminView):
    @documented.operation(
        "listHolds",
        "List money in flight",
        query={**PAGES, **documented.COPIED_TENANT, **KEY_FILTER},
        answer=shapes.HOLDS,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, *PARAMETERS))
        now = SYSTEM.now()
        return paging.page(
            self.reach.rows(holds(query)),
            query,
            lambda row: hold_body(row, now),
            tie="request_id",
            counted=True,
        )


class SlicesView(AdminView):
    @documented.operation(
        "listHoldSlices",
        "List what workers have borrowed",
        query=_PAGES,
        answer=shapes.SLICES,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, paging.PARAMETERS)
        found, now = slices(query), SYSTEM.now()
        return Response(
            {
                "object": "list",
                "data": [slice_body(row, now) for row in found.rows],
                "has_more": found.next_cursor is not None,
                "next_cursor": found.next_cursor,
                "total": None,
            }
        )
