"""`balance show|top-up`: what accounts have paid in, used, and left."""

from django.core.management.base import CommandParser

from tenants.account_services import find_account
from tenants.commands import Actions, HouseCommand, Options, shell_actor
from tenants.models import Account
from tenants.services import find_tenant
from usage.balance_services import Standing, balance_of, top_up
from usage.money import usd_text


class Command(HouseCommand):
    help = "Balances of accounts: show, top-up."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        show = actions.add("show", self.show, "What an account has paid in, used, and left.")
        pay = actions.add("top-up", self.top_up, "Pay into an account.")
        for named in (show, pay):
            named.add_argument("--tenant", required=True, help="Slug or id.")
            named.add_argument("--account", required=True, help="User name or id.")
        pay.add_argument("--amount-usd", required=True, help="Such as 25 or 0.50.")
        pay.add_argument("--note", default="")

    def show(self, options: Options) -> None:
        account = _account(options)
        self._tell(account, balance_of([account.id])[account.id])

    def top_up(self, options: Options) -> None:
        account = _account(options)
        standing = top_up(
            actor=shell_actor(),
            account_id=account.id,
            amount_usd=options["amount_usd"],
            note=options["note"],
        )
        self._tell(account, standing)

    def _tell(self, account: Account, standing: Standing) -> None:
        amounts = {
            "balance_usd": usd_text(standing.balance),
            "held_usd": usd_text(standing.held),
            "credited_usd": usd_text(standing.credited),
            "spent_usd": usd_text(standing.spent),
        }
        self.answer(
            {"account": account.username, "id": account.id, **amounts},
            f"{account.username}: {amounts['balance_usd']} USD left, of which"
            f" {amounts['held_usd']} are set aside for calls in flight"
            f" (paid in {amounts['credited_usd']}, used {amounts['spent_usd']}).",
        )


def _account(options: Options) -> Account:
    return find_account(options["account"], find_tenant(options["tenant"]))
