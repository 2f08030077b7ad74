"""What can be done to operators, the staff of the house. One of them is an active owner, always."""

from typing import Any, Final
from uuid import UUID

from django.contrib.auth.hashers import make_password

from tenants import people, validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import Change, change
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound
from tenants.models import User
from tenants.people import OPERATOR as KIND
from tenants.roles import READERS
from tenants.validation import Rule

RULES: Final[dict[str, Rule]] = {**people.RULES, "role": validation.one_of(READERS)}
EDIT_RULES: Final[dict[str, Rule]] = {
    **RULES,
    "is_active": validation.flag,
    # What a password may be is looked at where it is known whose it is.
    "password": lambda field, value: value,
}


def find_operator(username: str) -> User:
    user = people.by_name(username)
    if user is None or not user.role:
        raise NotFound(f"There is no operator {username[:64]!r}.")
    return user


def create_operator(
    *,
    actor: Actor,
    username: object,
    password: object,
    role: object = User.Role.OPERATOR,
    must_change_password: bool = False,
    **fields: Any,
) -> User:
    """Make a member of staff. Raises `Invalid` for a weak password, `Conflict` for a taken name."""
    hashed = people.hashed(password)
    with change(actor, "operator.created", Target(KIND, "new", str(username)[:64])) as it:
        values = validation.checked({"username": username, "role": role, **fields}, RULES)
        user = people.create(values, password, hashed, due=must_change_password)
        it.aim(people.target_of(user))
        it.detail(role=user.role)
        it.touch(KIND, user.id, None)
    return user


def update_operator(*, actor: Actor, operator_id: UUID, **fields: Any) -> User:
    """Change fields of an operator; absent ones stay.

    Another role, a new password (to be changed at the next sign-in) and `is_active: false` end their sessions at once. Raises
    `Conflict` where the last active owner would be none.
    """
    hashed = people.hashed(fields["password"]) if "password" in fields else ""
    with change(actor, "operator.updated", Target(KIND, str(operator_id))) as it:
        user = _locked(operator_id, it)
        if not fields:
            raise Invalid("Nothing to change was given.")
        values = validation.checked(fields, EDIT_RULES)
        password = values.pop("password", None)
        if "password" in fields:
            people.check_new(password, user)
            it.detail(password="replaced")  # noqa: S106 - that it was, not which
        ends = "password" in fields or values.get("role", user.role) != user.role
        if values.get("role", user.role) != User.Role.OWNER or not values.get("is_active", True):
            _refuse_without_owner(user)
        for name, value in values.items():
            it.detail(**{name: {"from": getattr(user, name), "to": value}})
            setattr(user, name, value)
        if "password" in fields:
            user.password, user.must_change_password = hashed, True
        people.save(user)
        if ends or not user.is_active:
            it.detail(ended_sessions=people.end_sessions(user))
        it.touch(KIND, user.id, None)
    return user


def reset_password(*, actor: Actor, username: str, password: object) -> User:
    """What somebody with a shell does for an operator who lost theirs: it must be changed at the next sign-in."""
    hashed = people.hashed(password)
    with change(actor, "operator.password_reset", Target(KIND, "unknown", username[:64])) as it:
        user = _locked(find_operator(username).pk, it)
        people.check_new(password, user)
        people.set_password(user, hashed, due=True)
        it.touch(KIND, user.id, None)
    return user


def disable_operator(*, actor: Actor, username: str) -> User:
    """Ends every session at once. The last active owner stays."""
    with change(actor, "operator.disabled", Target(KIND, "unknown", username[:64])) as it:
        user = _locked(find_operator(username).pk, it)
        _refuse_without_owner(user)
        user.is_active = False
        user.save(update_fields=["is_active"])
        people.end_sessions(user)
        it.touch(KIND, user.id, None)
    return user


def remove_operator(*, actor: Actor, operator_id: UUID) -> None:
    """End somebody's time as staff for good: the role, sessions and service tokens go, the row and its name stay taken.

    Who has a place in a tenant still comes in for that; anybody else cannot sign in any more.
    """
    with change(actor, "operator.removed", Target(KIND, str(operator_id))) as it:
        user = _locked(operator_id, it)
        _refuse_without_owner(user)
        it.detail(role=user.role, ended_sessions=people.end_sessions(user))
        live = user.service_tokens.filter(revoked_at__isnull=True)
        it.detail(revoked_tokens=live.update(revoked_at=SYSTEM.now()))
        user.role = User.Role.NONE
        if not user.memberships.exists():
            user.is_active, user.password = False, make_password(None)
        user.save(update_fields=["role", "is_active", "password"])
        it.touch(KIND, user.id, None)


def sign_out_everywhere(*, actor: Actor, user_id: UUID) -> int:
    """End every session of a person, this one too. Returns how many there were."""
    with change(actor, "operator.signed_out", Target(KIND, str(user_id))) as it:
        user = User.objects.select_for_update().filter(pk=user_id).first()
        if user is None:
            raise NotFound
        it.aim(people.target_of(user))
        ended = people.end_sessions(user)
        it.detail(ended_sessions=ended)
    return ended


def _locked(operator_id: UUID, it: Change) -> User:
    user = User.objects.select_for_update().filter(pk=operator_id).exclude(role="").first()
    if user is None:
        raise NotFound
    it.aim(people.target_of(user))
    return user


def _refuse_without_owner(leaving: User) -> None:
    """Changes queue, so of two owners who go at the same moment the second finds that they are the last."""
    owners = User.objects.filter(role=User.Role.OWNER, is_active=True)
    if owners.filter(pk=leaving.pk).exists() and not owners.exclude(pk=leaving.pk).exists():
        raise Conflict("This is the last active owner.")
