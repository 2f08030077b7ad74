"""Operators: their accounts, signing in and out, and what a session is carried by: a token, or the console's cookie."""

import enum
import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import jwt
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, close_old_connections, connection, transaction

from tenants import keyring, validation
from tenants.actor import Actor
from tenants.audit import Entry, Target
from tenants.changes import change, note
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound, ServiceError
from tenants.models import AuditEvent, Session, Tenant, User

KIND = "operator"
MEMBER: Final = "member"
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
_PASSWORD_CHARACTERS: Final = 1024
#: Wrong credentials that one address may send in the time that they are held against it.
WRONG_TRIES: Final = 5
HELD_AGAINST: Final = timedelta(minutes=1)


class BadCredentials(ServiceError):
    """Wrong name or password, or a session that is no more: never says which."""

    code = "invalid_credentials"

    def __init__(self, message: str = "The user name or the password is wrong.") -> None:
        super().__init__(message)


class TooManyTries(ServiceError):
    """So many wrong ones came from one address that nothing from there is looked at for a while, right or wrong."""

    code = "rate_limit_exceeded"

    def __init__(self) -> None:
        super().__init__("Too many attempts to sign in. Wait a minute, then try again.")


class Carrier(enum.Enum):
    """What a session is carried by: a signed token in a header, or an opaque value in a cookie."""

    TOKEN = enum.auto()
    COOKIE = enum.auto()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`token` is what to carry: the only sight of it there is."""

    token: str
    session: Session
    user: User


def kind_of(user: User) -> str:
    """Staff of the house, or a tenant's person."""
    return KIND if user.role else MEMBER


def _target(user: User) -> Target:
    return Target(kind_of(user), str(user.id), user.username)


def _by_name(username: str) -> User | None:
    if not validation.storable(username):
        return None
    return User.objects.filter(username__iexact=username).first()


def memberships_of(user: User) -> dict[UUID, str]:
    """The role that somebody has in each active tenant, by the tenant's id."""
    places = user.memberships.filter(tenant__status=Tenant.Status.ACTIVE)
    return dict(places.values_list("tenant_id", "role"))


def _may_come_in(user: User, carrier: Carrier) -> bool:
    """The house's staff by every door; a tenant's people by the admin API, while their tenant is served."""
    if not user.is_active:
        return False
    return bool(user.role) or (carrier is Carrier.TOKEN and bool(memberships_of(user)))


def find_operator(username: str) -> User:
    user = _by_name(username)
    if user is None or not user.role:
        raise NotFound(f"There is no operator {username[:64]!r}.")
    return user


def _hashed(password: object) -> str:
    """A hash to store; empty for what `_check_new` refuses by its length.

    To be called before a transaction: on SQLite nobody else could write while it works, elsewhere nobody change anything.
    """
    if not isinstance(password, str) or len(password) > _PASSWORD_CHARACTERS:
        return ""
    return make_password(password)


def _lend_connection() -> None:
    """Hashing takes its time; our connection is somebody else's meanwhile."""
    if not connection.in_atomic_block:
        close_old_connections()


def _check_new(password: object, user: User, field: str) -> None:
    if not isinstance(password, str) or len(password) > _PASSWORD_CHARACTERS:
        raise Invalid.field(field, f"must be a text of at most {_PASSWORD_CHARACTERS} characters.")
    try:
        validate_password(password, user)
    except ValidationError as fault:
        raise Invalid.field(field, " ".join(fault.messages)) from None


def create_operator(
    *,
    actor: Actor,
    username: object,
    password: object,
    role: object = User.Role.OPERATOR,
    must_change_password: bool = False,
) -> User:
    """Make a member of staff. Raises `Invalid` for a weak password, `Conflict` for a taken name."""
    roles = {value for value in User.Role.values if value}
    hashed = _hashed(password)
    with change(actor, "operator.created", Target(KIND, "new", str(username)[:64])) as it:
        values = validation.checked(
            {"username": username, "role": role},
            {"username": validation.name, "role": validation.one_of(roles)},
        )
        user = User(**values, password=hashed, must_change_password=must_change_password)
        _check_new(password, user, "password")
        try:
            with transaction.atomic():
                user.save(force_insert=True)
        except IntegrityError:
            raise Conflict(f"The name {user.username!r} is taken.") from None
        it.aim(_target(user))
        it.detail(role=user.role)
        it.touch(KIND, user.id, None)
    return user


def sign_in(
    *, actor: Actor, username: str, password: str, carrier: Carrier = Carrier.TOKEN
) -> SignedIn:
    """A new session for good credentials, else `BadCredentials`; both are audited. Takes as long for unknown names.

    Raises `TooManyTries` before it looks at anything.
    """
    _refuse_a_guesser(actor)
    user = _by_name(username)
    _lend_connection()
    if user is None:
        make_password(password)  # One hash, as checking takes: the time tells nothing either.
        good = False
    else:
        good = user.check_password(password) and _may_come_in(user, carrier)
    if user is None or not good:
        target = _target(user) if user else Target(KIND, "unknown")
        note(
            Entry(
                actor,
                "operator.sign_in",
                target,
                outcome=AuditEvent.Outcome.REFUSED,
                error_code=BadCredentials.code,
            )
        )
        raise BadCredentials
    named = actor.named(type=kind_of(user), id=str(user.id), label=user.username)
    return _open_session(named, user, carrier)


def _refuse_a_guesser(actor: Actor) -> None:
    """By address alone: who guesses from elsewhere keeps nobody out, and nothing is told about any name.

    Counted from the audit log, which all workers share and which has every wrong one.
    """
    wrong = AuditEvent.objects.filter(
        action="operator.sign_in",
        created_at__gt=SYSTEM.now() - HELD_AGAINST,
        outcome=AuditEvent.Outcome.REFUSED,
        address=actor.address[:64],
    )
    if actor.address and wrong[:WRONG_TRIES].count() == WRONG_TRIES:
        raise TooManyTries


def _open_session(actor: Actor, user: User, carrier: Carrier) -> SignedIn:
    with change(actor, "operator.sign_in", _target(user)):
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
    return SignedIn(token, session, user)


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
    with change(actor, "operator.sign_out", _target(session.user)):
        Session.objects.filter(pk=session.pk, ended_at__isnull=True).update(ended_at=SYSTEM.now())


def change_password(
    *, actor: Actor, user: User, current: str, new: object, keep: Session | None
) -> None:
    """Needs the old password; ends every other session. Raises `BadCredentials`, `Invalid`."""
    before = User.objects.get(pk=user.pk).password
    _lend_connection()
    is_known = check_password(current, before)
    hashed = _hashed(new) if is_known else ""
    with change(actor, "operator.password_changed", _target(user)) as it:
        locked = User.objects.select_for_update().get(pk=user.pk)
        # What was checked must still be the password.
        if not is_known or locked.password != before:
            raise BadCredentials("The current password is wrong.")
        if new == current:
            raise Invalid.field("new_password", "must differ from the current one.")
        _check_new(new, locked, "new_password")
        it.detail(ended_sessions=_set_password(locked, hashed, keep))
        it.touch(KIND, locked.id, None)


def reset_password(*, actor: Actor, username: str, password: object) -> User:
    """What somebody with a shell does for an operator who lost theirs: it must be changed at the next sign-in."""
    hashed = _hashed(password)
    with change(actor, "operator.password_reset", Target(KIND, "unknown", username[:64])) as it:
        user = User.objects.select_for_update().get(pk=find_operator(username).pk)
        it.aim(_target(user))
        _check_new(password, user, "password")
        _set_password(user, hashed, None)
        user.must_change_password = True
        user.save(update_fields=["must_change_password"])
        it.touch(KIND, user.id, None)
    return user


def _set_password(user: User, hashed: str, keep: Session | None) -> int:
    """How many sessions were ended."""
    user.password = hashed
    user.must_change_password = False
    user.save(update_fields=["password", "must_change_password"])
    others = user.sessions.filter(ended_at__isnull=True)
    if keep is not None:
        others = others.exclude(pk=keep.pk)
    return others.update(ended_at=SYSTEM.now())


def disable_operator(*, actor: Actor, username: str) -> User:
    """Ends every session at once. The last active owner stays."""
    with change(actor, "operator.disabled", Target(KIND, "unknown", username[:64])) as it:
        user = User.objects.select_for_update().get(pk=find_operator(username).pk)
        it.aim(_target(user))
        owners = User.objects.filter(role=User.Role.OWNER, is_active=True).exclude(pk=user.pk)
        if user.role == User.Role.OWNER and not owners.exists():
            raise Conflict("This is the last active owner.")
        user.is_active = False
        user.save(update_fields=["is_active"])
        user.sessions.filter(ended_at__isnull=True).update(ended_at=SYSTEM.now())
        it.touch(KIND, user.id, None)
    return user
