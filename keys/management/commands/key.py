"""`key issue|list|rotate|revoke`: the credentials of callers."""

from typing import Any, Final

from django.core.management.base import CommandParser

from keys import services
from keys.models import APIKey
from keys.services import Issued
from tenants import examples
from tenants.clock import SYSTEM
from tenants.commands import (
    Actions,
    HouseCommand,
    Options,
    add_if_missing,
    add_limit,
    comma_list,
    shell_actor,
)
from tenants.models import Tenant
from tenants.services import find_tenant

#: Option of `key issue` → field of the service.
_FIELDS: Final = {
    "scopes": "scopes",
    "rpm": "rate_limit_rpm",
    "models": "allowed_models",
    "team": "team",
    "expires": "expires_at",
    "budget_usd": "cost_budget_usd",
}
_COLUMNS: Final = ("key_prefix", "name", "tenant", "team", "status", "scopes", "expires_at", "id")


class Command(HouseCommand):
    help = "Keys: issue, list, rotate, revoke."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        self._add_issue(actions)
        listing = actions.add("list", self.list, "Show keys, never their credentials.")
        listing.add_argument("--active-only", action="store_true")
        add_limit(listing)
        rotate = actions.add("rotate", self.rotate, "Give a key a new credential, shown once.")
        rotate.add_argument(
            "--grace-seconds",
            type=int,
            default=0,
            help="How long the old credential works on (0: ends at once; at most 604800).",
        )
        revoke = actions.add("revoke", self.revoke, "End a key for good, at once.")
        revoke.add_argument("--reason", default="")
        for named in (rotate, revoke):
            named.add_argument("key", metavar="KEY", help="Its id or its visible prefix.")
        for narrowed in (listing, rotate, revoke):
            narrowed.add_argument("--tenant", help="Among this tenant's keys only (slug or id).")

    def _add_issue(self, actions: Actions) -> None:
        issue = actions.add("issue", self.issue, "Make a key; its credential is shown once.")
        issue.add_argument("--tenant", required=True, help="Slug or id.")
        issue.add_argument("--name", required=True)
        issue.add_argument("--scopes", type=comma_list, help="Such as inference,usage.")
        issue.add_argument("--rpm", type=int, help="Requests per minute.")
        issue.add_argument("--models", type=comma_list, help="Names it may use; * may end one.")
        issue.add_argument("--team")
        issue.add_argument("--expires", help="A time like 2026-01-31T12:00:00Z.")
        issue.add_argument("--budget-usd", help="For each month, such as 5 or 0.25.")
        add_if_missing(issue)

    def issue(self, options: Options) -> None:
        tenant = find_tenant(options["tenant"])
        fields = {
            field: options[option]
            for option, field in _FIELDS.items()
            if options[option] is not None
        }
        if options["if_missing"] and (found := _live_key(tenant, options["name"])):
            self.answer(
                {**row_of(found), "key": None, "created": False},
                f"Tenant {tenant.slug} has a key {found.name} already: {services.current_prefix(found)}…",
            )
            return
        issued = services.issue_key(
            actor=shell_actor(), tenant_id=tenant.id, name=options["name"], **fields
        )
        self._show(issued, {"created": True}, f"Issued key {issued.key.name} for {tenant.slug}.")

    def list(self, options: Options) -> None:
        keys = APIKey.objects.select_related("tenant").prefetch_related("secrets")
        if options["tenant"]:
            keys = keys.filter(tenant=find_tenant(options["tenant"]))
        if options["active_only"]:
            keys = keys.filter(revoked_at=None, is_active=True).exclude(
                expires_at__lte=SYSTEM.now()
            )
        chosen = keys.order_by("tenant__slug", "created_at", "id")[: options["limit"]]
        self.answer_rows([row_of(key) for key in chosen], _COLUMNS)

    def rotate(self, options: Options) -> None:
        issued = services.rotate_key(
            actor=shell_actor(),
            key_id=_find(options).id,
            grace_period_seconds=options["grace_seconds"],
        )
        ends = issued.previous_secret_expires_at
        works = f"works until {ends:%Y-%m-%d %H:%M:%S} UTC" if ends else "has ended"
        self._show(
            issued,
            {"previous_secret_expires_at": ends},
            f"Key {issued.key.name} has a new credential; the old one {works}.",
        )

    def revoke(self, options: Options) -> None:
        key = services.revoke_key(
            actor=shell_actor(), key_id=_find(options).id, reason=options["reason"]
        )
        self.answer(row_of(key), f"Key {key.name} is revoked.")

    def _show(self, issued: Issued, more: dict[str, Any], said: str) -> None:
        credential = issued.credential.reveal().decode()
        self.answer(
            {**row_of(issued.key), **more, "key": credential},
            said,
            f"Key (shown this once): {credential}",
            "Try it:",
            examples.curl(credential, issued.key.tenant_id, issued.key.allowed_models),
        )


def _find(options: Options) -> APIKey:
    tenant = find_tenant(options["tenant"]) if options["tenant"] else None
    return services.find_key(options["key"], tenant)


def _live_key(tenant: Tenant, name: str) -> APIKey | None:
    """Names of keys are not unique: the oldest one that has not been revoked stands for the name."""
    keys = APIKey.objects.filter(tenant=tenant, name=name, revoked_at=None)
    return keys.order_by("created_at", "id").first()


def row_of(key: APIKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant.slug,
        "name": key.name,
        "team": key.team,
        "key_prefix": services.current_prefix(key),
        "status": services.status_of(key, SYSTEM.now()),
        "scopes": key.scopes,
        "allowed_models": key.allowed_models,
        "rate_limit_rpm": key.rate_limit_rpm,
        "cost_budget_usd": key.cost_budget_usd,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
