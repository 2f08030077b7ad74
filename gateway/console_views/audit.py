"""The audit log for auditors and owners: who decided what, whether the chains hold, and all of it as JSON lines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.shortcuts import render
from django.urls import reverse

from gateway.api import audit as api
from gateway.api import paging
from gateway.api.paging import Slice
from gateway.api.shapes.audit import SOURCES
from gateway.console_views import lists
from gateway.console_views.lists import Asked, Filter
from tenants import audit, audit_export, roles
from tenants.audit import PLATFORM, Entry, Finding, Target
from tenants.changes import note
from tenants.console_parts import Crumb
from tenants.errands import actor_of, role_of
from tenants.errors import Invalid
from tenants.models import AuditEvent, Tenant

_OUTCOMES: Final = (("ok", "Done"), ("refused", "Refused"), ("failed", "Failed"))
_SHOWN_CHARACTERS: Final = 400


@dataclass(frozen=True, slots=True)
class Difference:
    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Shown:
    """An audit row with its details apart: what changed from what to what, and the rest."""

    event: AuditEvent
    tenant: str
    differences: list[Difference]
    facts: list[tuple[str, str]]


def _found(asked: Asked) -> Slice[AuditEvent]:
    if asked.fault:
        return Slice([], None)
    try:
        return paging.cut(AuditEvent.objects.filter(api.wanted_by(asked.query)), asked.query)
    except Invalid as refusal:
        asked.fault = refusal.message
        return Slice([], None)


def audit_page(request: HttpRequest) -> HttpResponse:
    asked = lists.read(request, api.PARAMETERS)
    found = _found(asked)
    bar = [
        Filter("actor", "Who"),
        Filter("action", "Action"),
        Filter("target", "Target"),
        Filter("tenant", "Tenant", offered=[(PLATFORM, "the house"), *lists.offered_tenants()]),
        Filter("outcome", "Outcome", choices=_OUTCOMES),
        Filter("source", "By way of", choices=[(name, name) for name in SOURCES]),
        Filter("request_id", "Request id"),
        Filter("since", "Since, UTC", type="datetime-local"),
        Filter("until", "Until, UTC", type="datetime-local"),
    ]
    context = {
        "title": "Audit log",
        "rows": _shown(found.rows),
        "may_prune": role_of(request) in roles.OWNERS,
        "export_url": f"{reverse('console:audit-export')}{asked.url_with()}",
        **lists.context(asked, bar, found.next_cursor),
    }
    return render(request, "console/audit/list.html", context, status=lists.status_of(asked))


def event_page(request: HttpRequest, event_id: UUID) -> HttpResponse:
    event = AuditEvent.objects.filter(pk=event_id).first()
    if event is None:
        raise Http404
    title = f"{event.action}, row {event.seq}"
    context = {
        "title": title,
        "shown": _shown([event])[0],
        "prev_hash": bytes(event.prev_hash).hex(),
        "row_hash": bytes(event.row_hash).hex(),
        "crumbs": [Crumb("Audit log", reverse("console:audit")), Crumb(title)],
    }
    return render(request, "console/audit/detail.html", context)


def _shown(events: Sequence[AuditEvent]) -> list[Shown]:
    names = _scope_names({event.scope for event in events})
    shown = []
    for event in events:
        differences, facts = _apart(event.details)
        shown.append(Shown(event, names.get(event.scope, event.scope), differences, facts))
    return shown


def _scope_names(scopes: set[str]) -> dict[str, str]:
    """A tenant that is gone has its id alone."""
    ids = [UUID(scope) for scope in scopes if scope != PLATFORM and _is_id(scope)]
    named = Tenant.objects.filter(pk__in=ids).values_list("id", "name") if ids else ()
    return {PLATFORM: "the house", **{str(identity): name for identity, name in named}}


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _apart(details: Any) -> tuple[list[Difference], list[tuple[str, str]]]:
    """Details were redacted when they were written, and may still be anything that JSON can say."""
    if not isinstance(details, Mapping):
        return [], [("details", _text(details))]
    differences, facts = [], []
    for name, value in details.items():
        if isinstance(value, Mapping) and set(value) == {"from", "to"}:
            differences.append(Difference(name, _text(value["from"]), _text(value["to"])))
        else:
            facts.append((name, _text(value)))
    return differences, facts


def _text(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


# --- whether the chains hold ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chain:
    """One scope's chain: its newest row, and what is wrong with it, if anything."""

    scope: str
    name: str
    seq: int
    row_hash: str
    findings: list[Finding]


def verify_page(request: HttpRequest) -> HttpResponse:
    """Recomputes every chain. Only a POST does it: it reads the whole log."""
    if request.method != "POST":
        return HttpResponseRedirect(reverse("console:audit"))
    fault = audit_export.key_fault()
    verdict = audit.Verdict() if fault or audit_export.is_empty() else audit.verify()
    heads = audit.heads()
    scopes = sorted({*heads, *(finding.scope for finding in verdict.findings)})
    names = _scope_names(set(scopes))
    context = {
        "title": "Chain verification",
        "crumbs": [Crumb("Audit log", reverse("console:audit")), Crumb("Verification")],
        "fault": fault,
        "verdict": verdict,
        "chains": [
            Chain(
                scope,
                names.get(scope, scope),
                *heads.get(scope, (0, "")),
                [finding for finding in verdict.findings if finding.scope == scope],
            )
            for scope in scopes
        ],
    }
    return render(request, "console/audit/verified.html", context)


# --- all of it --------------------------------------------------------------------------------------------------------


def export(request: HttpRequest) -> HttpResponseBase:
    """What the list is filtered by, oldest first, one JSON object a line. Only a POST gives it, for it is an audit row too."""
    if request.method != "POST":
        return HttpResponseRedirect(reverse("console:audit"))
    asked = lists.read(request, api.PARAMETERS)
    try:
        rows = AuditEvent.objects.filter(api.wanted_by(asked.query))
    except Invalid as refusal:
        asked.fault = refusal.message
    if asked.fault:
        return HttpResponseRedirect(f"{reverse('console:audit')}{asked.url_with()}")
    asked_for = {name: value for name, value in asked.query.items() if name != "cursor"}
    note(
        Entry(
            actor_of(request), "audit.exported", Target("audit", "log", "export"), details=asked_for
        )
    )
    return api.export_answer(rows)
