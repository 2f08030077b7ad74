"""Users: the accounts that pay inside a tenant, each with its prepaid balance."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.tenants import account_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, listed, owner_of, query_of
from gateway.api.shapes import tenants as shapes
from gateway.shapes.pages import PAGES
from tenants import account_services as services
from tenants.models import Account
from usage import balance_services as balances

_FIXED: Final = ("id", "object", "tenant", "balance_usd", "held_usd", "deleted_at", "created_at")
_TAKEN: Final = {409: "`conflict`: its tenant has one of that name, or had one."}


def _body(account: Account) -> dict[str, Any]:
    return _bodies([account])[0]


def _bodies(accounts: Iterable[Account]) -> list[dict[str, Any]]:
    """With the balances of all of them, looked up at once."""
    rows = list(accounts)
    found = balances.balance_of([row.id for row in rows])
    return [account_body(row, found[row.id]) for row in rows]


class UsersView(AdminView):
    @documented.operation(
        "listUsers",
        "List users",
        query={**PAGES, **documented.OF_TENANT},
        answer=shapes.USERS,
    )
    def get(self, request: Request) -> Response:
        """Those that were deleted are only found by their id."""
        query = query_of(request, (*paging.PARAMETERS, "tenant"))
        accounts = listed(Account.objects.filter(deleted_at__isnull=True), query, self.reach)
        return paging.page_of(accounts, query, _bodies)

    @documented.operation(
        "createUser",
        "Make a user",
        body=shapes.NEW_USER,
        answer=shapes.USER,
        status=201,
        refuses=_TAKEN,
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("tenant", *services.RULES))
        account = services.create_account(
            actor=actor_of(request),
            tenant_id=owner_of(fields, self.reach).id,
            username=fields.pop("username", None),
            **fields,
        )
        return Response(_body(account), status=201)


class UserView(AdminView):
    @documented.operation("getUser", "Look at a user", answer=shapes.USER)
    def get(self, request: Request, user_id: UUID) -> Response:
        query_of(request)
        return Response(_body(self.reach.one(Account.objects.all(), pk=user_id)))

    @documented.operation(
        "updateUser", "Change a user", body=shapes.USER_CHANGES, answer=shapes.USER, refuses=_TAKEN
    )
    def patch(self, request: Request, user_id: UUID) -> Response:
        self.reach.guard(Account, user_id)
        fields = fields_of(request, services.RULES, fixed=_FIXED)
        account = services.update_account(actor=actor_of(request), account_id=user_id, **fields)
        return Response(_body(account))

    @documented.operation("deleteUser", "Delete a user", answer=None)
    def delete(self, request: Request, user_id: UUID) -> Response:
        """Hidden for good: its keys answer 401."""
        query_of(request)
        self.reach.guard(Account, user_id)
        services.delete_account(actor=actor_of(request), account_id=user_id)
        return Response(status=204)


class TopUpView(AdminView):
    @documented.operation(
        "topUp",
        "Pay in",
        body=shapes.TOP_UP,
        answer=shapes.USER,
        refuses={409: "`conflict`: no account holds that much."},
    )
    def post(self, request: Request, user_id: UUID) -> Response:
        """Pay in: one more entry. The answer is the account with its new balance."""
        self.reach.guard(Account, user_id)
        fields = fields_of(request, ("amount_usd", "note"))
        balances.top_up(
            actor=actor_of(request),
            account_id=user_id,
            amount_usd=fields.get("amount_usd"),
            note=fields.get("note"),
        )
        return Response(_body(self.reach.one(Account.objects.all(), pk=user_id)))
