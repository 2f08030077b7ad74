"""Who is calling the admin API. No cookie, no tenant's key, nothing in a URL."""

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from gateway.api.principals import Principal, principal_of
from tenants.models import Session


class OperatorAuthentication(BaseAuthentication):
    """`request.user` is a `Principal`, `request.auth` the session if there is one. Every bad credential gets the same 401."""

    def authenticate(self, request: Request) -> tuple[Principal, Session | None] | None:
        principal = principal_of(request.META)
        return (principal, principal.session) if principal else None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
