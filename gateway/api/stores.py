"""Stores: the shops of a tenant that tools will work on. Credentials go in and never out."""

from typing import Final
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import paging
from gateway.api.bodies.stores import store_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, listed, owner_of, query_of
from providers import store_services as services
from providers.models import Store

_FIXED: Final = ("id", "object", "tenant", "store_id", "has_api_key", "created_at")


class StoresView(AdminView):
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, "tenant"))
        return paging.page(listed(Store.objects.all(), query, self.reach), query, store_body)

    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("tenant", *services.CREATE_RULES))
        tenant = owner_of(fields, self.reach)
        store = services.register_store(actor=actor_of(request), tenant_id=tenant.id, **fields)
        return Response(store_body(store), status=201)


class StoreView(AdminView):
    def get(self, request: Request, store_id: UUID) -> Response:
        query_of(request)
        return Response(store_body(self.reach.one(Store.objects.all(), pk=store_id)))

    def patch(self, request: Request, store_id: UUID) -> Response:
        self.reach.guard(Store, store_id)
        fields = fields_of(request, services.RULES, fixed=_FIXED)
        store = services.update_store(actor=actor_of(request), store_id=store_id, **fields)
        return Response(store_body(store))

    def delete(self, request: Request, store_id: UUID) -> Response:
        query_of(request)
        self.reach.guard(Store, store_id)
        services.delete_store(actor=actor_of(request), store_id=store_id)
        return Response(status=204)
