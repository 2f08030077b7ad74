"""Signing in and out, and one's own password."""

from typing import Any, ClassVar, Final

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api.bodies.tenants import operator_body, signed_in_body
from gateway.api.door import AdminView, actor_of, session_in, visitor
from gateway.api.requests import fields_of, query_of
from tenants import sign_in
from tenants.errors import Invalid

_MAX_CHARACTERS: Final = 1024


def _texts(fields: dict[str, Any], *names: str) -> list[str]:
    """These members, all of them texts that are not empty."""
    faults = {
        name: f"must be a text of 1 to {_MAX_CHARACTERS} characters."
        for name in names
        if not isinstance(fields.get(name), str) or not 0 < len(fields[name]) <= _MAX_CHARACTERS
    }
    if faults:
        first = next(iter(faults))
        raise Invalid(f"{first}: {faults[first]}", fields=faults)
    return [fields[name] for name in names]


class LoginView(AdminView):
    authentication_classes = ()
    max_body: ClassVar[int] = 8 * 1024

    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("username", "password"))
        username, password = _texts(fields, "username", "password")
        signed_in = sign_in.sign_in(actor=visitor(request), username=username, password=password)
        return Response(signed_in_body(signed_in))


class LogoutView(AdminView):
    def post(self, request: Request) -> Response:
        fields_of(request, ())
        sign_in.sign_out(actor=actor_of(request), session=session_in(request))
        return Response(status=204)


class MeView(AdminView):
    def get(self, request: Request) -> Response:
        query_of(request)
        return Response(operator_body(session_in(request)))


class ChangePasswordView(AdminView):
    max_body: ClassVar[int] = 8 * 1024

    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("current_password", "new_password"))
        current, new = _texts(fields, "current_password", "new_password")
        session = session_in(request)
        sign_in.change_password(
            actor=actor_of(request), user=session.user, current=current, new=new, keep=session
        )
        return Response(status=204)
