"""`/metrics`, for those who have the token. Adds up what the workers counted, and asks the database for very little."""

from collections.abc import Iterable
from typing import Final

from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gateway.checks import FRESH_SECONDS, Look, Outcome, State, Watch
from gateway.metrics import budgets, shared
from gateway.metrics.meters import meters
from tenants.models import AuditHead
from tenants.sealing import Secret

_MAX_TOKEN: Final = 1024


def look_at_audit_heads() -> Outcome:
    rows = AuditHead.objects.aggregate(rows=Sum("seq"))["rows"] or 0
    return State.OK, "The audit log can be read.", {"rows": rows}


class AuditHeads(Collector):
    """How many rows all audit chains have: it never falls unless somebody cut one. Left out while the database is away."""

    def __init__(self) -> None:
        self._look = Look("audit heads", look_at_audit_heads)
        self._watch = Watch(fresh=FRESH_SECONDS)

    def collect(self) -> Iterable[Metric]:
        (found,) = self._watch.findings([self._look])
        if found.state is State.OK:
            yield GaugeMetricFamily(
                "gatehouse_audit_head",
                "Rows of the audit log, all chains together.",
                value=found.details["rows"],
            )


class KeyBudgets(Collector):
    """How much of its budgets each key has used, at this very scrape: a key that has ended is not in it. Left out while the
    database is away.
    """

    def __init__(self) -> None:
        self._look = Look("key budgets", budgets.look_at_key_budgets)
        self._watch = Watch()

    def collect(self) -> Iterable[Metric]:
        (found,) = self._watch.findings([self._look])
        if found.state is State.OK:
            yield budgets.family(found.details["ratios"])


_OF_THE_DATABASE: Final = (AuditHeads(), KeyBudgets())


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """401 without the token, and for everybody while none is set."""
    if settings.METRICS_TOKEN is None:
        return _refusal(
            request,
            "metrics_off",
            "Metrics are off: set GATEHOUSE_METRICS_TOKEN and send it as a Bearer token.",
        )
    if not _has_token(request, settings.METRICS_TOKEN):
        return _refusal(
            request, "invalid_credentials", "Send GATEHOUSE_METRICS_TOKEN as a Bearer token."
        )
    body = b"".join(generate_latest(source) for source in (_counted(), _asked()))
    return HttpResponse(body, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _has_token(request: HttpRequest, token: Secret) -> bool:
    scheme, _, offered = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or len(offered) > _MAX_TOKEN:
        return False
    # Secrets are compared in constant time.
    return Secret(offered.strip().encode()) == token


def _counted() -> CollectorRegistry:
    """What all workers of this server counted; under another server, what this process did."""
    meters().count()
    folder = shared.folder()
    if folder is None:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    return registry


def _asked() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in _OF_THE_DATABASE:
        registry.register(collector)
    return registry


def _refusal(request: HttpRequest, code: str, message: str) -> JsonResponse:
    error = {"code": code, "message": message, "fields": {}}
    body = {"error": error, "request_id": getattr(request, "request_id", "")}
    return JsonResponse(body, status=401, headers={"WWW-Authenticate": 'Bearer realm="gatehouse"'})
