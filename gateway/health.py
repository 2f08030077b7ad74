"""`/livez`, `/readyz`, `/health`, `/health/detail`. The first three are public and name checks, never what is behind them."""

from typing import Any, Final

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponseRedirect, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from gateway import checks, lifecycle
from gateway.api.bodies.common import identity
from gateway.api.bodies.providers import health_body
from gateway.api.principals import principal_of
from gateway.checks import Finding, State
from gateway.lifecycle import Phase
from gateway.version import VERSION
from providers.health import health_of
from providers.models import Provider
from tenants import changes
from tenants.roles import READERS
from tenants.sealing import SealingError
from tenants.service_tokens import READ
from tenants.sign_in import BadCredentials
from usage.flights import in_flight

_RETRY_SECONDS: Final = "5"
_MOST_PROVIDERS: Final = 200


@require_safe
def home(request: HttpRequest) -> HttpResponseRedirect:
    return HttpResponseRedirect("/console/")


@require_safe
@never_cache
def livez(request: HttpRequest) -> JsonResponse:
    """The process answers; nothing else is asked, so that a dead database does not get workers restarted."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when this worker should get requests; else 503 with the names of what is missing."""
    phase = lifecycle.phase()
    if phase is Phase.READY:
        findings = checks.WATCH.findings(checks.FOR_READINESS)
        reasons = [found.name for found in findings if found.state is State.FAILED]
        states = {found.name: _public(found) for found in findings}
    else:
        reasons, states = [phase.value], {}
    answer = JsonResponse(
        {"status": "not_ready" if reasons else "ready", "reasons": reasons, "checks": states},
        status=503 if reasons else 200,
    )
    if reasons:
        answer.headers["Retry-After"] = _RETRY_SECONDS
    return answer


@require_safe
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    findings = checks.WATCH.findings(checks.FOR_HEALTH)
    return JsonResponse({"status": _status(findings)})


@require_safe
@never_cache
def health_detail(request: HttpRequest) -> JsonResponse:
    """For operators: every check with its sentence, and what the running parts report of themselves."""
    try:
        if not _is_operator(request):
            return _refusal(request, 401, "missing_credentials", "Sign in as an operator first.")
        epoch, providers = changes.epoch(), _providers()
    except (DatabaseError, SealingError):
        # The session could not be looked up, which says nothing about whoever is asking.
        return _refusal(request, 503, "unavailable", "This cannot be done right now; try again.")
    findings = checks.WATCH.findings(checks.FOR_HEALTH)
    return JsonResponse(
        {
            "status": _status(findings),
            "version": VERSION,
            "phase": lifecycle.phase().value,
            "epoch": epoch,
            "checks": [
                {
                    "name": found.name,
                    "state": found.state.value,
                    "message": found.sentence,
                    "details": found.details,
                }
                for found in findings
            ],
            "providers": providers,
            "reports": lifecycle.reports(),
        }
    )


def _providers() -> list[dict[str, Any]]:
    """How each provider is that is on, by name, and how busy."""
    rows = list(Provider.objects.filter(is_active=True).order_by("name", "id")[:_MOST_PROVIDERS])
    states, calls = health_of(rows), in_flight([row.id for row in rows])
    return [
        {
            "id": str(row.id),
            "name": row.name,
            "tenant": identity(row.tenant_id),
            **health_body(row, states[row.id], calls[row.id]),
        }
        for row in rows
    ]


def _public(found: Finding) -> str:
    return State.FAILED.value if found.state is State.FAILED else State.OK.value


def _status(findings: list[Finding]) -> str:
    draining = lifecycle.phase() is not Phase.READY
    good = not draining and all(found.state is State.OK for found in findings)
    return "ok" if good else "degraded"


def _is_operator(request: HttpRequest) -> bool:
    """Staff of the house, by any credential of the admin API that may read."""
    try:
        who = principal_of(request.META)
    except BadCredentials:
        return False
    if who is None or who.must_change_password:
        return False
    return who.role in READERS and who.has_scope(READ)


def _refusal(request: HttpRequest, status: int, code: str, message: str) -> JsonResponse:
    error = {"code": code, "message": message, "fields": {}}
    more = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": _RETRY_SECONDS}
    body = {"error": error, "request_id": getattr(request, "request_id", "")}
    return JsonResponse(body, status=status, headers=more)
