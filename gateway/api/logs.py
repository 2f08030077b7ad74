"""The log: one row per call, and what led to each."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.db.models import Q, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, filters, paging
from gateway.api.bodies.calls import content_body, log_body, why_card
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import number, query_of
from gateway.api.shapes import calls as shapes
from gateway.api.shapes.fields import KEY_FILTER
from gateway.openapi.schemas import TEXT, fitting, integer, one_of, told
from gateway.shapes.calls import KINDS
from gateway.shapes.pages import PAGES
from providers.models import Price
from tenants.errors import NotFound
from usage import contents
from usage.models import FAILED, NOBODY, SAID, Attempt, LedgerEntry, RequestLog

PARAMETERS: Final = [
    "tenant",
    "project",
    "account",
    "key",
    "team",
    "model",
    "provider",
    "status",
    "kind",
    "trace_id",
    "since",
    "until",
]
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
#: Bounds of one card; a call has far fewer.
_MOST_LINES: Final = 200
#: Filters by columns of which an index holds every call.
_INDEXED: Final = frozenset({"tenant", "key", "model", "trace_id"})
_FILTERS: Final = {
    **documented.COPIED_TENANT,
    "project": told(TEXT, "The id or the name of a project."),
    "account": told(TEXT, "The id or the name of a user."),
    **KEY_FILTER,
    "team": told(TEXT, "The key's team."),
    "model": told(TEXT, "The name that was asked for."),
    "provider": told(TEXT, "The id or the name of a provider."),
    "status": integer(100, 599),
    "kind": one_of(KINDS),
    "trace_id": told(fitting("[0-9a-f]{32}"), "As in the caller's `traceparent`."),
    **documented.PERIOD,
}


def wanted_by(query: Mapping[str, str]) -> Q:
    """What a list's parameters ask for. Raises `Invalid` for a value that can mean nothing."""
    wanted = filters.period(query) & filters.one_of(query, "kind", KINDS)
    wanted &= filters.of_tenant(query) & filters.of_key(query) & filters.of_trace(query)
    for name in ("project", "account", "provider"):
        if name in query:
            wanted &= filters.id_or_name(name, query[name])
    for name in ("team", "model"):
        if name in query:
            wanted &= Q(**{name: query[name]})
    status = number(query, "status", 100, 599)
    if status is not None:
        wanted &= Q(status=status)
    return wanted & _said(query, status)


def _said(query: Mapping[str, str], status: int | None) -> Q:
    """What is true of every row that is asked for, and lets SQLite take an index that holds such rows only (usage/models.py).

    One index at most, and none beside a filter that has a whole one: it counts no values, and would take the smaller index for
    the better one, whoever is asked for.
    """
    if not _INDEXED.isdisjoint(query):
        return Q()
    for name in ("project", "account"):
        identity = filters.as_id(query.get(name, ""))
        if identity not in (None, NOBODY):
            return Q(**SAID[f"{name}_id"])
    if "team" in query:
        return Q(**SAID["team"])
    if filters.as_id(query.get("provider", str(NOBODY))) is None:
        return Q(**SAID["provider"])
    return Q(**SAID["status"]) if status is not None and status >= FAILED else Q()


class LogsView(AdminView):
    @documented.operation("listLogs", "List calls", query={**PAGES, **_FILTERS}, answer=shapes.LOGS)
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, *PARAMETERS))
        found = self.reach.rows(RequestLog.objects.filter(wanted_by(query)))
        return paging.page(found, query, log_body, tie="request_id", counted=False)


def call_named(request_id: str, among: "QuerySet[RequestLog] | None" = None) -> RequestLog:
    """The call of that id, the caller's or ours. Callers may repeat theirs: the newest answers. Raises `NotFound`."""
    if not _REQUEST_ID.fullmatch(request_id):
        raise NotFound
    wanted = Q(correlation_id=request_id)
    ours = filters.as_id(request_id)
    if ours is not None:
        wanted |= Q(request_id=ours)
    rows = RequestLog.objects.all() if among is None else among
    row = rows.filter(wanted).order_by("-created_at", "-request_id").first()
    if row is None:
        raise NotFound
    return row


def attempts_of(row: RequestLog) -> "QuerySet[Attempt]":
    call = {"month": row.month, "request_id": row.request_id}
    return Attempt.objects.filter(**call).order_by("n")[:_MOST_LINES]


def lines_of(row: RequestLog) -> "QuerySet[LedgerEntry]":
    call = {"month": row.month, "request_id": row.request_id}
    return LedgerEntry.objects.filter(**call).order_by("line")[:_MOST_LINES]


def price_of(lines: Iterable[LedgerEntry]) -> Price | None:
    """What the call's own line was charged by, while that price still stands there."""
    first = next((line for line in lines if line.line == 1), None)
    if first is None or first.price_id is None:
        return None
    return Price.objects.filter(pk=first.price_id).first()


def card_of(row: RequestLog) -> dict[str, Any]:
    """The why-card of a call."""
    lines = list(lines_of(row))
    return why_card(row, attempts_of(row), lines, price_of(lines))


def tenants_card_of(row: RequestLog) -> dict[str, Any]:
    """The why-card without what only the house has a use for: the ids of the tenant and of providers."""
    card = card_of(row)
    for name in ("tenant_id", "provider_id"):
        del card[name]
    for attempt in card["attempts"]:
        del attempt["provider_id"]
    return card


class LogView(AdminView):
    @documented.operation("getLog", "Ask why a call went as it did", answer=shapes.WHY_CARD)
    def get(self, request: Request, request_id: str) -> Response:
        query_of(request)
        row = call_named(request_id, self.reach.rows(RequestLog.objects.all()))
        return Response(tenants_card_of(row) if self.reach.is_limited else card_of(row))


class ContentView(AdminView):
    @documented.operation(
        "getLogContent",
        "Read what was kept of a call",
        answer=shapes.CONTENT,
        refuses={
            410: "`content_shredded`: the tenant's secret is gone, and with it every way to read this.",
            503: "`content_unreadable`: it cannot be opened. `unavailable`, `overloaded`: come back after `Retry-After`.",
        },
    )
    def get(self, request: Request, request_id: str) -> Response:
        """The bodies in clear. Each reading is an audit row, written before they leave."""
        query_of(request)
        call = call_named(request_id)
        return Response(content_body(call, contents.read(actor=actor_of(request), call=call)))
