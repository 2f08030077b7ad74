"""Who is calling the admin API: a person with a session, a service token, or whoever has the shared admin key.

A request carries one credential. Two of them are none, even if both are good: nobody could say whose request it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final
from uuid import UUID

from django.conf import settings

from tenants import service_tokens
from tenants.models import Session, User
from tenants.people import kind_of, memberships_of
from tenants.sealing import Secret
from tenants.service_tokens import PEOPLE
from tenants.sign_in import BadCredentials, session_of

#: Ours have about 400 characters; whoever sends more wants to see a decoder work.
_MAX_TOKEN: Final = 1024
_TOKEN_PREFIX: Final = "gwa_"  # noqa: S105 - a prefix
_AUTHORIZATION: Final = "HTTP_AUTHORIZATION"
_ADMIN_KEY: Final = "HTTP_X_ADMIN_KEY"


@dataclass(frozen=True)
class Principal:
    """`request.user` of the admin API.

    `role` is that of the house's staff, empty for others. `scopes` narrow a service token; null for everybody else. `user` and
    `session` are there for who signed in with a password. `type`, `id`, `label` and `method` are how the audit log names them.
    """

    type: str
    id: str
    label: str
    method: str
    role: str
    scopes: frozenset[str] | None = None
    user: User | None = None
    session: Session | None = None

    #: What Django and its framework ask of a `request.user`.
    is_authenticated: ClassVar[bool] = True

    @cached_property
    def memberships(self) -> Mapping[UUID, str]:
        """The roles of a person in active tenants, by the tenant's id: looked up where the house's role does not suffice."""
        return memberships_of(self.user) if self.user else {}

    @property
    def must_change_password(self) -> bool:
        return self.user is not None and self.user.must_change_password

    @property
    def oversees_people(self) -> bool:
        """Owners of the house, and what acts with their whole right over people."""
        return self.role == User.Role.OWNER and self.has_scope(PEOPLE)

    def has_scope(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes


def principal_of(meta: Mapping[str, Any]) -> Principal | None:
    """Whoever a request's headers show; null without a credential. Raises `BadCredentials`, always in the same words."""
    authorization, admin_key = meta.get(_AUTHORIZATION, ""), meta.get(_ADMIN_KEY, "")
    if not authorization and not admin_key:
        return None
    if authorization and admin_key:
        raise _refusal()
    return _of_admin_key(admin_key) if admin_key else _of_bearer(authorization)


def _refusal() -> BadCredentials:
    return BadCredentials("The token is not valid.")


def _of_admin_key(offered: str) -> Principal:
    known: Secret | None = settings.ADMIN_TOKEN
    # Secrets are compared in constant time.
    if known is None or len(offered) > _MAX_TOKEN or Secret(offered.encode()) != known:
        raise _refusal()
    name = "admin-key"
    return Principal(name, name, name, name, role=User.Role.OWNER.value)


def _of_bearer(authorization: str) -> Principal:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(token) <= _MAX_TOKEN:
        raise _refusal()
    return _of_token(token) if token.startswith(_TOKEN_PREFIX) else _of_session(session_of(token))


def _of_token(text: str) -> Principal:
    token = service_tokens.opened_by(text)
    if token is None:
        raise _refusal()
    return Principal(
        "service-token",
        str(token.id),
        token.name,
        "service-token",
        role=token.created_by.role,
        scopes=service_tokens.scopes_of(token),
    )


def _of_session(session: Session) -> Principal:
    user = session.user
    who = Principal(
        kind_of(user),
        str(user.id),
        user.username,
        "session",
        role=user.role,
        user=user,
        session=session,
    )
    if not who.role and not who.memberships:
        raise _refusal()
    return who
