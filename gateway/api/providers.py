"""Providers: upstream accounts. Credentials go in and never out."""

from dataclasses import asdict
from typing import Final
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.providers import provider_bodies
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, flag, query_of, tenant_named
from gateway.api.shapes import providers as shapes
from gateway.api.shapes.base import NOTHING_ASKED
from gateway.openapi.operations import switch
from gateway.shapes.pages import PAGES
from providers import credentials, discovery, grants, services
from providers.models import Provider
from tenants.errors import NotFound
from tenants.limit_rules import LIMITS

_FIELDS: Final = (
    *("name", "base_url", "api_key", "is_active", "disconnect_policy"),
    *services.ACCOUNT_FIELDS,
    "timeout_seconds",
    grants.FIELD,
    *LIMITS,
)
_FIXED: Final = ("id", "object", "kind", "tenant", "has_api_key", "created_at", "health")
_TAKEN: Final = {409: "`conflict`: there is one of that name."}
_UNREADABLE: Final = {
    503: "`credential_unreadable`, `unavailable`, `overloaded`: come back after `Retry-After`."
}
_UPSTREAM: Final = {
    503: "`upstream_error`: it gave no list. `credential_unreadable`, `unavailable`, `overloaded`."
}


def rows() -> "QuerySet[Provider]":
    """Providers with `has_api_key` on each."""
    return credentials.marked(Provider.objects.prefetch_related(grants.READ))


def _shown(provider_id: UUID, status: int = 200) -> Response:
    provider = rows().filter(pk=provider_id).first()
    if provider is None:
        raise NotFound
    return Response(provider_bodies([provider])[0], status=status)


class ProvidersView(AdminView):
    is_made_once = False

    @documented.operation(
        "listProviders",
        "List providers",
        query={**PAGES, **documented.OF_TENANT},
        answer=shapes.PROVIDERS,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, "tenant"))
        found = rows()
        if "tenant" in query:
            found = found.filter(tenant=tenant_named("tenant", query["tenant"]))
        return paging.page_of(found, query, provider_bodies)

    @documented.operation(
        "createProvider",
        "Add a provider",
        body=shapes.NEW_PROVIDER,
        answer=shapes.PROVIDER,
        status=201,
        refuses=_TAKEN,
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("kind", "tenant", *_FIELDS))
        tenant = tenant_named("tenant", fields.pop("tenant", None))
        provider = services.create_provider(
            actor=actor_of(request), tenant_id=tenant.id if tenant else None, **fields
        )
        return _shown(provider.id, 201)


class ProviderView(AdminView):
    @documented.operation("getProvider", "Look at a provider", answer=shapes.PROVIDER)
    def get(self, request: Request, provider_id: UUID) -> Response:
        query_of(request)
        return _shown(provider_id)

    @documented.operation(
        "updateProvider",
        "Change a provider",
        body=shapes.PROVIDER_CHANGES,
        answer=shapes.PROVIDER,
        refuses=_TAKEN,
    )
    def patch(self, request: Request, provider_id: UUID) -> Response:
        fields = fields_of(request, _FIELDS, fixed=_FIXED)
        services.update_provider(actor=actor_of(request), provider_id=provider_id, **fields)
        return _shown(provider_id)

    @documented.operation(
        "deleteProvider",
        "Remove a provider",
        query={"unlink": switch("Whether models that route to it go on without it.")},
        answer=None,
        refuses={409: "`provider_in_use`, with `models`: some route to it."},
    )
    def delete(self, request: Request, provider_id: UUID) -> Response:
        unlink = flag(query_of(request, ("unlink",)), "unlink")
        services.delete_provider(actor=actor_of(request), provider_id=provider_id, unlink=unlink)
        return Response(status=204)


class RotateCredentialView(AdminView):
    @documented.operation(
        "rotateCredential",
        "Replace a provider's credential",
        body=shapes.CREDENTIAL,
        answer=shapes.PROVIDER,
    )
    def post(self, request: Request, provider_id: UUID) -> Response:
        fields = fields_of(request, ("api_key",))
        services.rotate_credential(
            actor=actor_of(request), provider_id=provider_id, api_key=fields.get("api_key")
        )
        return _shown(provider_id)


class TestProviderView(AdminView):
    is_made_once = False

    @documented.operation(
        "testProvider",
        "Test a provider",
        body=NOTHING_ASKED,
        answer=shapes.TEST,
        refuses=_UNREADABLE,
    )
    def post(self, request: Request, provider_id: UUID) -> Response:
        """What came back from a real, harmless call: an upstream that refuses is an answer, not an error."""
        fields_of(request, ())
        result = discovery.test_provider(actor=actor_of(request), provider_id=provider_id)
        return Response(asdict(result))


class ImportModelsView(AdminView):
    is_made_once = False

    @documented.operation(
        "importModels",
        "Import a provider's models",
        body=shapes.IMPORT,
        answer=shapes.IMPORTED,
        refuses=_UPSTREAM,
    )
    def post(self, request: Request, provider_id: UUID) -> Response:
        fields = fields_of(request, ("match",))
        result = discovery.import_models(actor=actor_of(request), provider_id=provider_id, **fields)
        return Response(asdict(result))
