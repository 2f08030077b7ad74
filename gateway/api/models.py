"""Models: the public names. A name may hold slashes; `?tenant=` means that tenant's own model of the name."""

from typing import Any, Final
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.providers import model_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, query_of, tenant_named
from gateway.api.shapes import models as shapes
from gateway.api.shapes.fields import TENANT
from gateway.openapi.schemas import told
from gateway.rehearsal import rehearse
from gateway.shapes.pages import PAGES
from keys.models import APIKey
from providers import grants
from providers import model_services as services
from providers.models import Model
from tenants.errors import Invalid, NotFound
from tenants.limit_rules import LIMITS

_FIELDS: Final = (
    "capability",
    "context_window",
    "max_output_tokens",
    "is_active",
    "targets",
    "prices",
    *services.PENDING,
    grants.FIELD,
    *LIMITS,
)
_FIXED: Final = ("id", "object", "tenant", "created_at")
_OWN: Final = {"tenant": told(TENANT, "The id or the slug of the tenant whose own model is meant.")}


def _rows() -> "QuerySet[Model]":
    return Model.objects.prefetch_related("targets", "prices", grants.READ)


def _named(request: Request, model_id: str) -> Model:
    """A shared model or, with `?tenant=`, that tenant's own."""
    tenant = tenant_named("tenant", query_of(request, ("tenant",)).get("tenant"))
    # A name that no model can have is not looked for: databases choke on some characters.
    found = _rows().filter(name=model_id, tenant=tenant).first() if model_id.isprintable() else None
    if found is None:
        raise NotFound
    return found


class ModelsView(AdminView):
    @documented.operation(
        "listModels",
        "List models",
        query={**PAGES, **documented.OF_TENANT},
        answer=shapes.MODELS,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, "tenant"))
        models = _rows()
        if "tenant" in query:
            models = models.filter(tenant=tenant_named("tenant", query["tenant"]))
        return paging.page(models, query, model_body)

    @documented.operation(
        "createModel",
        "Add a model",
        body=shapes.NEW_MODEL,
        answer=shapes.MODEL,
        status=201,
        refuses={409: "`conflict`: there is one of that name."},
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("id", "tenant", *_FIELDS))
        tenant = tenant_named("tenant", fields.pop("tenant", None))
        model = services.create_model(
            actor=actor_of(request), tenant_id=tenant.id if tenant else None, **fields
        )
        return Response(model_body(model), status=201)


class ModelView(AdminView):
    @documented.operation("getModel", "Look at a model", query=_OWN, answer=shapes.MODEL)
    def get(self, request: Request, model_id: str) -> Response:
        return Response(model_body(_named(request, model_id)))

    @documented.operation(
        "updateModel", "Change a model", query=_OWN, body=shapes.MODEL_CHANGES, answer=shapes.MODEL
    )
    def patch(self, request: Request, model_id: str) -> Response:
        fields = fields_of(request, _FIELDS, fixed=_FIXED)
        model = services.update_model(
            actor=actor_of(request), model_id=_named(request, model_id).id, **fields
        )
        return Response(model_body(model))

    @documented.operation("deleteModel", "Remove a model", query=_OWN, answer=None)
    def delete(self, request: Request, model_id: str) -> Response:
        services.delete_model(actor=actor_of(request), model_id=_named(request, model_id).id)
        return Response(status=204)


class SimulateView(AdminView):
    is_made_once = False

    @documented.operation(
        "simulateCall",
        "Ask what would become of a call",
        query=_OWN,
        body=shapes.SIMULATION_ASKED,
        answer=shapes.SIMULATION,
    )
    def post(self, request: Request, model_id: str) -> Response:
        """What would become of a call of this model, by a key or by some key of a tenant. Nothing is sent, taken or written."""
        fields = fields_of(request, ("tenant", "key"))
        model = _named(request, model_id)
        tenant = tenant_named("tenant", fields.get("tenant"))
        key = _key(fields.get("key"))
        if key is not None and tenant is not None and key.tenant_id != tenant.id:
            raise Invalid.field("key", "is of another tenant.")
        owner = tenant or (model.tenant if key is None else None)
        return Response(rehearse(model, key=key, tenant=owner))


def _key(reference: Any) -> APIKey | None:
    if reference is None:
        return None
    try:
        rows = APIKey.objects.select_related("tenant", "project", "account")
        found = rows.filter(pk=UUID(reference)).first() if isinstance(reference, str) else None
    except ValueError:
        found = None
    if found is None:
        raise Invalid.field("key", "is no key: give its id, or null.")
    return found
