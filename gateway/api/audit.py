"""The audit log, read by auditors and owners."""

from collections.abc import Mapping
from typing import Final

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import filters, paging
from gateway.api.bodies.audit import audit_body
from gateway.api.door import AdminView
from gateway.api.requests import query_of
from tenants.audit import PLATFORM, scope_of
from tenants.models import AuditEvent

PARAMETERS: Final = [
    "tenant",
    "actor",
    "action",
    "target",
    "outcome",
    "source",
    "request_id",
    "since",
    "until",
]
SOURCES: Final = ("api", "console", "command", "mcp", "system")


def wanted_by(query: Mapping[str, str]) -> Q:
    """`tenant` is an id, a slug or `platform`; `actor` an id or a name; `target` an id, a name or a kind."""
    wanted = filters.period(query)
    wanted &= filters.one_of(query, "outcome", tuple(AuditEvent.Outcome.values))
    wanted &= filters.one_of(query, "source", SOURCES)
    tenant = query.get("tenant")
    if tenant == PLATFORM:
        wanted &= Q(scope=PLATFORM)
    elif tenant is not None:
        tenant_id = filters.tenant_id_of(tenant)
        wanted &= Q(scope=scope_of(tenant_id)) if tenant_id else Q(pk__in=())
    if "actor" in query:
        wanted &= Q(actor_id=query["actor"]) | Q(actor_label=query["actor"])
    if "target" in query:
        target = query["target"]
        wanted &= Q(target_id=target) | Q(target_label=target) | Q(target_kind=target)
    for name in ("action", "request_id"):
        if name in query:
            wanted &= Q(**{name: query[name]})
    return wanted


class AuditView(AdminView):
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, *PARAMETERS))
        found = AuditEvent.objects.filter(wanted_by(query))
        return paging.page(found, query, audit_body, counted=False)
