"""`user create|list|deactivate`: accounts, the payers inside a tenant. The contract's API calls them users."""

from typing import Any, Final

from django.core.management.base import CommandParser

from tenants import account_services
from tenants.commands import (
    Actions,
    HouseCommand,
    Options,
    add_if_missing,
    add_limit,
    shell_actor,
)
from tenants.models import Account
from tenants.services import find_tenant

_COLUMNS: Final = ("username", "tenant", "email", "organization", "status", "id")


class Command(HouseCommand):
    help = "Users (accounts that pay): create, list, deactivate."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        create = actions.add("create", self.create, "Add an account; `balance top-up` pays in.")
        create.add_argument("--email", help="Where its owner can be reached.")
        create.add_argument("--organization", help="Whom its owner is of.")
        add_if_missing(create)
        listing = actions.add("list", self.list, "Show accounts, deleted ones left out.")
        listing.add_argument("--tenant", help="Of this tenant only (slug or id).")
        add_limit(listing)
        ending = actions.add(
            "deactivate", self.deactivate, "Its keys are refused, until it is activated again."
        )
        for named in (create, ending):
            named.add_argument("--tenant", required=True, help="Slug or id.")
            named.add_argument("--username", required=True, help="Unique in its tenant.")

    def create(self, options: Options) -> None:
        tenant, name = find_tenant(options["tenant"]), options["username"]
        if options["if_missing"]:
            found = tenant.accounts.filter(username__iexact=name, deleted_at=None).first()
            if found is not None:
                told = f"Tenant {tenant.slug} has an account {found.username} already."
                self.answer({**row_of(found), "created": False}, told)
                return
        fields = {it: options[it] for it in ("email", "organization") if options[it] is not None}
        account = account_services.create_account(
            actor=shell_actor(), tenant_id=tenant.id, username=name, **fields
        )
        self.answer(
            {**row_of(account), "created": True},
            f"Added account {account.username} to {tenant.slug}; its balance is 0 USD.",
        )

    def list(self, options: Options) -> None:
        accounts = Account.objects.filter(deleted_at=None).select_related("tenant")
        if options["tenant"]:
            accounts = accounts.filter(tenant=find_tenant(options["tenant"]))
        chosen = accounts.order_by("tenant__slug", "username", "id")[: options["limit"]]
        self.answer_rows([row_of(account) for account in chosen], _COLUMNS)

    def deactivate(self, options: Options) -> None:
        found = account_services.find_account(options["username"], find_tenant(options["tenant"]))
        account = account_services.update_account(
            actor=shell_actor(), account_id=found.id, is_active=False
        )
        self.answer(row_of(account), f"Account {account.username} is inactive.")


def row_of(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "tenant": account.tenant.slug,
        "username": account.username,
        "email": account.email,
        "organization": account.organization,
        "status": "active" if account.is_active else "inactive",
    }
