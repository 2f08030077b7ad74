"""Operators: the staff of the house. For its owners."""

from typing import Final
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.people import operator_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, flag, query_of
from gateway.api.shapes import people as people_shapes
from gateway.api.shapes import staff as shapes
from gateway.api.shapes.base import NOTHING_ASKED
from gateway.openapi.operations import switch
from gateway.shapes.pages import PAGES
from tenants import operator_services as services
from tenants.errors import NotFound
from tenants.models import User
from tenants.people import given_or_made

_TAKEN: Final = {409: "`conflict`: the name is taken."}
_FIXED: Final = ("id", "object", "must_change_password", "last_login", "created_at")


def _rows() -> "QuerySet[User]":
    """Staff, locked out or not."""
    return User.objects.exclude(role=User.Role.NONE)


class OperatorsView(AdminView):
    is_made_once = False

    @documented.operation(
        "listOperators",
        "List operators",
        query={
            **PAGES,
            "role": shapes.ROLE,
            "active_only": switch("Only those who are not locked out."),
        },
        answer=shapes.OPERATORS,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, "role", "active_only"))
        found = _rows()
        if "role" in query:
            found = found.filter(role=services.RULES["role"]("role", query["role"]))
        if flag(query, "active_only"):
            found = found.filter(is_active=True)
        return paging.page(found, query, operator_body)

    @documented.operation(
        "createOperator",
        "Make an operator",
        body=shapes.NEW_OPERATOR,
        answer=shapes.MADE_OPERATOR,
        status=201,
        refuses=_TAKEN,
    )
    def post(self, request: Request) -> Response:
        """Without a password one is made, shown this once, and due to be changed."""
        fields = fields_of(request, (*services.RULES, "password"))
        password, made = given_or_made(fields.pop("password", None))
        user = services.create_operator(
            actor=actor_of(request),
            username=fields.pop("username", None),
            password=password,
            must_change_password=made is not None,
            **fields,
        )
        return Response(operator_body(user, made), status=201)


class OperatorView(AdminView):
    @documented.operation("getOperator", "Look at an operator", answer=shapes.OPERATOR)
    def get(self, request: Request, operator_id: UUID) -> Response:
        query_of(request)
        user = _rows().filter(pk=operator_id).first()
        if user is None:
            raise NotFound
        return Response(operator_body(user))

    @documented.operation(
        "updateOperator",
        "Change an operator",
        body=shapes.OPERATOR_CHANGES,
        answer=shapes.OPERATOR,
        refuses={409: "`conflict`: the name is taken, or it is the last active owner."},
    )
    def patch(self, request: Request, operator_id: UUID) -> Response:
        """A password that is set here must be changed at the next sign-in."""
        fields = fields_of(request, services.EDIT_RULES, fixed=_FIXED)
        user = services.update_operator(actor=actor_of(request), operator_id=operator_id, **fields)
        return Response(operator_body(user))

    @documented.operation(
        "deleteOperator",
        "Show an operator out for good",
        answer=None,
        refuses={409: "`conflict`: it is the last active owner."},
    )
    def delete(self, request: Request, operator_id: UUID) -> Response:
        """For good: the role, sessions and service tokens go, and the name stays taken."""
        query_of(request)
        services.remove_operator(actor=actor_of(request), operator_id=operator_id)
        return Response(status=204)


class SignOutOperatorView(AdminView):
    @documented.operation(
        "signOutOperator",
        "End every session of an operator",
        body=NOTHING_ASKED,
        answer=people_shapes.ENDED,
    )
    def post(self, request: Request, operator_id: UUID) -> Response:
        fields_of(request, ())
        ended = services.sign_out_everywhere(actor=actor_of(request), user_id=operator_id)
        return Response({"ended_sessions": ended})
