"""`client create|list|deactivate`: tenants, by the name that people use for them in commands."""

from typing import Any

from django.core.management.base import CommandParser

from tenants import services, validation
from tenants.commands import (
    Actions,
    HouseCommand,
    Options,
    add_if_missing,
    add_limit,
    shell_actor,
)
from tenants.models import Tenant


class Command(HouseCommand):
    help = "Tenants (clients): create, list, deactivate."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        create = actions.add("create", self.create, "Make a tenant.")
        create.add_argument("--name", required=True)
        create.add_argument(
            "--slug", help="Its name in addresses and commands; made from the name."
        )
        add_if_missing(create)
        add_limit(actions.add("list", self.list, "Show the tenants."))
        deactivate = actions.add(
            "deactivate", self.deactivate, "Stop all keys of a tenant at once."
        )
        deactivate.add_argument("--slug", required=True, help="Its slug or id.")

    def create(self, options: Options) -> None:
        name, slug = options["name"], options["slug"]
        # `migrate` has made the tenant `default`; that a set-up names it once more is no conflict.
        if options["if_missing"] or slug == services.DEFAULT_SLUG:
            slug = slug or validation.slug_from(name)
            tenant, made = services.ensure_tenant(actor=shell_actor(), name=name, slug=slug)
        else:
            fields = {"slug": slug} if slug is not None else {}
            tenant, made = services.create_tenant(actor=shell_actor(), name=name, **fields), True
        said = "Made" if made else "There is already"
        self.answer(
            {**_row(tenant), "created": made}, f"{said} tenant {tenant.slug} ({tenant.id})."
        )

    def list(self, options: Options) -> None:
        rows = [_row(tenant) for tenant in Tenant.objects.order_by("slug")[: options["limit"]]]
        self.answer_rows(rows, ("slug", "name", "status", "rate_limit_rpm", "id"))

    def deactivate(self, options: Options) -> None:
        tenant = services.update_tenant(
            actor=shell_actor(),
            tenant_id=services.find_tenant(options["slug"]).id,
            status=Tenant.Status.INACTIVE.value,
        )
        self.answer(_row(tenant), f"Tenant {tenant.slug} is inactive: none of its keys works now.")


def _row(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "slug": tenant.slug,
        "status": str(tenant.status),
        "rate_limit_rpm": tenant.rate_limit_rpm,
        "created_at": tenant.created_at,
    }
