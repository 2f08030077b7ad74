"""The audit log, read by auditors and owners."""

from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import islice
from typing import Final

from asgiref.sync import sync_to_async
from django.db.models import Q, QuerySet
from django.http import StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, filters, paging
from gateway.api.bodies.audit import audit_body, verdict_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import query_of
from gateway.api.shapes import audit as shapes
from gateway.api.shapes.fields import TENANT
from gateway.openapi.schemas import TEXT, one_of, told
from gateway.shapes.pages import PAGES
from tenants import audit, audit_export
from tenants.audit import PLATFORM, Entry, Target, scope_of
from tenants.changes import note
from tenants.errors import Invalid, Unavailable
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
#: Rows of an export that are read at once.
_BATCH: Final = 1_000
_FILTERS: Final = {
    "tenant": told(TEXT, "The id or the slug of a tenant, or `platform`."),
    "actor": told(TEXT, "An id or a name."),
    "action": told(TEXT, "Such as `key.rotated`."),
    "target": told(TEXT, "An id, a name, or a kind such as `api_key`."),
    "outcome": shapes.OUTCOME,
    "source": one_of(shapes.SOURCES),
    "request_id": TEXT,
    **documented.PERIOD,
}


def wanted_by(query: Mapping[str, str]) -> Q:
    """`tenant` is an id, a slug or `platform`; `actor` an id or a name; `target` an id, a name or a kind."""
    wanted = filters.period(query)
    wanted &= filters.one_of(query, "outcome", tuple(AuditEvent.Outcome.values))
    wanted &= filters.one_of(query, "source", shapes.SOURCES)
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
    @documented.operation(
        "listAuditEvents",
        "Read the audit log",
        query={**PAGES, **_FILTERS},
        answer=shapes.EVENTS,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, *PARAMETERS))
        found = AuditEvent.objects.filter(wanted_by(query))
        return paging.page(found, query, audit_body, counted=False)


class VerifyView(AdminView):
    @documented.operation(
        "verifyAuditLog",
        "Verify the audit log",
        query={
            "tenant": told(TENANT, "The id or the slug of a tenant, or `platform`; absent: all.")
        },
        answer=shapes.VERDICT,
        refuses={
            503: "`key_unavailable`, `unavailable`, `overloaded`: come back after `Retry-After`."
        },
    )
    def get(self, request: Request) -> Response:
        """Recomputes every chain, or that of one tenant. It reads all of what it verifies."""
        scope = _scope(query_of(request, ("tenant",)).get("tenant"))
        fault = audit_export.key_fault()
        if fault is not None:
            raise Unavailable(fault, code="key_unavailable")
        if audit_export.is_empty():
            return Response(verdict_body(audit.Verdict()))
        return Response(verdict_body(audit.verify(scope=scope)))


class ExportView(AdminView):
    @documented.operation(
        "exportAuditLog",
        "Export the audit log",
        query=_FILTERS,
        answer=documented.Lines("application/x-ndjson", '{"seq": 1, "action": "key.rotated"}\n'),
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """What the list with the same filters has, oldest first, one JSON object a line. It is a row of the log itself."""
        query = query_of(request, PARAMETERS)
        rows = AuditEvent.objects.filter(wanted_by(query))
        note(
            Entry(
                actor_of(request), "audit.exported", Target("audit", "log", "export"), details=query
            )
        )
        return export_answer(rows)


def export_answer(rows: "QuerySet[AuditEvent]") -> StreamingHttpResponse:
    """The database is read in a thread, a batch at a time, as fast as it is taken away."""
    return StreamingHttpResponse(
        _in_batches(audit_export.lines(rows)),
        content_type="application/x-ndjson",
        headers={"Content-Disposition": 'attachment; filename="audit.jsonl"'},
    )


async def _in_batches(lines: Iterator[str]) -> AsyncIterator[str]:
    while batch := await sync_to_async(_next)(lines):
        yield batch


def _next(lines: Iterator[str]) -> str:
    return "".join(islice(lines, _BATCH))


def _scope(reference: str | None) -> str | None:
    """A tenant that is gone has its chain still, by its id."""
    if reference is None or reference == PLATFORM:
        return reference
    tenant_id = filters.tenant_id_of(reference)
    if tenant_id is None or scope_of(tenant_id) not in audit.heads():
        raise Invalid.field("tenant", "has no audit log: give an id, a slug, or `platform`.")
    return scope_of(tenant_id)
