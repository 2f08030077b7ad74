"""What can be done to members: a tenant's people, and their places in it. Who is its last owner stays."""

from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction

from tenants import people, validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import Change, change
from tenants.errors import Conflict, Invalid, NotFound
from tenants.models import Membership, Tenant, User
from tenants.people import MEMBER as KIND
from tenants.roles import MEMBERS
from tenants.services import locked_tenant
from tenants.validation import Rule

role_rule: Final[Rule] = validation.one_of(MEMBERS)
NEW_RULES: Final[dict[str, Rule]] = {**people.RULES, "role": role_rule}


def target_of(place: Membership) -> Target:
    return Target(KIND, str(place.id), place.user.username)


def create_member(
    *,
    actor: Actor,
    tenant_id: UUID,
    username: object,
    password: object,
    role: object = Membership.Role.MEMBER,
    must_change_password: bool = True,
    **fields: Any,
) -> Membership:
    """Somebody new, with a place in a tenant. Raises `Conflict` for a taken name: who is there already is invited."""
    hashed = people.hashed(password)
    target = Target(KIND, "new", str(username)[:64])
    with change(actor, "member.created", target, tenant_id) as it:
        tenant = locked_tenant(tenant_id)
        values = validation.checked({"username": username, "role": role, **fields}, NEW_RULES)
        chosen = values.pop("role")
        user = people.create(values, password, hashed, due=must_change_password)
        place = give_place(tenant, user, chosen)
        it.aim(target_of(place))
        it.detail(role=chosen, user=str(user.id))
    return place


def add_member(
    *, actor: Actor, tenant_id: UUID, user: object, role: object = Membership.Role.MEMBER
) -> Membership:
    """A place for somebody who is there already, by their id. Raises `Invalid`, `Conflict` for who has one."""
    with change(actor, "member.added", Target(KIND, str(user)[:64]), tenant_id) as it:
        tenant = locked_tenant(tenant_id)
        values = validation.checked(
            {"user": user, "role": role}, {"user": _person, "role": role_rule}
        )
        place = give_place(tenant, values["user"], values["role"])
        it.aim(target_of(place))
        it.detail(role=place.role, user=str(place.user_id))
    return place


def _person(field: str, value: object) -> User:
    try:
        found = User.objects.filter(pk=UUID(str(value))).first()
    except ValueError:
        found = None
    if found is None:
        raise Invalid.field(field, "is nobody: give the id of a person.")
    return found


def give_place(tenant: Tenant, user: User, role: str) -> Membership:
    """Inside a change. Raises `Conflict` for who has one."""
    place = Membership(tenant=tenant, user=user, role=role)
    try:
        with transaction.atomic():
            place.save(force_insert=True)
    except IntegrityError:
        raise Conflict(f"{user.username!r} has a place in this tenant already.") from None
    place.refresh_from_db(fields=["created_at"])
    return place


def update_member(*, actor: Actor, tenant_id: UUID, member_id: UUID, **fields: Any) -> Membership:
    """Give somebody another role in the tenant. Raises `Conflict` for its last owner."""
    with change(actor, "member.updated", Target(KIND, str(member_id)), tenant_id) as it:
        place = _locked(tenant_id, member_id, it)
        if not fields:
            raise Invalid("Nothing to change was given.")
        role = validation.checked(fields, {"role": role_rule})["role"]
        if role != Membership.Role.OWNER:
            _refuse_without_owner(place)
        it.detail(role={"from": place.role, "to": role})
        place.role = role
        place.save(update_fields=["role"])
    return place


def remove_member(*, actor: Actor, tenant_id: UUID, member_id: UUID) -> None:
    """Show somebody out of the tenant, at once; the person stays. Raises `Conflict` for its last owner."""
    with change(actor, "member.removed", Target(KIND, str(member_id)), tenant_id) as it:
        place = _locked(tenant_id, member_id, it)
        _refuse_without_owner(place)
        user = place.user
        place.delete()
        if not user.role and not user.memberships.exists():
            it.detail(ended_sessions=people.end_sessions(user))


def _locked(tenant_id: UUID, member_id: UUID, it: Change) -> Membership:
    rows = Membership.objects.select_for_update(of=("self",)).select_related("user")
    place = rows.filter(pk=member_id, tenant_id=tenant_id).first()
    if place is None:
        raise NotFound
    it.aim(target_of(place))
    return place


def _refuse_without_owner(leaving: Membership) -> None:
    """Changes queue, so of two owners who go at the same moment the second finds that they are the last."""
    if leaving.role != Membership.Role.OWNER:
        return
    others = Membership.objects.filter(
        tenant_id=leaving.tenant_id, role=Membership.Role.OWNER, user__is_active=True
    ).exclude(pk=leaving.pk)
    if not others.exists():
        raise Conflict("This is the tenant's last owner.")
