"""What accounts have: paid in, used, and left. Top-ups are entries; nothing here overwrites a sum."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import F

from tenants import validation
from tenants.account_services import target_of
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import Change, change
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound
from tenants.models import MAX_BUDGET_NANO, Account
from usage import windows
from usage.budget_books import Key
from usage.budget_starts import make
from usage.models import Balance, Credit
from usage.money import NotMoney, parse_usd, usd_text

KIND = "account"


@dataclass(frozen=True, slots=True)
class Standing:
    """In nano-USD: paid in, used, set aside for calls in flight. `balance` is what was paid in and is not used."""

    credited: int = 0
    spent: int = 0
    held: int = 0

    @property
    def balance(self) -> int:
        return self.credited - self.spent


def balance_of(account_ids: Collection[UUID]) -> dict[UUID, Standing]:
    """Where these accounts stand, each of them, in one query."""
    rows = Balance.objects.filter(level_id__in=account_ids, window=windows.PREPAID).values_list(
        "level_id", "credited", "spent", "held"
    )
    found = {row[0]: Standing(*row[1:]) for row in rows}
    return {account_id: found.get(account_id, Standing()) for account_id in account_ids}


def top_up(*, actor: Actor, account_id: UUID, amount_usd: object, note: object = None) -> Standing:
    """Pay into an account. Raises `Invalid`, `NotFound`, and `Conflict` where it would hold more than an account may."""
    with change(actor, "account.topped_up", Target(KIND, str(account_id))) as it:
        account = _account(account_id, it)
        amount = _amount(amount_usd)
        return _enter(account, it, amount, validation.optional_text("note", note))


def take_back(*, actor: Actor, account_id: UUID, amount_usd: object, note: object) -> Standing:
    """Take out again what was paid in by mistake, or is paid back: at most what is neither used nor set aside."""
    with change(actor, "account.balance_reduced", Target(KIND, str(account_id))) as it:
        account = _account(account_id, it)
        amount = _amount(amount_usd)
        return _enter(account, it, -amount, validation.name("note", note, 256))


def _account(account_id: UUID, it: Change) -> Account:
    account = (
        Account.objects.select_for_update().filter(pk=account_id, deleted_at__isnull=True).first()
    )
    if account is None:
        raise NotFound
    it.aim(target_of(account), account.tenant_id)
    return account


def _amount(amount_usd: object) -> int:
    try:
        amount = parse_usd(amount_usd)
    except NotMoney as fault:
        raise Invalid.field("amount_usd", str(fault)) from None
    if amount <= 0:
        raise Invalid.field("amount_usd", "must be more than 0.")
    return amount


def _enter(account: Account, it: Change, amount: int, note: str) -> Standing:
    it.touch(KIND, account.id, account.tenant_id)
    make([Key(account.id, windows.PREPAID, "nano_usd")], {account.id: "account"})
    locked: Any = Balance.objects.select_for_update()
    balance: Balance = locked.get(level_id=account.id, window=windows.PREPAID)
    credited = balance.credited + amount
    free = balance.credited - balance.spent - balance.held
    if credited > MAX_BUDGET_NANO:
        raise Conflict(f"An account holds at most {usd_text(MAX_BUDGET_NANO)} USD.")
    if amount < 0 and free < -amount:
        sentence = f"Only {usd_text(max(free, 0))} USD are neither used nor set aside."
        raise Conflict(sentence, fields={"amount_usd": sentence})
    actor = it.entry.actor
    credit = Credit.objects.create(
        tenant_id=account.tenant_id,
        account_id=account.id,
        created_at=SYSTEM.now(),
        nano_usd=amount,
        note=note,
        actor_type=actor.type,
        actor_id=actor.id[:64],
        actor_label=actor.label[:128],
    )
    ceiling = max(credited, balance.spent + balance.held)
    Balance.objects.filter(pk=balance.pk).update(credited=F("credited") + amount, ceiling=ceiling)
    it.detail(
        credit=str(credit.id),
        amount_usd=usd_text(amount),
        credited_usd=usd_text(credited),
        note=note,
    )
    return Standing(credited, balance.spent, balance.held)
