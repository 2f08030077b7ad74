"""Tenants, and each one's own default provider."""

from typing import Any, Final
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging, providers
from gateway.api.bodies.providers import provider_config_body
from gateway.api.bodies.tenants import tenant_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, flag, query_of
from gateway.api.shapes import providers as provider_shapes
from gateway.api.shapes import tenants as shapes
from gateway.openapi.operations import consent
from gateway.shapes.pages import PAGES
from keys.models import APIKey
from providers.services import remove_provider_config, set_provider_config
from tenants.errors import Invalid, NotFound
from tenants.models import Tenant
from tenants.services import TENANT_RULES, create_tenant, delete_tenant, update_tenant

_CONFIG_FIELDS: Final = ("provider", "api_key", "base_url", "deployment", "api_version")


def _config_summary(tenant_id: UUID) -> dict[str, Any] | None:
    own = providers.rows().filter(tenant_id=tenant_id, is_tenant_default=True).first()
    return provider_config_body(own) if own else None


class TenantsView(AdminView):
    @documented.operation(
        "listTenants",
        "List tenants",
        query={**PAGES, "status": shapes.STATUS},
        answer=shapes.TENANTS,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, "status"))
        tenants = self.reach.rows(Tenant.objects.all(), "id")
        if "status" in query:
            tenants = tenants.filter(status=TENANT_RULES["status"]("status", query["status"]))
        return paging.page(tenants, query, tenant_body)

    @documented.operation(
        "createTenant",
        "Make a tenant",
        body=shapes.NEW_TENANT,
        answer=shapes.TENANT_ANSWER,
        status=201,
        refuses={409: "`conflict`: the slug is taken."},
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, TENANT_RULES)
        tenant = create_tenant(actor=actor_of(request), name=fields.pop("name", None), **fields)
        return Response(tenant_body(tenant), status=201)


class TenantView(AdminView):
    @documented.operation("getTenant", "Look at a tenant", answer=shapes.ONE_TENANT)
    def get(self, request: Request, tenant_id: UUID) -> Response:
        """`api_key_count` counts the keys that are not revoked."""
        query_of(request)
        tenant = self.reach.one(Tenant.objects.all(), "id", pk=tenant_id)
        live = APIKey.objects.filter(tenant=tenant, revoked_at__isnull=True)
        return Response(
            {
                **tenant_body(tenant),
                "api_key_count": live.count(),
                "provider_config": _config_summary(tenant.id),
            }
        )

    @documented.operation(
        "updateTenant",
        "Change a tenant",
        body=shapes.TENANT_CHANGES,
        answer=shapes.TENANT_ANSWER,
        refuses={409: "`conflict`: the slug is taken."},
    )
    def patch(self, request: Request, tenant_id: UUID) -> Response:
        fields = fields_of(request, TENANT_RULES, fixed=("id", "created_at"))
        tenant = update_tenant(actor=actor_of(request), tenant_id=tenant_id, **fields)
        return Response(tenant_body(tenant))

    @documented.operation(
        "deleteTenant",
        "End a tenant",
        query={"confirm": consent("That you mean it.")},
        answer=None,
    )
    def delete(self, request: Request, tenant_id: UUID) -> Response:
        if not flag(query_of(request, ("confirm",)), "confirm"):
            raise Invalid.field(
                "confirm", "must be true: this ends the tenant with its keys and its own provider."
            )
        delete_tenant(actor=actor_of(request), tenant_id=tenant_id)
        return Response(status=204)


class ProviderConfigView(AdminView):
    @documented.operation(
        "getProviderConfig", "Look at a tenant's own provider", answer=shapes.PROVIDER_CONFIG
    )
    def get(self, request: Request, tenant_id: UUID) -> Response:
        query_of(request)
        self.reach.require(tenant_id)
        summary = _config_summary(tenant_id)
        if summary is None:
            raise NotFound
        return Response(summary)

    @documented.operation(
        "setProviderConfig",
        "Set a tenant's own provider",
        body=provider_shapes.CONFIG,
        answer=shapes.PROVIDER_CONFIG,
        refuses={409: "`conflict`: the tenant has a provider of that name."},
    )
    def put(self, request: Request, tenant_id: UUID) -> Response:
        self.reach.require(tenant_id)
        fields = fields_of(request, _CONFIG_FIELDS)
        set_provider_config(actor=actor_of(request), tenant_id=tenant_id, **fields)
        return Response(_config_summary(tenant_id))

    @documented.operation("removeProviderConfig", "Remove a tenant's own provider", answer=None)
    def delete(self, request: Request, tenant_id: UUID) -> Response:
        query_of(request)
        self.reach.require(tenant_id)
        remove_provider_config(actor=actor_of(request), tenant_id=tenant_id)
        return Response(status=204)
