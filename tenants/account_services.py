"""What can be done to accounts: the payers inside a tenant."""

import contextlib
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from tenants import validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import Change, change
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound
from tenants.limit_rules import LIMIT_RULES
from tenants.models import Account, Tenant
from tenants.services import locked_tenant
from tenants.validation import Rule

KIND = "account"


def _organization(field: str, value: object) -> str:
    return validation.optional_text(field, value, 128)


RULES: Final[dict[str, Rule]] = {
    "username": validation.name,
    "email": validation.email,
    "organization": _organization,
    "is_active": validation.flag,
    **LIMIT_RULES,
}


def target_of(account: Account) -> Target:
    return Target(KIND, str(account.id), account.username)


def find_account(reference: str, tenant: Tenant) -> Account:
    """By user name, in whatever case, or by id; deleted ones are not there any more."""
    accounts = tenant.accounts.filter(deleted_at__isnull=True)
    wanted = Q(username__iexact=reference)
    with contextlib.suppress(ValueError):
        wanted |= Q(pk=UUID(reference))
    found = accounts.filter(wanted).first() if validation.storable(reference) else None
    if found is None:
        raise NotFound(f"Tenant {tenant.slug} has no account {reference[:64]}.")
    return found


def create_account(*, actor: Actor, tenant_id: UUID, username: object, **fields: Any) -> Account:
    """Make an account. Raises `Invalid`, and `Conflict` for a user name that the tenant has already, deleted ones included."""
    label = str(username)[:64]
    with change(actor, "account.created", Target(KIND, "new", label), tenant_id) as it:
        tenant = locked_tenant(tenant_id)
        values = validation.checked({"username": username, **fields}, RULES)
        account = Account(tenant=tenant, **values)
        _save(account, it)
        it.aim(target_of(account))
        it.detail(**values)
    return account


def update_account(*, actor: Actor, account_id: UUID, **fields: Any) -> Account:
    """Change fields; absent ones stay. `is_active: false` stops its keys at once, reversibly."""
    with change(actor, "account.updated", Target(KIND, str(account_id))) as it:
        account = _locked(account_id, it)
        if not fields:
            raise Invalid("Nothing to change was given.")
        for name, value in validation.checked(fields, RULES).items():
            it.detail(**{name: {"from": getattr(account, name), "to": value}})
            setattr(account, name, value)
        _save(account, it)
    return account


def delete_account(*, actor: Actor, account_id: UUID) -> Account:
    """Hide an account for good: its keys answer 401, what it used keeps its name, and the row stays."""
    with change(actor, "account.deleted", Target(KIND, str(account_id))) as it:
        account = _locked(account_id, it)
        account.is_active, account.deleted_at = False, SYSTEM.now()
        _save(account, it)
    return account


def _locked(account_id: UUID, it: Change) -> Account:
    """A deleted one is not there any more."""
    account = (
        Account.objects.select_for_update().filter(pk=account_id, deleted_at__isnull=True).first()
    )
    if account is None:
        raise NotFound
    it.aim(target_of(account), account.tenant_id)
    return account


def _save(account: Account, it: Change) -> None:
    try:
        with transaction.atomic():
            account.save()
    except IntegrityError:
        raise Conflict(
            f"This tenant has an account {account.username!r} already.",
            fields={"username": "is taken in this tenant."},
        ) from None
    it.touch(KIND, account.id, account.tenant_id)
