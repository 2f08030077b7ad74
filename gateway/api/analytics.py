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
from tenants.counting import counts
from tenants.models import Account, Tenant
from usage import analytics
from usage.analytics import WINDOWS, Asked
from usage.models import NOBODY, RequestLog

_PARAMETERS: Final = ("tenant", "window")
_ANY_WINDOW: Final = told(one_of(WINDOWS), "Absent: all there is.")
_QUERY: Final = {**documented.COPIED_TENANT, "window": WINDOW}


class _Body(Protocol):
    def __call__(self, asked: Asked, window: str, now: datetime) -> dict[str, Any]: ...


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
        span = None
        if "window" in query:
            span = analytics.span_of(figures.window_of(query), SYSTEM.now())
        sums = analytics.totals(_asked(query, self.reach), span)
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
        return Response(type(self).body(_asked(query, self.reach), window, SYSTEM.now()))


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


def _asked(query: Mapping[str, str], reach: Reach) -> Asked:
    """Of a tenant (id, slug, or the name that the log kept), or all within reach."""
    calls = reach.rows(RequestLog.objects.all())
    if "tenant" not in query:
        return Asked(calls, (NOBODY,) if reach.tenants is None else tuple(reach.tenants))
    tenant_id = filters.tenant_id_of(query["tenant"])
    if tenant_id is None:
        return Asked(calls.filter(tenant=query["tenant"]))
    is_reached = tenant_id != NOBODY and (reach.tenants is None or tenant_id in reach.tenants)
    return Asked(calls.filter(tenant_id=tenant_id), (tenant_id,) if is_reached else None)


def _counts(query: Mapping[str, str], reach: Reach) -> dict[str, int]:
    """What belongs to the tenant, or all within reach. Of providers and models a tenant has its own; shared ones are nobody's.
    One query.
    """
    of, is_tenant = reach.wanted(), reach.wanted("id")
    if "tenant" in query:
        tenant_id = filters.tenant_id_of(query["tenant"])
        of &= Q(tenant_id=tenant_id, tenant__isnull=False)
        is_tenant &= Q(id=tenant_id)
    return counts(
        tenants=Tenant.objects.filter(is_tenant),
        accounts=Account.objects.filter(of),
        keys=APIKey.objects.filter(of),
        models=Model.objects.filter(of),
        providers=Provider.objects.filter(of),
    )
