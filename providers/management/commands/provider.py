"""`provider add|list|test|import-models|rotate-credential`: upstream accounts. A credential comes from a file, never the line."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from providers import discovery, presets, services
from providers.models import Provider
from tenants.commands import (
    Actions,
    HouseCommand,
    Options,
    add_if_missing,
    add_limit,
    read_secret,
    shell_actor,
)
from tenants.errors import Invalid
from tenants.models import Tenant
from tenants.services import find_tenant

_WHERE = ("base_url", *services.ACCOUNT_FIELDS)


class Command(HouseCommand):
    help = "Upstream accounts: add, list, test, import-models, rotate-credential."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        add = actions.add("add", self.add, "Add an account, and the models that it lists.")
        add.add_argument("--name", required=True)
        add.add_argument("--kind", required=True, help=", ".join(presets.PRESETS))
        add.add_argument("--base-url", help="Where it is; most kinds know.")
        add.add_argument("--deployment", help="Of an azure account, if it is to be one deployment.")
        add.add_argument("--api-version", help="Of an azure account, if not the default.")
        add.add_argument("--no-import", action="store_true", help="Add no models.")
        add_if_missing(add)
        add_limit(actions.add("list", self.list, "Show the accounts, never their credentials."))
        test = actions.add("test", self.test, "Ask the upstream for its models.")
        taking = actions.add("import-models", self.import_models, "Add what the upstream lists.")
        taking.add_argument("--match", default="*", metavar="GLOB", help="Only ids that fit.")
        rotate = actions.add("rotate-credential", self.rotate, "Put another credential in place.")
        for named in (test, taking, rotate):
            named.add_argument("provider", metavar="PROVIDER", help="Its name or id.")
        for owned in (add, test, taking, rotate):
            owned.add_argument("--tenant", help="A tenant's own (slug or id); else a shared one.")
        for keyed in (add, rotate):
            keyed.add_argument(
                "--api-key-file",
                metavar="FILE",
                required=keyed is rotate,
                help="A file that holds it (-: standard input).",
            )

    def add(self, options: Options) -> None:
        tenant = _tenant(options)
        if options["if_missing"]:
            found = Provider.objects.filter(name=options["name"], tenant=tenant).first()
            if found is not None:
                told = f"There is already a provider {found.name}."
                self.answer({**_row(found), "created": False, "models_added": 0}, told)
                return
        fields = {"name": options["name"], "kind": options["kind"]}
        fields |= {it: options[it] for it in _WHERE if options[it]}
        if options["api_key_file"]:
            fields["api_key"] = read_secret(options["api_key_file"], "api_key")
        provider = services.create_provider(
            actor=shell_actor(), tenant_id=tenant.id if tenant else None, **fields
        )
        added = 0 if options["no_import"] else self._first_models(provider)
        self.answer(
            {**_row(provider), "created": True, "models_added": added},
            f"Added provider {provider.name} with {added} models.",
        )

    def _first_models(self, provider: Provider) -> int:
        """The account is added whatever its upstream says just now."""
        try:
            imported = discovery.import_models(
                actor=shell_actor(), provider_id=provider.id, progress=self._progress
            )
        except (discovery.UpstreamSilent, Invalid) as fault:
            self.tell(f"No models were added: {fault.message}")
            return 0
        return len(imported.added)

    def list(self, options: Options) -> None:
        chosen = Provider.objects.select_related("tenant").prefetch_related("credentials")
        rows = [_row(it) for it in chosen.order_by("tenant__slug", "name")[: options["limit"]]]
        self.answer_rows(rows, ("name", "kind", "tenant", "base_url", "has_api_key", "is_active"))

    def test(self, options: Options) -> None:
        provider = _find(options)
        result = discovery.test_provider(actor=shell_actor(), provider_id=provider.id)
        data = {
            "ok": result.ok,
            "status": result.status,
            "latency_ms": result.latency_ms,
            "message": result.sentence,
            "models": result.models,
        }
        self.answer(data, *([result.sentence] if result.ok else []))
        if not result.ok:
            self.as_json = False  # the answer is out already
            raise self.error(result.sentence, code=discovery.UpstreamSilent.code)

    def import_models(self, options: Options) -> None:
        tell_import(self, _find(options), options["match"], self._progress)

    def rotate(self, options: Options) -> None:
        provider = services.rotate_credential(
            actor=shell_actor(),
            provider_id=_find(options).id,
            api_key=read_secret(options["api_key_file"], "api_key"),
        )
        self.answer(_row(provider), f"Provider {provider.name} has a new credential.")

    def _progress(self, done: int, of: int) -> None:
        if done and done % 50 == 0 and sys.stderr.isatty():
            self.tell(f"{done} of {of} models …")


def tell_import(
    command: HouseCommand, provider: Provider, match: str, progress: discovery.Progress
) -> None:
    """What `provider import-models` and `model import` both do."""
    result = discovery.import_models(
        actor=shell_actor(), provider_id=provider.id, match=match, progress=progress
    )
    source = " from the built-in list, for it did not answer" if result.offline else ""
    command.answer(
        {"added": result.added, "skipped": result.skipped, "offline": result.offline},
        f"Added {len(result.added)} models{source}; left out {len(result.skipped)}.",
    )


def _tenant(options: Options) -> Tenant | None:
    return find_tenant(options["tenant"]) if options["tenant"] else None


def _find(options: Options) -> Provider:
    return services.find_provider(options["provider"], _tenant(options))


def _row(provider: Provider) -> dict[str, Any]:
    return {
        "id": provider.id,
        "name": provider.name,
        "kind": provider.kind,
        "tenant": provider.tenant.slug if provider.tenant else None,
        "base_url": provider.base_url or presets.preset(provider.kind).base_url,
        "has_api_key": any(it.retired_at is None for it in provider.credentials.all()),
        "is_active": provider.is_active,
    }
