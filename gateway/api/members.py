"""Members: a tenant's people and their places in it."""

from typing import Final
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.people import member_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, query_of
from gateway.api.shapes import members as shapes
from gateway.shapes.pages import PAGES
from tenants import member_services as services
from tenants.errors import Invalid
from tenants.models import Membership, Tenant
from tenants.people import given_or_made

_LAST: Final = {409: "`conflict`: it is the tenant's last owner."}
_FIXED: Final = (
    *("id", "object", "tenant", "user", "username", "email"),
    *("is_active", "last_login", "created_at"),
)


def _rows(tenant_id: UUID) -> "QuerySet[Membership]":
    return Membership.objects.select_related("user").filter(tenant_id=tenant_id)


class MembersView(AdminView):
    is_made_once = False

    @documented.operation(
        "listMembers", "List a tenant's people", query=PAGES, answer=shapes.MEMBERS
    )
    def get(self, request: Request, tenant_id: UUID) -> Response:
        query = query_of(request, paging.PARAMETERS)
        self.reach.one(Tenant.objects.all(), "id", pk=tenant_id)
        return paging.page(_rows(tenant_id), query, member_body)

    @documented.operation(
        "createMember",
        "Make a member",
        body=shapes.NEW_MEMBER,
        answer=shapes.MADE_MEMBER,
        status=201,
        refuses={409: "`conflict`: the name is taken, or has a place there."},
    )
    def post(self, request: Request, tenant_id: UUID) -> Response:
        """Somebody new; without a password one is made and shown this once. With `user`, which is for staff of the house,
        somebody who is there already: others are invited.
        """
        self.reach.require(tenant_id)
        fields = fields_of(request, (*services.NEW_RULES, "password", "user"))
        if "user" in fields:
            return self._added(request, tenant_id, fields)
        password, made = given_or_made(fields.pop("password", None))
        place = services.create_member(
            actor=actor_of(request),
            tenant_id=tenant_id,
            username=fields.pop("username", None),
            password=password,
            **fields,
        )
        return Response(member_body(place, made), status=201)

    def _added(self, request: Request, tenant_id: UUID, fields: dict[str, object]) -> Response:
        if self.reach.is_limited or not fields.keys() <= {"user", "role"}:
            raise Invalid.field("user", "goes with a role alone, and is for staff of the house.")
        place = services.add_member(actor=actor_of(request), tenant_id=tenant_id, **fields)
        return Response(member_body(place), status=201)


class MemberView(AdminView):
    @documented.operation("getMember", "Look at a member", answer=shapes.MEMBER)
    def get(self, request: Request, tenant_id: UUID, member_id: UUID) -> Response:
        query_of(request)
        return Response(member_body(self.reach.one(_rows(tenant_id), pk=member_id)))

    @documented.operation(
        "updateMember",
        "Give a member another role",
        body=shapes.MEMBER_CHANGES,
        answer=shapes.MEMBER,
        refuses=_LAST,
    )
    def patch(self, request: Request, tenant_id: UUID, member_id: UUID) -> Response:
        self.reach.require(tenant_id)
        fields = fields_of(request, ("role",), fixed=_FIXED)
        place = services.update_member(
            actor=actor_of(request), tenant_id=tenant_id, member_id=member_id, **fields
        )
        return Response(member_body(place))

    @documented.operation("removeMember", "Show a member out", answer=None, refuses=_LAST)
    def delete(self, request: Request, tenant_id: UUID, member_id: UUID) -> Response:
        """The place goes; the person stays, and so does what they did."""
        self.reach.require(tenant_id)
        query_of(request)
        services.remove_member(actor=actor_of(request), tenant_id=tenant_id, member_id=member_id)
        return Response(status=204)
