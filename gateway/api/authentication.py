"""Who is calling the admin API: an operator, by the token of a sign-in. No cookie, no tenant's key, nothing in a URL."""

from typing import Final

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from tenants.models import Session, User
from tenants.sign_in import BadCredentials, session_of

#: Ours have about 400 characters; whoever sends more wants to see a decoder work.
_MAX_TOKEN: Final = 1024


class OperatorAuthentication(BaseAuthentication):
    """`request.user` is the operator, `request.auth` the session. Every bad credential gets the same 401."""

    def authenticate(self, request: Request) -> tuple[User, Session] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header:
            return None
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token) <= _MAX_TOKEN:
            raise BadCredentials("The token is not valid.")
        session = session_of(token)
        if not session.user.role:
            raise BadCredentials("The token is not valid.")
        return session.user, session

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
