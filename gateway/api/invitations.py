"""Invitations into tenants. Who accepts one comes by `auth/accept-invitation`."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.people import invitation_body, invited_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, listed, owner_of, query_of
from gateway.api.shapes import members as shapes
from gateway.shapes.pages import PAGES
from tenants import invitation_services as services
from tenants.models import Invitation


class InvitationsView(AdminView):
    @documented.operation(
        "listInvitations",
        "List invitations",
        query={**PAGES, **documented.OF_TENANT},
        answer=shapes.INVITATIONS,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, "tenant"))
        return paging.page(
            listed(Invitation.objects.all(), query, self.reach), query, invitation_body
        )

    @documented.operation(
        "createInvitation",
        "Invite somebody",
        body=shapes.NEW_INVITATION,
        answer=shapes.INVITED,
        status=201,
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("tenant", *services.RULES))
        invited = services.invite(
            actor=actor_of(request), tenant_id=owner_of(fields, self.reach).id, **fields
        )
        return Response(invited_body(invited), status=201)


class InvitationView(AdminView):
    @documented.operation("getInvitation", "Look at an invitation", answer=shapes.INVITATION)
    def get(self, request: Request, invitation_id: UUID) -> Response:
        query_of(request)
        found = self.reach.one(Invitation.objects.all(), pk=invitation_id)
        return Response(invitation_body(found))

    @documented.operation(
        "revokeInvitation",
        "Revoke an invitation",
        answer=None,
        refuses={409: "`conflict`: it was revoked before."},
    )
    def delete(self, request: Request, invitation_id: UUID) -> Response:
        """Revokes; the row stays to be seen."""
        self.reach.guard(Invitation, invitation_id)
        query_of(request)
        services.revoke_invitation(actor=actor_of(request), invitation_id=invitation_id)
        return Response(status=204)
