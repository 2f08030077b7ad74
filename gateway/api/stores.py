"""Stores: the shops of a tenant that tools will work on. Credentials go in and never out."""

from typing import Final
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.stores import store_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, listed, owner_of, query_of
from gateway.api.shapes import stores as shapes
from gateway.shapes.pages import PAGES
from providers import store_services as services
from providers.models import Store

_TAKEN: Final = {409: "`conflict`: its tenant has one of that id or name."}
_FIXED: Final = ("id", "object", "tenant", "store_id", "has_api_key", "created_at")


class StoresView(AdminView):
    @documented.operation(
        "listStores",
        "List stores",
        query={**PAGES, **documented.OF_TENANT},
        answer=shapes.STORES,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, "tenant"))
        return paging.page(listed(Store.objects.all(), query, self.reach), query, store_body)

    @documented.operation(
        "createStore",
        "Register a store",
        body=shapes.NEW_STORE,
        answer=shapes.STORE,
        status=201,
        refuses=_TAKEN,
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("tenant", *services.CREATE_RULES))
        tenant = owner_of(fields, self.reach)
        store = services.register_store(actor=actor_of(request), tenant_id=tenant.id, **fields)
        return Response(store_body(store), status=201)


class StoreView(AdminView):
    @documented.operation("getStore", "Look at a store", answer=shapes.STORE)
    def get(self, request: Request, store_id: UUID) -> Response:
        query_of(request)
        return Response(store_body(self.reach.one(Store.objects.all(), pk=store_id)))

    @documented.operation(
        "updateStore",
        "Change a store",
        body=shapes.STORE_CHANGES,
        answer=shapes.STORE,
        refuses=_TAKEN,
    )
    def patch(self, request: Request, store_id: UUID) -> Response:
        self.reach.guard(Store, store_id)
        fields = fields_of(request, services.RULES, fixed=_FIXED)
        store = services.update_store(actor=actor_of(request), store_id=store_id, **fields)
        return Response(store_body(store))

    @documented.operation("deleteStore", "Remove a store", answer=None)
    def delete(self, request: Request, store_id: UUID) -> Response:
        query_of(request)
        self.reach.guard(Store, store_id)
        services.delete_store(actor=actor_of(request), store_id=store_id)
        return Response(status=204)
