"""A key's own figures: what it used, and how its calls went."""

from typing import Final

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api.bodies import figures
from gateway.api.requests import query_of
from gateway.openapi.schemas import told
from gateway.shapes.figures import WINDOW
from gateway.views import documented
from gateway.views.access import identity_of
from gateway.views.shapes import figures as shapes
from gateway.views.state import StateView
from tenants.clock import SYSTEM
from usage.analytics import Asked
from usage.models import RequestLog

_QUERY: Final = {
    "window": told(WINDOW, "How far back: hours or days of UTC, the running part included.")
}


class UsageView(StateView):
    @documented.state("getUsage", "Sum up your key's calls", shapes.USAGE, query=_QUERY)
    def get(self, request: Request) -> Response:
        """What this key used lately: requests, tokens, cost. Needs the scope `usage`."""
        window = _window(request)
        return Response(figures.usage_body(_own(request), window, SYSTEM.now()))


class SummaryView(StateView):
    @documented.state("getSummary", "See how your key's calls went", shapes.SUMMARY, query=_QUERY)
    def get(self, request: Request) -> Response:
        """Sums, shares and times of this key's calls. Needs the scope `usage`."""
        window = _window(request)
        return Response(figures.summary_body(_own(request), window, SYSTEM.now()))


class SeriesView(StateView):
    @documented.state(
        "listTimeseries", "Follow your key's calls over time", shapes.TIMESERIES, query=_QUERY
    )
    def get(self, request: Request) -> Response:
        """The same in equal buckets, oldest first, empty ones too. Needs the scope `usage`."""
        window = _window(request)
        return Response(figures.series_body(_own(request), window, SYSTEM.now()))


class ModelsView(StateView):
    @documented.state(
        "listModelFigures",
        "Compare the models that your key called",
        shapes.MODEL_FIGURES,
        query=_QUERY,
    )
    def get(self, request: Request) -> Response:
        """The same for each model, those with the most calls first, 50 at most. Needs the scope `usage`."""
        window = _window(request)
        return Response(figures.models_body(_own(request), window, SYSTEM.now()))


def _window(request: Request) -> str:
    return figures.window_of(query_of(request, ("window",)))


def _own(request: Request) -> Asked:
    return Asked(RequestLog.objects.filter(key_id=identity_of(request).key_id))
