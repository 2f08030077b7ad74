"""Invitations into a tenant: a secret that so many people may use until some day.

Of the secret only a plain hash is kept: it has 256 random bits, so there is nothing to guess. Whoever has it makes an account,
or shows with their password that they have one. Used up, over, revoked and never made are refused alike.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tenants import people, tries, validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import change
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound
from tenants.member_services import give_place, role_rule
from tenants.models import Invitation, Membership, User
from tenants.sealing import Secret
from tenants.services import locked_tenant
from tenants.sign_in import BadCredentials, lend_connection
from tenants.validation import Rule

KIND = "invitation"
_SECRET_BYTES: Final = 32
_LONGEST_SECRET: Final = 64
#: How long one stands unless it says otherwise, and at most.
LIFE: Final = timedelta(days=7)
LONGEST_LIFE: Final = timedelta(days=90)
MOST_USES: Final = 1_000


def _uses(field: str, value: object) -> int:
    uses = validation.limit(field, value, MOST_USES)
    if uses is None:
        raise Invalid.field(field, f"must be a number from 1 to {MOST_USES}.")
    return uses


def _end(field: str, value: object) -> datetime:
    now = SYSTEM.now()
    end = validation.moment(field, value) or now + LIFE
    if not now < end <= now + LONGEST_LIFE:
        raise Invalid.field(field, f"must lie within the next {LONGEST_LIFE.days} days.")
    return end


RULES: Final[dict[str, Rule]] = {
    "role": role_rule,
    "email": validation.email,
    "max_uses": _uses,
    "expires_at": _end,
}
_UNLESS_SAID: Final[Mapping[str, object]] = {
    "role": Membership.Role.MEMBER.value,
    "max_uses": 1,
    "expires_at": None,
}


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation with the one sight of its secret."""

    invitation: Invitation
    secret: Secret


def _hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def status_of(invitation: Invitation, now: datetime) -> str:
    """`revoked`, `exhausted`, `expired` or `active`, the first that is true."""
    if invitation.revoked_at is not None:
        return "revoked"
    if invitation.uses >= invitation.max_uses:
        return "exhausted"
    return "active" if invitation.expires_at > now else "expired"


def _target(invitation: Invitation) -> Target:
    return Target(KIND, str(invitation.id), invitation.email)


def invite(*, actor: Actor, tenant_id: UUID, **fields: Any) -> Invited:
    """A new invitation. The secret in the answer is the only copy there will ever be."""
    with change(actor, "invitation.made", Target(KIND, "new"), tenant_id) as it:
        tenant = locked_tenant(tenant_id)
        values = validation.checked({**_UNLESS_SAID, **fields}, RULES)
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        invitation = Invitation(
            tenant=tenant,
            secret_hash=_hash_of(secret),
            created_by_type=actor.type,
            created_by_id=actor.id,
            created_by_label=actor.label,
            **values,
        )
        invitation.save(force_insert=True)
        it.aim(_target(invitation))
        it.detail(**values)
    invitation.refresh_from_db(fields=["created_at"])
    return Invited(invitation, Secret(secret.encode()))


def revoke_invitation(*, actor: Actor, invitation_id: UUID) -> None:
    """Nobody comes in by it any more; who did stays. Raises `Conflict` if it was revoked before."""
    with change(actor, "invitation.revoked", Target(KIND, str(invitation_id))) as it:
        rows = Invitation.objects.select_for_update()
        invitation = rows.filter(pk=invitation_id).first()
        if invitation is None:
            raise NotFound
        it.aim(_target(invitation), invitation.tenant_id)
        if invitation.revoked_at is not None:
            raise Conflict("This invitation was revoked before.")
        invitation.revoked_at = SYSTEM.now()
        invitation.save(update_fields=["revoked_at"])


@dataclass(frozen=True, slots=True)
class Accepted:
    """A place in a tenant. `wait`: seconds by which the answer is to be late."""

    place: Membership
    wait: float


def accept(*, actor: Actor, secret: str, username: str, password: str) -> Accepted:
    """A place in the tenant, for somebody new or for whoever has that name and its password.

    Raises `NotFound` for a secret that opens nothing, `BadCredentials` for a name that is taken with another password,
    `Invalid`, `Conflict` for who has a place there, `TooManyTries`.
    """
    attempt = tries.begin(actor, tries.API, username)
    if _live(secret) is None:
        attempt.failed()
        raise NotFound
    known = people.by_name(username)
    lend_connection()
    hashed = people.hashed(password) if known is None else ""
    is_good = known is None or (known.check_password(password) and known.is_active)
    if not is_good:
        attempt.failed()
    with change(actor, "invitation.accepted", Target(KIND, "unknown")) as it:
        invitation = _live(secret)
        if invitation is None:
            raise NotFound
        it.aim(_target(invitation), invitation.tenant_id)
        if not is_good:
            raise BadCredentials(wait=attempt.wait)
        if known is None:
            values = {"username": username, "email": invitation.email}
            user = people.create(
                validation.checked(values, people.RULES), password, hashed, due=False
            )
        else:
            user = _unchanged(known)
        place = give_place(invitation.tenant, user, invitation.role)
        invitation.uses += 1
        invitation.save(update_fields=["uses"])
        it.entry.actor = actor.named(
            type=people.kind_of(user), id=str(user.id), label=user.username
        )
        it.detail(role=place.role, member=str(place.id), is_new=known is None)
    attempt.succeeded()
    return Accepted(place, attempt.wait)


def _live(secret: str) -> Invitation | None:
    """One whose tenant is served, by its secret. Inside a change nobody else uses it meanwhile: changes queue."""
    if len(secret) > _LONGEST_SECRET or not secret.isascii():
        return None
    rows = Invitation.objects.select_related("tenant").filter(tenant__status="active")
    found = rows.filter(secret_hash=_hash_of(secret)).first()
    return found if found and status_of(found, SYSTEM.now()) == "active" else None


def _unchanged(known: User) -> User:
    """Whose password was checked must still have it."""
    user = User.objects.select_for_update().get(pk=known.pk)
    if user.password != known.password or not user.is_active:
        raise BadCredentials
    return user
