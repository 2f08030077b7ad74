"""Who reads the state of a key: whoever holds it. The same chain and the same rules as for a call, asked of the tables."""

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from gateway import context
from gateway.relay import errors
from gateway.relay.errors import Refusal
from keys.chain import BadCredential, Identity, load_identity
from keys.services import chain


class TenantKeyAuthentication(BaseAuthentication):
    """`request.user` is the `Identity` of the key. Raises `CredentialError`: the same 401 as for a call."""

    def authenticate(self, request: Request) -> tuple[Identity, None]:
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in request.headers.items()
        ]
        identity = load_identity(chain().lookup_value(headers))
        if identity is None:
            raise BadCredential
        return identity, None


class MayReadUsage(BasePermission):
    """Scope `usage`, from an address that the key may be used from. Raises `Refusal`: each no has a code of its own."""

    def has_permission(self, request: Request, view: Any) -> bool:
        identity = identity_of(request)
        if "usage" not in identity.scopes:
            raise Refusal(errors.scope_missing("usage"))
        if not identity.may_call_from(context.address_of(request.META)):
            raise Refusal(errors.BAD_ADDRESS)
        return True


def identity_of(request: Request) -> Identity:
    identity = request.user
    if not isinstance(identity, Identity):
        raise BadCredential
    return identity
