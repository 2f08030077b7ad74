"""Signing in and out, one's own password, and what a session is carried by: a token, or the console's cookie."""

import enum
import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import jwt
from django.contrib.auth.hashers import check_password, make_password
from django.db import close_old_connections, connection

from tenants import keyring, tries
from tenants.actor import Actor
from tenants.audit import Entry, Target
from tenants.changes import change, note
from tenants.clock import SYSTEM
from tenants.errors import Invalid, ServiceError
from tenants.models import AuditEvent, Session, User
from tenants.people import (
    OPERATOR,
    by_name,
    check_new,
    hashed,
    kind_of,
    memberships_of,
    set_password,
    target_of,
)

#: From signing in to the end, whatever happens in between.
TOKEN_LIFE: Final = timedelta(hours=8)
#: A console session that nobody uses for so long is over.
IDLE_LIFE: Final = timedelta(hours=1)
#: How far its end may lag behind its use: not every page has to write.
_IDLE_STEP: Final = timedelta(minutes=5)
_COOKIE_BYTES: Final = 32
_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "gatehouse-admin"
_TYPE: Final = "gatehouse-session"


class BadCredentials(ServiceError):
    """Wrong name or password, or a session that is no more: never says which. `wait`: seconds to be late with saying so."""

    code = "invalid_credentials"

    def __init__(
        self, message: str = "The user name or the password is wrong.", *, wait: float = 0.0
    ) -> None:
        super().__init__(message)
        self.wait = wait


class Carrier(enum.Enum):
    """What a session is carried by: a signed token in a header, or an opaque value in a cookie."""

    TOKEN = enum.auto()
    COOKIE = enum.auto()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`token` is what to carry: the only sight of it there is. `wait`: seconds by which the answer is to be late."""

    token: str
    session: Session
    user: User
    wait: float = 0.0


def _may_come_in(user: User, carrier: Carrier) -> bool:
    """The house's staff by every door; a tenant's people by the admin API, while their tenant is served."""
    if not user.is_active:
        return False
    return bool(user.role) or (carrier is Carrier.TOKEN and bool(memberships_of(user)))


def lend_connection() -> None:
    """Hashing takes its time; our connection is somebody else's meanwhile."""
    if not connection.in_atomic_block:
        close_old_connections()


def sign_in(
    *, actor: Actor, username: str, password: str, carrier: Carrier = Carrier.TOKEN
) -> SignedIn:
    """A new session for good credentials, else `BadCredentials`; both are audited. Takes as long for unknown names.

    Raises `TooManyTries` before it looks at anything.
    """
    door = tries.API if carrier is Carrier.TOKEN else tries.CONSOLE
    attempt = tries.begin(actor, door, username)
    user = by_name(username)
    lend_connection()
    if user is None:
        make_password(password)  # One hash, as checking takes: the time tells nothing either.
        good = False
    else:
        good = user.check_password(password) and _may_come_in(user, carrier)
    if user is None or not good:
        attempt.failed()
        _note_refusal(actor, user)
        raise BadCredentials(wait=attempt.wait)
    attempt.succeeded()
    named = actor.named(type=kind_of(user), id=str(user.id), label=user.username)
    return _open_session(named, user, carrier, attempt.wait)


def _note_refusal(actor: Actor, user: User | None) -> None:
    target = target_of(user) if user else Target(OPERATOR, "unknown")
    note(
        Entry(
            actor,
            "operator.sign_in",
            target,
            outcome=AuditEvent.Outcome.REFUSED,
            error_code=BadCredentials.code,
        )
    )


def _open_session(actor: Actor, user: User, carrier: Carrier, wait: float) -> SignedIn:
    with change(actor, "operator.sign_in", target_of(user)):
        now = SYSTEM.now()
        session = Session(
            id=uuid4(),
            user=user,
            expires_at=now + TOKEN_LIFE,
            address=actor.address[:64],
            user_agent=actor.user_agent[:256],
        )
        if carrier is Carrier.COOKIE:
            token = secrets.token_urlsafe(_COOKIE_BYTES)
            session.cookie_hash, session.idle_ends_at = _hash_of(token), now + IDLE_LIFE
        else:
            token = _token(session, now)
        session.save(force_insert=True)
        User.objects.filter(pk=user.pk).update(last_login=now)
    return SignedIn(token, session, user, wait)


def _hash_of(cookie: str) -> bytes:
    """A plain hash: the value has 256 random bits, there is nothing to guess."""
    return hashlib.sha256(cookie.encode()).digest()


def cookie_session(cookie: str) -> Session | None:
    """The live console session that a cookie stands for, with its user; using it puts its end off."""
    if not cookie.isascii():
        return None
    now = SYSTEM.now()
    session = (
        Session.objects.select_related("user")
        .filter(
            cookie_hash=_hash_of(cookie),
            ended_at__isnull=True,
            expires_at__gt=now,
            idle_ends_at__gt=now,
            user__is_active=True,
        )
        .exclude(user__role=User.Role.NONE)
        .first()
    )
    if session is not None and session.idle_ends_at and session.idle_ends_at < _latest_slide(now):
        session.idle_ends_at = now + IDLE_LIFE
        Session.objects.filter(pk=session.pk).update(idle_ends_at=session.idle_ends_at)
    return session


def _latest_slide(now: datetime) -> datetime:
    return now + IDLE_LIFE - _IDLE_STEP


def renew_cookie(session: Session) -> str:
    """A new value for the cookie of the same session; the old one opens nothing any more."""
    cookie = secrets.token_urlsafe(_COOKIE_BYTES)
    session.cookie_hash = _hash_of(cookie)
    session.save(update_fields=["cookie_hash"])
    return cookie


def _key() -> bytes:
    return keyring.platform_key(keyring.SIGN_IN, "operator-token").reveal()


def _token(session: Session, now: datetime) -> str:
    claims = {
        "iss": "gatehouse",
        "aud": _AUDIENCE,
        "typ": _TYPE,
        "sub": str(session.user_id),
        "jti": str(session.id),
        "iat": now,
        "exp": session.expires_at,
    }
    return jwt.encode(claims, _key(), algorithm=_ALGORITHM)


def session_of(token: str) -> Session:
    """The live session that a token stands for. Raises `BadCredentials` for everything else, without saying why."""
    refusal = BadCredentials("The token is not valid.")
    try:
        header = jwt.get_unverified_header(token)
        if {"jku", "jwk", "x5u", "x5c", "crit", "kid"} & header.keys():
            raise refusal
        claims: dict[str, Any] = jwt.decode(
            token,
            _key(),
            algorithms=[_ALGORITHM],
            audience=_AUDIENCE,
            issuer="gatehouse",
            options={"require": ["exp", "iat", "jti", "sub", "aud", "iss"]},
        )
        identity = UUID(str(claims["jti"]))
    except (jwt.InvalidTokenError, ValueError):
        raise refusal from None
    session = (
        Session.objects.select_related("user")
        .filter(
            pk=identity,
            ended_at__isnull=True,
            expires_at__gt=datetime.now(UTC),
            user__is_active=True,
        )
        .first()
    )
    if session is None or claims.get("typ") != _TYPE or str(session.user_id) != claims["sub"]:
        raise refusal
    return session


def sign_out(*, actor: Actor, session: Session) -> None:
    with change(actor, "operator.sign_out", target_of(session.user)):
        Session.objects.filter(pk=session.pk, ended_at__isnull=True).update(ended_at=SYSTEM.now())


def change_password(
    *,
    actor: Actor,
    user: User,
    current: str,
    new: object,
    keep: Session | None,
    door: str = tries.API,
) -> None:
    """Needs the old password, which whoever found an open session may not guess at: a try here is one to sign in. Ends every
    other session. Raises `BadCredentials`, `Invalid`, `TooManyTries`.
    """
    attempt = tries.begin(actor, door, user.username)
    before = User.objects.get(pk=user.pk).password
    lend_connection()
    is_known = check_password(current, before)
    hash_of_new = hashed(new) if is_known else ""
    (attempt.succeeded if is_known else attempt.failed)()
    with change(actor, "operator.password_changed", target_of(user)) as it:
        locked = User.objects.select_for_update().get(pk=user.pk)
        # What was checked must still be the password.
        if not is_known or locked.password != before:
            raise BadCredentials("The current password is wrong.", wait=attempt.wait)
        if new == current:
            raise Invalid.field("new_password", "must differ from the current one.")
        check_new(new, locked, "new_password")
        it.detail(ended_sessions=set_password(locked, hash_of_new, due=False, keep=keep))
        it.touch(kind_of(locked), locked.id, None)
