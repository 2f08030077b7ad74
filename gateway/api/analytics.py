"""Figures over the log: what there is and what it came to, and how it went lately."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final, Protocol

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, filters
from gateway.api.bodies import figures
from gateway.api.bodies.common import usd
from gateway.api.door import AdminView
from gateway.api.reach import Reach
from gateway.api.requests import query_of
from gateway.api.shapes import figures as shapes
from gateway.openapi.schemas import one_of, told
from gateway.shapes.figures import WINDOW
from keys.models import APIKey
from providers.models import Model, Provider
from tenants.clock import SYSTEM
from tenants.models import Account, Tenant
from usage import analytics
from usage.analytics import WINDOWS, Calls
from usage.models import RequestLog

_PARAMETERS: Final = ("tenant", "window")
_ANY_WINDOW: Final = told(one_of(WINDOWS), "Absent: all there is.")
_QUERY: Final = {**documented.COPIED_TENANT, "window": WINDOW}


class _Body(Protocol):
    def __call__(self, calls: Calls, window: str, now: datetime) -> dict[str, Any]: ...


class StatsView(AdminView):
    @documented.operation(
        "getStats",
        "Look at how much there is",
        query={**documented.COPIED_TENANT, "window": _ANY_WINDOW},
        answer=shapes.STATS,
    )
    def get(self, request: Request) -> Response:
        """How much there is, and the sums of the log: all of it, unless a window is asked for."""
        query = query_of(request, _PARAMETERS)
        calls = _calls(query, self.reach)
        if "window" in query:
            span = analytics.span_of(figures.window_of(query), SYSTEM.now())
            calls = calls.filter(span.within)
        sums = analytics.totals(calls)
        return Response(
            {
                **_counts(query, self.reach),
                "requests": sums.requests,
                "errors": sums.errors,
                "revenue_usd": usd(sums.cost_nano_usd),
                "unpriced_requests": sums.unpriced,
                "tokens_in": sums.tokens_in,
                "tokens_out": sums.tokens_out,
            }
        )


class FiguresView(AdminView):
    """The base of those that differ in nothing but their body."""

    body: ClassVar[_Body]

    def figures(self, request: Request) -> Response:
        query = query_of(request, _PARAMETERS)
        window = figures.window_of(query)
        return Response(type(self).body(_calls(query, self.reach), window, SYSTEM.now()))


class SummaryView(FiguresView):
    body = staticmethod(figures.summary_body)

    @documented.operation(
        "getSummary", "Look at the figures of a window", query=_QUERY, answer=shapes.SUMMARY
    )
    def get(self, request: Request) -> Response:
        """Sums, shares, and percentiles of times."""
        return self.figures(request)


class SeriesView(FiguresView):
    body = staticmethod(figures.series_body)

    @documented.operation(
        "getTimeseries",
        "Look at the figures of a window's parts",
        query=_QUERY,
        answer=shapes.TIMESERIES,
    )
    def get(self, request: Request) -> Response:
        """Oldest first. Their sums are the window's; the last part is running."""
        return self.figures(request)


class ModelsView(FiguresView):
    body = staticmethod(figures.models_body)

    @documented.operation(
        "getModelFigures",
        "Look at the figures of each model",
        query=_QUERY,
        answer=shapes.MODEL_FIGURES,
    )
    def get(self, request: Request) -> Response:
        """Models with the most calls first, at most 50."""
        return self.figures(request)


def _calls(query: Mapping[str, str], reach: Reach) -> Calls:
    """Of a tenant (id, slug, or the name that the log kept), or all within reach."""
    return reach.rows(RequestLog.objects.filter(filters.of_tenant(query)))


def _counts(query: Mapping[str, str], reach: Reach) -> dict[str, int]:
    """What belongs to the tenant, or all within reach. Of providers and models a tenant has its own; shared ones are nobody's."""
    of, is_tenant = reach.wanted(), reach.wanted("id")
    if "tenant" in query:
        tenant_id = filters.tenant_id_of(query["tenant"])
        of &= Q(tenant_id=tenant_id, tenant__isnull=False)
        is_tenant &= Q(id=tenant_id)
    return {
        "tenants": Tenant.objects.filter(is_tenant).count(),
        "accounts": Account.objects.filter(of).count(),
        "keys": APIKey.objects.filter(of).count(),
        "models": Model.objects.filter(of).count(),
        "providers": Provider.objects.filter(of).count(),
    }
