"""The first page: what is wrong and whose it is, then the figures of the last 24 hours, then the last calls."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from gateway import checks, lifecycle
from gateway.checks import Finding, State
from gateway.console_views.attention import concerns, live_keys
from gateway.lifecycle import Phase
from keys.models import APIKey
from providers.models import Model, Provider
from tenants import roles
from tenants.clock import SYSTEM
from tenants.counting import counts
from tenants.errands import role_of
from tenants.models import AuditEvent, Tenant
from usage import analytics
from usage.analytics import Asked
from usage.models import RequestLog

_LAST_CALLS: Final = 10


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is; the first of each two is what is switched on."""

    active_tenants: int
    tenants: int
    live_keys: int
    keys: int
    active_providers: int
    providers: int
    active_models: int
    models: int


@dataclass(frozen=True, slots=True)
class FirstStep:
    """One thing to do before the first call of one's own."""

    title: str
    hint: str
    url: str
    done: bool


def overview_page(request: HttpRequest) -> HttpResponse:
    now = SYSTEM.now()
    found = _counts(now)
    span = analytics.span_of(analytics.DEFAULT_WINDOW, now)
    day = analytics.totals(Asked.everything(RequestLog.objects.all()), span)
    last_calls = list(RequestLog.objects.order_by("-created_at", "-request_id")[:_LAST_CALLS])
    steps = _first_steps(found, has_calls=bool(last_calls))
    context = {
        "title": "Overview",
        "since": span.since,
        "day": day,
        "error_percent": f"{100 * day.error_rate:.2f}" if day.requests else "0",
        "counts": found,
        "health": _unhealthy(),
        "draining": lifecycle.phase() is not Phase.READY,
        "concerns": concerns(now),
        "steps": steps if not all(step.done for step in steps) else [],
        "last_calls": last_calls,
        "may_change": role_of(request) in roles.CHANGERS,
    }
    return render(request, "console/overview.html", context)


def _counts(now: datetime) -> Counts:
    return Counts(
        **counts(
            active_tenants=Tenant.objects.filter(status=Tenant.Status.ACTIVE),
            tenants=Tenant.objects.all(),
            live_keys=live_keys(now),
            keys=APIKey.objects.all(),
            active_providers=Provider.objects.filter(is_active=True),
            providers=Provider.objects.all(),
            active_models=Model.objects.filter(is_active=True),
            models=Model.objects.all(),
        )
    )


def _unhealthy() -> list[Finding]:
    """Of the checks behind `/health`, those that have something to say. Each has its time limit."""
    findings = checks.WATCH.findings(checks.FOR_HEALTH)
    return [found for found in findings if found.state is not State.OK]


def _first_steps(found: Counts, *, has_calls: bool) -> list[FirstStep]:
    tested = AuditEvent.objects.filter(action="provider.tested", outcome=AuditEvent.Outcome.OK)
    providers = reverse("console:providers")
    return [
        FirstStep(
            "Add a provider",
            "An account at an upstream, with its credential.",
            reverse("console:providers-new"),
            Provider.objects.exclude(kind="demo").exists(),
        ),
        FirstStep(
            "Test its connection",
            "One harmless call shows whether address and credential are right.",
            providers,
            tested.exists(),
        ),
        FirstStep(
            "Have a model",
            "Import what the provider lists, or add one by hand.",
            reverse("console:models"),
            bool(found.models),
        ),
        FirstStep(
            "Make a tenant",
            "Whatever a caller can reach belongs to one.",
            reverse("console:tenants-new"),
            bool(found.tenants),
        ),
        FirstStep(
            "Issue a key", "It is shown once.", reverse("console:keys-new"), bool(found.keys)
        ),
        FirstStep(
            "Make the first call",
            "With the curl line that is shown beside the new key.",
            reverse("console:requests"),
            has_calls,
        ),
    ]
