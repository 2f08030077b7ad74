"""A key's own figures: what it used, and how its calls went."""

from typing import Any, Final

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api.bodies import figures
from gateway.api.requests import query_of
from gateway.views import documented
from gateway.views.access import identity_of
from gateway.views.state import StateView
from tenants.clock import SYSTEM
from usage import analytics
from usage.analytics import Asked
from usage.models import RequestLog

_WINDOW: Final[tuple[Any, str]] = (
    {"type": "string", "enum": list(analytics.WINDOWS), "default": analytics.DEFAULT_WINDOW},
    "How far back: hours or days of UTC, the running part included.",
)


class UsageView(StateView):
    @documented.state("getUsage", "Sum up your key's calls", "Usage", window=_WINDOW)
    def get(self, request: Request) -> Response:
        """What this key used lately: requests, tokens, cost. Needs the scope `usage`."""
        window = _window(request)
        return Response(figures.usage_body(_own(request), window, SYSTEM.now()))


class SummaryView(StateView):
    @documented.state("getSummary", "See how your key's calls went", "Summary", window=_WINDOW)
    def get(self, request: Request) -> Response:
        """Sums, shares and times of this key's calls. Needs the scope `usage`."""
        window = _window(request)
        return Response(figures.summary_body(_own(request), window, SYSTEM.now()))


class SeriesView(StateView):
    @documented.state(
        "listTimeseries", "Follow your key's calls over time", "Timeseries", window=_WINDOW
    )
    def get(self, request: Request) -> Response:
        """The same in equal buckets, oldest first, empty ones too. Needs the scope `usage`."""
        window = _window(request)
        return Response(figures.series_body(_own(request), window, SYSTEM.now()))


class ModelsView(StateView):
    @documented.state(
        "listModelFigures",
        "Compare the models that your key called",
        "ModelFigures",
        window=_WINDOW,
    )
    def get(self, request: Request) -> Response:
        """The same for each model, those with the most calls first, 50 at most. Needs the scope `usage`."""
        window = _window(request)
        return Response(figures.models_body(_own(request), window, SYSTEM.now()))


def _window(request: Request) -> str:
    return figures.window_of(query_of(request, ("window",)))


def _own(request: Request) -> Asked:
    return Asked(RequestLog.objects.filter(key_id=identity_of(request).key_id))
