"""`model add|list|import`: the public names that callers use."""

import sys
from typing import Any, Final

from django.core.management.base import CommandParser

from providers import model_services
from providers.management.commands.provider import tell_import
from providers.model_services import LONG_CONTEXT, PRICE_COLUMNS
from providers.models import Model
from providers.services import find_provider
from tenants.commands import (
    Actions,
    HouseCommand,
    Options,
    add_if_missing,
    add_limit,
    shell_actor,
)
from tenants.models import Tenant
from tenants.services import find_tenant

_LIMITS: Final = ("context_window", "max_output_tokens")


class Command(HouseCommand):
    help = "Models: add, list, import."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        self._add_add(actions)
        listing = actions.add("list", self.list, "Show the models and what serves them.")
        add_limit(listing)
        taking = actions.add("import", self.import_models, "Add what an upstream lists.")
        taking.add_argument("--provider", required=True, help="Its name or id.")
        taking.add_argument("--match", default="*", metavar="GLOB", help="Only ids that fit.")
        for owned in (listing, taking):
            owned.add_argument("--tenant", help="A tenant's own (slug or id); else shared ones.")

    def _add_add(self, actions: Actions) -> None:
        add = actions.add("add", self.add, "Add a public name with one target.")
        add.add_argument("--id", required=True, help="The public name; may end in *.")
        add.add_argument("--provider", required=True, help="Its name or id.")
        add.add_argument("--upstream-model", help="The upstream's name for it; else the same.")
        add.add_argument("--capability", choices=Model.Capability.values, default="chat")
        for name in _LIMITS:
            add.add_argument(f"--{name.replace('_', '-')}", type=int)
        for name in PRICE_COLUMNS:
            add.add_argument(f"--{name.replace('_', '-')}", metavar="USD")
        add.add_argument(f"--{LONG_CONTEXT.replace('_', '-')}", type=int, metavar="TOKENS")
        add.add_argument("--tenant", help="The tenant whose own it is (slug or id).")
        add_if_missing(add)

    def add(self, options: Options) -> None:
        tenant = _tenant(options)
        if options["if_missing"]:
            found = Model.objects.filter(name=options["id"], tenant=tenant).first()
            if found is not None:
                told = f"There is already a model {found.name}."
                self.answer({**_row(found), "created": False}, told)
                return
        target = {
            "provider": options["provider"],
            "upstream_model": options["upstream_model"] or options["id"],
        }
        fields: dict[str, Any] = {"capability": options["capability"], "targets": [target]}
        fields |= {name: options[name] for name in _LIMITS if options[name] is not None}
        given = (*PRICE_COLUMNS, LONG_CONTEXT)
        price = {name: options[name] for name in given if options[name] is not None}
        if price:
            fields["prices"] = [price]
        model = model_services.create_model(
            actor=shell_actor(), tenant_id=tenant.id if tenant else None, id=options["id"], **fields
        )
        self.answer({**_row(model), "created": True}, f"Added model {model.name}.")

    def list(self, options: Options) -> None:
        chosen = Model.objects.filter(tenant=_tenant(options)).prefetch_related("targets__provider")
        rows = [_row(model) for model in chosen.order_by("name")[: options["limit"]]]
        self.answer_rows(rows, ("model", "capability", "targets", "is_active"))

    def import_models(self, options: Options) -> None:
        provider = find_provider(options["provider"], _tenant(options))
        tell_import(self, provider, options["match"], self._progress)

    def _progress(self, done: int, of: int) -> None:
        if done and done % 50 == 0 and sys.stderr.isatty():
            self.tell(f"{done} of {of} models …")


def _tenant(options: Options) -> Tenant | None:
    return find_tenant(options["tenant"]) if options["tenant"] else None


def _row(model: Model) -> dict[str, Any]:
    served = [target for target in model.targets.all() if target.provider is not None]
    return {
        "id": model.id,
        "model": model.name,
        "capability": str(model.capability),
        "targets": [f"{it.provider}/{it.upstream_model}" for it in served],
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "is_active": model.is_active,
    }
