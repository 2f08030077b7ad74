"""Service tokens: an operator's credential for programs, `gwa_…`.

One can do what its scopes say, of what the role of its maker allows at that moment: who loses the role or is disabled takes
their tokens along. A token makes no further tokens, so that revoking a leaked one is the end of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet

from keys import tokens
from keys.tokens import Kind
from tenants import keyring, validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import change
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound
from tenants.models import ServiceToken, User
from tenants.roles import AUDITORS, CHANGERS, READERS
from tenants.sealing import Secret
from tenants.validation import Rule

KIND = "service_token"
READ: Final = "read"
WRITE: Final = "write"
AUDIT: Final = "audit"
PEOPLE: Final = "people"
#: What a token may be for, and the roles that have it to give.
SCOPES: Final[Mapping[str, frozenset[str]]] = {
    READ: READERS,
    WRITE: CHANGERS,
    AUDIT: AUDITORS,
    PEOPLE: CHANGERS,
}
#: When a token was last used is written down so often at most.
_USE_STEP: Final = timedelta(minutes=1)
_PEPPER_USE: Final = "service-token-fingerprint"


def _scopes(field: str, value: object) -> list[str]:
    chosen = validation.some_of(SCOPES, nullable=False)(field, value)
    return [scope for scope in SCOPES if scope in chosen]


RULES: Final[dict[str, Rule]] = {
    "name": validation.name,
    "scopes": _scopes,
    "expires_at": validation.moment,
}


@dataclass(frozen=True, slots=True)
class Issued:
    """A service token with the one sight of its credential."""

    token: ServiceToken
    credential: Secret


def _pepper() -> tuple[int, Secret]:
    root = keyring.KEYRING.root(keyring.PEPPER)
    return root.version, root.key(_PEPPER_USE)


def target_of(token: ServiceToken) -> Target:
    return Target(KIND, str(token.id), token.name)


def live() -> Q:
    """Those that open something, if their maker does."""
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=SYSTEM.now())
    return unexpired & Q(revoked_at__isnull=True)


def scopes_of(token: ServiceToken) -> frozenset[str]:
    """What it was made for, of what the role of its maker allows now."""
    role = token.created_by.role
    return frozenset(scope for scope in token.scopes if role in SCOPES.get(scope, frozenset()))


def opened_by(text: str) -> ServiceToken | None:
    """The live token that a credential is, with its maker. Using it is noted, once a minute at most."""
    if not tokens.is_well_formed(text, Kind.SERVICE_TOKEN):
        return None
    now = SYSTEM.now()
    found = (
        ServiceToken.objects.select_related("created_by")
        .filter(
            live(),
            fingerprint=tokens.fingerprint(_pepper()[1], text),
            created_by__is_active=True,
        )
        .exclude(created_by__role=User.Role.NONE)
        .first()
    )
    if found is not None and (found.last_used_at is None or found.last_used_at <= now - _USE_STEP):
        ServiceToken.objects.filter(pk=found.pk).update(last_used_at=now)
    return found


def issue_token(*, actor: Actor, user: User, name: object, **fields: Any) -> Issued:
    """A new token of an operator's. Raises `Invalid`, also for a scope that their role does not have to give."""
    with change(actor, "service_token.issued", Target(KIND, "new", str(name)[:64])) as it:
        values = validation.checked({"name": name, "scopes": [READ], **fields}, RULES)
        maker = User.objects.select_for_update().get(pk=user.pk)
        _refuse_more_than(maker.role, values["scopes"])
        if values.get("expires_at") is not None and values["expires_at"] <= SYSTEM.now():
            raise Invalid.field("expires_at", "lies in the past.")
        version, pepper = _pepper()
        credential = tokens.generate(Kind.SERVICE_TOKEN)
        token = ServiceToken(
            created_by=maker,
            fingerprint=tokens.fingerprint(pepper, credential.reveal().decode()),
            pepper_version=version,
            prefix=tokens.shown_part(credential),
            **values,
        )
        token.save(force_insert=True)
        it.aim(target_of(token))
        it.detail(scopes=token.scopes, expires_at=token.expires_at)
    token.refresh_from_db(fields=["created_at"])
    return Issued(token, credential)


def _refuse_more_than(role: str, scopes: list[str]) -> None:
    beyond = [scope for scope in scopes if role not in SCOPES[scope]]
    if beyond:
        raise Invalid.field("scopes", f"your role has no {', '.join(beyond)} to give.")


def revoke_token(*, actor: Actor, token_id: UUID, among: "QuerySet[ServiceToken]") -> None:
    """End one of these for good. Raises `NotFound` where it is not among them, `Conflict` if it was ended before."""
    with change(actor, "service_token.revoked", Target(KIND, str(token_id))) as it:
        token = among.filter(pk=token_id).first()
        if token is None:
            raise NotFound
        it.aim(target_of(token))
        if token.revoked_at is not None:
            raise Conflict("This token was revoked before.")
        token.revoked_at = SYSTEM.now()
        token.save(update_fields=["revoked_at"])
