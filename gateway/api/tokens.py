"""Service tokens: operators' credentials for programs. Everybody sees their own, owners of the house all."""

from uuid import UUID

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.people import issued_token_body, token_body
from gateway.api.door import AdminView, actor_of, principal_in, session_in
from gateway.api.requests import fields_of, flag, query_of
from gateway.api.shapes import staff as shapes
from gateway.openapi.operations import switch
from gateway.shapes.pages import PAGES
from tenants import service_tokens as services
from tenants.errors import NotFound
from tenants.models import ServiceToken


def _theirs(request: Request) -> "QuerySet[ServiceToken]":
    who = principal_in(request)
    rows = ServiceToken.objects.select_related("created_by")
    return rows if who.oversees_people else rows.filter(created_by=who.user)


class TokensView(AdminView):
    @documented.operation(
        "listServiceTokens",
        "List service tokens",
        query={
            **PAGES,
            "active_only": switch("Only those that open something."),
        },
        answer=shapes.TOKENS,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, "active_only"))
        found = _theirs(request)
        if flag(query, "active_only"):
            found = found.filter(services.live())
        return paging.page(found, query, token_body)

    @documented.operation(
        "createServiceToken",
        "Make a service token",
        body=shapes.NEW_TOKEN,
        answer=shapes.ISSUED_TOKEN,
        status=201,
    )
    def post(self, request: Request) -> Response:
        """A token makes no further tokens."""
        fields = fields_of(request, services.RULES)
        issued = services.issue_token(
            actor=actor_of(request),
            user=session_in(request).user,
            name=fields.pop("name", None),
            **fields,
        )
        return Response(issued_token_body(issued), status=201)


class TokenView(AdminView):
    @documented.operation("getServiceToken", "Look at a service token", answer=shapes.TOKEN)
    def get(self, request: Request, token_id: UUID) -> Response:
        query_of(request)
        token = _theirs(request).filter(pk=token_id).first()
        if token is None:
            raise NotFound
        return Response(token_body(token))

    @documented.operation(
        "revokeServiceToken",
        "Revoke a service token",
        answer=None,
        refuses={409: "`conflict`: it was revoked before."},
    )
    def delete(self, request: Request, token_id: UUID) -> Response:
        """Revokes; the row stays to be seen."""
        query_of(request)
        services.revoke_token(actor=actor_of(request), token_id=token_id, among=_theirs(request))
        return Response(status=204)
