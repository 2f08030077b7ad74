"""The configuration as a file: planned, applied, taken back, shown."""

from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.common import moment
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, query_of
from gateway.api.shapes import config as shapes
from gateway.config_file import applying, exporting, shape, sources, telling
from gateway.config_file.shape import Wish
from gateway.config_file.yaml_text import MAX_BYTES
from gateway.shapes.pages import PAGES
from tenants import validation
from tenants.errors import Invalid
from tenants.models import ConfigRevision


def _wish(fields: dict[str, Any]) -> Wish:
    document = fields.get("document")
    if not isinstance(document, str):
        raise Invalid.field("document", "must be the YAML text of a configuration file.")
    return shape.read(document, sources.over_http)


def _prune(fields: dict[str, Any]) -> bool:
    return validation.flag("prune", fields.get("prune", False))


def _number(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    return (
        0
        if value == 0 and value is not False
        else validation.limit(name, value, shapes.MOST_REVISIONS)
    )


class PlanView(AdminView):
    is_made_once = False
    max_body: ClassVar[int] = MAX_BYTES

    @documented.operation(
        "planConfig", "Plan a configuration file", body=shapes.PLAN_ASKED, answer=shapes.PLAN
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("document", "prune"))
        found = applying.plan(_wish(fields), actor_of(request), prune=_prune(fields))
        return Response(telling.plan_body(found))


class ApplyView(AdminView):
    is_made_once = False
    max_body: ClassVar[int] = MAX_BYTES

    @documented.operation(
        "applyConfig",
        "Apply a configuration file",
        body=shapes.APPLY_ASKED,
        answer=shapes.APPLIED,
        refuses={
            409: "`stale`: another revision is in force. `conflict`: something is in the way."
        },
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("document", "prune", "base_revision"))
        applied = applying.apply(
            _wish(fields),
            actor_of(request),
            prune=_prune(fields),
            base_revision=_number(fields, "base_revision"),
        )
        return Response(telling.applied_body(applied))


class RollbackView(AdminView):
    is_made_once = False

    @documented.operation(
        "rollBackConfig",
        "Take the last configuration file back",
        body=shapes.ROLLBACK_ASKED,
        answer=shapes.ROLLED_BACK,
        refuses={
            404: "`not_found`: there is no revision.",
            409: "`stale`: another revision is in force. `rollback_blocked`: something is in the way.",
        },
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("revision",))
        done = applying.rollback(actor_of(request), revision=fields.get("revision"))
        return Response(telling.rolled_back_body(done))


class ExportView(AdminView):
    @documented.operation("exportConfig", "Write the configuration as a file", answer=shapes.EXPORT)
    def get(self, request: Request) -> Response:
        query_of(request)
        return Response({"object": "config_document", "document": exporting.text()})


class RevisionsView(AdminView):
    @documented.operation(
        "listConfigRevisions",
        "List what was applied",
        query=PAGES,
        answer=shapes.REVISIONS,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, paging.PARAMETERS)
        return paging.page(ConfigRevision.objects.all(), query, _revision)


def _revision(revision: ConfigRevision) -> dict[str, Any]:
    body = telling.revision_body(revision)
    times = ("applied_at", "rolled_back_at")
    return {**body, **{name: moment(body[name]) for name in times}}
