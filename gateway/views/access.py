"""Who reads and changes the state of a key: whoever holds it. The same chain and the same rules as for a call, asked of the
tables.
"""

from typing import Any, ClassVar

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from gateway import context
from gateway.relay import errors
from gateway.relay.errors import Refusal
from keys.chain import BadCredential, Identity, load_identity
from keys.models import APIKey
from keys.services import chain
from keys.warrants import Warrant
from tenants.actor import Actor


class TenantKeyAuthentication(BaseAuthentication):
    """`request.user` is the `Identity` of the key, `request.auth` the value that it was looked up by.

    Raises `CredentialError`: the same 401 as for a call.
    """

    def authenticate(self, request: Request) -> tuple[Identity, bytes]:
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in request.headers.items()
        ]
        value = chain().lookup_value(headers)
        identity = load_identity(value)
        if identity is None:
            raise BadCredential
        return identity, value


class _Holds(BasePermission):
    """The scope, from an address that the key may be used from. Raises `Refusal`: each no has a code of its own."""

    scope: ClassVar[str]

    def has_permission(self, request: Request, view: Any) -> bool:
        identity = identity_of(request)
        if self.scope not in identity.scopes:
            raise Refusal(errors.scope_missing(self.scope))
        if not identity.may_call_from(context.address_of(request.META)):
            raise Refusal(errors.BAD_ADDRESS)
        return True


class MayReadUsage(_Holds):
    scope = "usage"


class MayManageProjects(_Holds):
    scope = "projects"


class MayManageKeys(_Holds):
    scope = "keys"


def identity_of(request: Request) -> Identity:
    identity = request.user
    if not isinstance(identity, Identity):
        raise BadCredential
    return identity


def warrant_of(request: Request) -> Warrant:
    """What the caller's key may manage."""
    if not isinstance(request.auth, bytes):
        raise BadCredential
    return Warrant(identity_of(request), request.auth)


def actor_of(request: Request) -> Actor:
    """The caller's key, as services want to know it."""
    identity = identity_of(request)
    name = APIKey.objects.filter(pk=identity.key_id).values_list("name", flat=True).first()
    request_id = request.request_id  # type: ignore[attr-defined]
    return Actor(
        type="key",
        id=str(identity.key_id),
        label=name or identity.key_prefix,
        method="key",
        **context.circumstances(request.META, request_id, "api"),
    )
