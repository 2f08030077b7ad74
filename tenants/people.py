"""People who sign in, whoever they are: staff of the house, a tenant's people. Their names, their passwords, their ends."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q

from tenants import validation
from tenants.audit import Target
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid
from tenants.models import Session, Tenant, User
from tenants.passwords import generated_password
from tenants.validation import Rule

OPERATOR: Final = "operator"
MEMBER: Final = "member"
_PASSWORD_CHARACTERS: Final = 1024

#: What is asked of everybody.
RULES: Final[dict[str, Rule]] = {"username": validation.name, "email": validation.email}


def kind_of(user: User) -> str:
    """Staff of the house, or a tenant's person."""
    return OPERATOR if user.role else MEMBER


def target_of(user: User) -> Target:
    return Target(kind_of(user), str(user.id), user.username)


def by_name(username: str) -> User | None:
    if not validation.storable(username):
        return None
    return User.objects.filter(username__iexact=username).first()


def memberships_of(user: User) -> dict[UUID, str]:
    """The role that somebody has in each active tenant, by the tenant's id."""
    places = user.memberships.filter(tenant__status=Tenant.Status.ACTIVE)
    return dict(places.values_list("tenant_id", "role"))


def named(column: str, reference: str) -> Q:
    """By id or name, for a filter."""
    try:
        return Q(**{f"{column}_id": UUID(reference)})
    except ValueError:
        return Q(**{f"{column}__username__iexact": reference})


def given_or_made(password: object) -> tuple[object, str | None]:
    """The password to set, and the same once more if nobody gave one and it was made here."""
    if password is not None:
        return password, None
    made = generated_password()
    return made, made


def hashed(password: object) -> str:
    """A hash to store; empty for what `check_new` refuses by its length.

    To be called before a transaction: on SQLite nobody else could write while it works, elsewhere nobody change anything.
    """
    if not isinstance(password, str) or len(password) > _PASSWORD_CHARACTERS:
        return ""
    return make_password(password)


def check_new(password: object, user: User, field: str = "password") -> None:
    """Raises `Invalid` for what is no password, too short, too common, or too much like the name."""
    if not isinstance(password, str) or len(password) > _PASSWORD_CHARACTERS:
        raise Invalid.field(field, f"must be a text of at most {_PASSWORD_CHARACTERS} characters.")
    try:
        validate_password(password, user)
    except ValidationError as fault:
        raise Invalid.field(field, " ".join(fault.messages)) from None


def create(values: Mapping[str, Any], password: object, hashed_password: str, *, due: bool) -> User:
    """The row of somebody new; `due`: they must change the password first. Raises `Invalid`, `Conflict` for a taken name."""
    user = User(**values, password=hashed_password, must_change_password=due)
    check_new(password, user)
    save(user, force_insert=True)
    user.refresh_from_db(fields=["created_at"])
    return user


def save(user: User, *, force_insert: bool = False) -> None:
    try:
        with transaction.atomic():
            user.save(force_insert=force_insert)
    except IntegrityError:
        raise Conflict(
            f"The name {user.username!r} is taken.", fields={"username": "is taken."}
        ) from None


def set_password(
    user: User, hashed_password: str, *, due: bool, keep: Session | None = None
) -> int:
    """Replaces it, and ends every session but `keep`. Returns how many were ended."""
    user.password, user.must_change_password = hashed_password, due
    user.save(update_fields=["password", "must_change_password"])
    return end_sessions(user, keep)


def end_sessions(user: User, keep: Session | None = None) -> int:
    """Ends what somebody has open, tokens and pages of the console alike. Returns how many there were."""
    others = user.sessions.filter(ended_at__isnull=True)
    if keep is not None:
        others = others.exclude(pk=keep.pk)
    return others.update(ended_at=SYSTEM.now())
