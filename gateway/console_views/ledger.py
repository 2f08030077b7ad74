"""The money lines behind the calls, as they were written: they are only ever added."""

import re
from typing import Final

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from gateway.api import filters
from gateway.api.paging import Slice
from gateway.console_views import lists
from gateway.console_views.lists import Asked, Filter
from tenants.errors import Invalid
from usage.models import LedgerEntry

_PARAMETERS: Final = ("tenant", "key", "model", "month", "cost", "since", "until")
_PAGE: Final = 50
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
_PLACE: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_COSTS: Final = {"unknown": Q(cost_nano_usd=None), "estimated": Q(usage_source="estimated")}


def _wanted(query: dict[str, str]) -> Q:
    wanted = filters.period(query) & filters.of_tenant(query) & filters.of_key(query)
    if "model" in query:
        wanted &= Q(model=query["model"])
    if "month" in query:
        if not _MONTH.fullmatch(query["month"]):
            raise Invalid.field("month", "must be a month like 2026-01.")
        wanted &= Q(month=query["month"])
    if "cost" in query:
        if query["cost"] not in _COSTS:
            raise Invalid.field("cost", "must be unknown or estimated.")
        wanted &= _COSTS[query["cost"]]
    return wanted


def _found(asked: Asked) -> Slice[LedgerEntry]:
    """Newest first, in the order in which they were written: each page begins below the number of its cursor."""
    if asked.fault:
        return Slice([], None)
    try:
        rows = LedgerEntry.objects.filter(_wanted(asked.query))
        if (cursor := asked.query.get("cursor")) is not None:
            if not _PLACE.fullmatch(cursor):
                raise Invalid.field("cursor", "is not one that this list gave out.")
            rows = rows.filter(pk__lt=int(cursor))
    except Invalid as refusal:
        asked.fault = refusal.message
        return Slice([], None)
    found = list(rows.order_by("-pk")[: _PAGE + 1])
    shown = found[:_PAGE]
    return Slice(shown, str(shown[-1].pk) if len(found) > _PAGE else None)


def ledger_page(request: HttpRequest) -> HttpResponse:
    asked = lists.read(request, _PARAMETERS)
    found = _found(asked)
    bar = [
        Filter("tenant", "Tenant", offered=lists.offered_tenants()),
        Filter("key", "Key prefix or id"),
        Filter("model", "Model"),
        Filter("month", "Month", type="month"),
        Filter("since", "Since, UTC", type="datetime-local"),
        Filter("until", "Until, UTC", type="datetime-local"),
    ]
    chosen = asked.shown.get("cost")
    context = {
        "title": "Ledger",
        "rows": found.rows,
        "cost_nano_usd": sum(row.cost_nano_usd or 0 for row in found.rows),
        "unpriced": sum(row.cost_nano_usd is None for row in found.rows),
        "pills": [
            ("All", asked.url_with(cost=None), chosen is None),
            ("Cost unknown", asked.url_with(cost="unknown"), chosen == "unknown"),
            ("Estimated", asked.url_with(cost="estimated"), chosen == "estimated"),
        ],
        **lists.context(asked, bar, found.next_cursor),
    }
    return render(request, "console/ledger/list.html", context, status=lists.status_of(asked))
