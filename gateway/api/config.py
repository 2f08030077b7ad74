"""The configuration as a file: planned, applied, taken back, shown."""

from typing import Any, ClassVar, Final

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import paging
from gateway.api.bodies.common import moment
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, query_of
from gateway.config_file import applying, exporting, shape, sources, telling
from gateway.config_file.shape import Wish
from gateway.config_file.yaml_text import MAX_BYTES
from tenants import validation
from tenants.errors import Invalid
from tenants.models import ConfigRevision

_MOST_REVISIONS: Final = 10**9


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
        0 if value == 0 and value is not False else validation.limit(name, value, _MOST_REVISIONS)
    )


class PlanView(AdminView):
    max_body: ClassVar[int] = MAX_BYTES

    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("document", "prune"))
        found = applying.plan(_wish(fields), actor_of(request), prune=_prune(fields))
        return Response(telling.plan_body(found))


class ApplyView(AdminView):
    max_body: ClassVar[int] = MAX_BYTES

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
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("revision",))
        done = applying.rollback(actor_of(request), revision=fields.get("revision"))
        return Response(telling.rolled_back_body(done))


class ExportView(AdminView):
    def get(self, request: Request) -> Response:
        query_of(request)
        return Response({"object": "config_document", "document": exporting.text()})


class RevisionsView(AdminView):
    def get(self, request: Request) -> Response:
        query = query_of(request, paging.PARAMETERS)
        return paging.page(ConfigRevision.objects.all(), query, _revision)


def _revision(revision: ConfigRevision) -> dict[str, Any]:
    body = telling.revision_body(revision)
    times = ("applied_at", "rolled_back_at")
    return {**body, **{name: moment(body[name]) for name in times}}
