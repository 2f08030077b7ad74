"""Signing in and out, and one's own password."""

from typing import Any, ClassVar, Final

from rest_framework.request import Request
from rest_framework.response import Response

from gateway import lateness
from gateway.api import documented
from gateway.api.bodies.people import member_body, oneself_body, signed_in_body
from gateway.api.door import AdminView, actor_of, session_in, visitor
from gateway.api.requests import fields_of, query_of
from gateway.api.shapes import members as member_shapes
from gateway.api.shapes import people as shapes
from gateway.api.shapes.base import NOTHING_ASKED
from tenants import invitation_services, operator_services, sign_in
from tenants.errors import Invalid
from tenants.sign_in import BadCredentials

_TOO_MANY: Final = "`rate_limit_exceeded`: too many came from your address."


def _texts(fields: dict[str, Any], *names: str) -> list[str]:
    """These members, all of them texts that are not empty."""
    faults = {
        name: f"must be a text of 1 to {shapes.MAX_CHARACTERS} characters."
        for name in names
        if not isinstance(fields.get(name), str)
        or not 0 < len(fields[name]) <= shapes.MAX_CHARACTERS
    }
    if faults:
        first = next(iter(faults))
        raise Invalid(f"{first}: {faults[first]}", fields=faults)
    return [fields[name] for name in names]


class LoginView(AdminView):
    authentication_classes = ()
    max_body: ClassVar[int] = 8 * 1024

    @documented.operation(
        "signIn",
        "Sign in",
        body=shapes.SIGN_IN,
        answer=shapes.SIGNED_IN,
        refuses={
            401: "`invalid_credentials`: the name or the password is wrong.",
            429: _TOO_MANY,
        },
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("username", "password"))
        username, password = _texts(fields, "username", "password")
        try:
            signed_in = sign_in.sign_in(
                actor=visitor(request), username=username, password=password
            )
        except BadCredentials as refusal:
            lateness.hold_back(request, refusal.wait)
            raise
        lateness.hold_back(request, signed_in.wait)
        return Response(signed_in_body(signed_in))


class AcceptInvitationView(AdminView):
    authentication_classes = ()
    max_body: ClassVar[int] = 8 * 1024

    @documented.operation(
        "acceptInvitation",
        "Accept an invitation",
        body=shapes.ACCEPTANCE,
        answer=member_shapes.MEMBER,
        status=201,
        refuses={
            401: "`invalid_credentials`: the name is somebody's, and this is not their password.",
            404: "`not_found`: the token opens nothing, or not any more.",
            409: "`conflict`: you have a place in that tenant.",
            429: _TOO_MANY,
        },
    )
    def post(self, request: Request) -> Response:
        """Makes an account with a place in the tenant, or gives the place to whoever has that name and its password."""
        fields = fields_of(request, ("token", "username", "password"))
        secret, username, password = _texts(fields, "token", "username", "password")
        try:
            accepted = invitation_services.accept(
                actor=visitor(request), secret=secret, username=username, password=password
            )
        except BadCredentials as refusal:
            lateness.hold_back(request, refusal.wait)
            raise
        lateness.hold_back(request, accepted.wait)
        return Response(member_body(accepted.place), status=201)


class LogoutView(AdminView):
    is_made_once = False

    @documented.operation("signOut", "Sign out", body=NOTHING_ASKED, answer=None)
    def post(self, request: Request) -> Response:
        fields_of(request, ())
        sign_in.sign_out(actor=actor_of(request), session=session_in(request))
        return Response(status=204)


class MeView(AdminView):
    @documented.operation("getMe", "Look at yourself", answer=shapes.ME)
    def get(self, request: Request) -> Response:
        query_of(request)
        return Response(oneself_body(session_in(request)))


class ChangePasswordView(AdminView):
    is_made_once = False
    max_body: ClassVar[int] = 8 * 1024

    @documented.operation(
        "changePassword",
        "Change your password",
        body=shapes.PASSWORD_CHANGE,
        answer=None,
        refuses={
            401: "`missing_credentials`, `invalid_credentials`: also where the current password is wrong.",
            429: _TOO_MANY,
        },
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("current_password", "new_password"))
        current, new = _texts(fields, "current_password", "new_password")
        session = session_in(request)
        try:
            sign_in.change_password(
                actor=actor_of(request), user=session.user, current=current, new=new, keep=session
            )
        except BadCredentials as refusal:
            lateness.hold_back(request, refusal.wait)
            raise
        return Response(status=204)


class SignOutEverywhereView(AdminView):
    @documented.operation(
        "signOutEverywhere", "Sign out everywhere", body=NOTHING_ASKED, answer=shapes.ENDED
    )
    def post(self, request: Request) -> Response:
        """Ends every session of one's own, this one too."""
        fields_of(request, ())
        ended = operator_services.sign_out_everywhere(
            actor=actor_of(request), user_id=session_in(request).user_id
        )
        return Response({"ended_sessions": ended})
