"""Open sessions: one's own, and for owners of the house everybody's."""

from uuid import UUID

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.people import session_body
from gateway.api.door import AdminView, actor_of, principal_in
from gateway.api.requests import query_of
from gateway.api.shapes import staff as shapes
from gateway.openapi.schemas import TEXT, told
from gateway.shapes.pages import PAGES
from tenants import people, session_services
from tenants.models import Session


def _theirs(request: Request) -> "QuerySet[Session]":
    who = principal_in(request)
    if who.oversees_people:
        return session_services.open_sessions()
    return session_services.open_sessions().filter(user=who.user)


class SessionsView(AdminView):
    @documented.operation(
        "listSessions",
        "List open sessions",
        query={**PAGES, "operator": told(TEXT, "The id or the name of a person.")},
        answer=shapes.SESSIONS,
    )
    def get(self, request: Request) -> Response:
        """`operator`: a person's id or name. Of somebody else there is nothing to see but for owners."""
        query = query_of(request, (*paging.PARAMETERS, "operator"))
        found = _theirs(request)
        if "operator" in query:
            found = found.filter(people.named("user", query["operator"]))
        current = principal_in(request).session
        return paging.page(found, query, lambda row: session_body(row, current))


class SessionView(AdminView):
    @documented.operation("endSession", "End a session", answer=None)
    def delete(self, request: Request, session_id: UUID) -> Response:
        query_of(request)
        session_services.end_session(
            actor=actor_of(request), session_id=session_id, among=_theirs(request)
        )
        return Response(status=204)
