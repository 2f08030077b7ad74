"""`import_from litellm|one-api|sha256`: what another gateway had, brought here; its keys go on opening the door."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from django.core.management.base import CommandParser

from gateway.config_file.sources import on_this_machine
from gateway.imports import (
    carrying,
    databases,
    files,
    hashes,
    litellm_keys,
    litellm_models,
    one_api,
)
from gateway.imports.carrying import Outcome, Thing
from gateway.imports.files import Row
from gateway.imports.one_api import TABLES as OF_ONE_API
from gateway.imports.plan import Fault, Plan
from tenants.clock import SYSTEM
from tenants.commands import Actions, HouseCommand, Options, printable, shell_actor
from tenants.errors import Invalid
from tenants.services import DEFAULT_SLUG, find_tenant
from usage.money import usd_text

#: Lines of one sort that the text names; the JSON has all.
_NAMED: Final = 50
#: Options that name files beside the keys', and the tables that are in them.
_TABLE_OF: Final = {
    "teams": litellm_keys.TEAMS,
    "users": litellm_keys.USERS,
    "budgets": litellm_keys.BUDGETS,
}
_STATES: Final = {
    "added": "",
    "existing": "is here already",
    "gone": "was here before, and was rotated, revoked or deleted: it stays so",
}


class Command(HouseCommand):
    help = "Bring keys from another gateway, so that they go on opening the door: litellm, one-api, sha256."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        by_hash = actions.add("sha256", self.sha256, "From a table of SHA-256 hashes of keys.")
        by_hash.add_argument(
            "file", metavar="FILE", help="CSV with a head line, JSON or JSON lines."
        )
        litellm = actions.add("litellm", self.litellm, "From LiteLLM's configuration and tables.")
        litellm.add_argument("--config", metavar="FILE", help="Its config.yaml.")
        litellm.add_argument(
            "--keys",
            metavar="FILE|ADDRESS",
            help=f"Its database (postgres://…, sqlite:///…), or {litellm_keys.KEYS} as CSV or JSON.",
        )
        for name, table in _TABLE_OF.items():
            litellm.add_argument(f"--{name}", metavar="FILE", help=f"{table} as CSV or JSON.")
        _add_shared(litellm)
        one_api = actions.add("one-api", self.one_api, "From the tables of one-api or new-api.")
        one_api.add_argument(
            "--database", metavar="ADDRESS", help="Its database: sqlite:///…, postgres://…."
        )
        for name in OF_ONE_API:
            one_api.add_argument(f"--{name}", metavar="FILE", help=f"Its {name} as CSV or JSON.")
        _add_shared(one_api)
        for each in (by_hash, litellm, one_api):
            _add_common(each)

    def litellm(self, options: Options) -> None:
        if not options["config"] and not options["keys"]:
            raise Invalid.field("config", "or --keys must be given: there is nothing to read.")
        self._carry(options, lambda: _litellm(options))

    def sha256(self, options: Options) -> None:
        self._carry(options, lambda: hashes.read(options["file"]))

    def one_api(self, options: Options) -> None:
        self._carry(options, lambda: _one_api(options))

    def _carry(self, options: Options, read: Callable[[], Plan]) -> None:
        tenant = find_tenant(options["tenant"])
        plan = read()
        if plan.faults and not options["skip_bad"]:
            raise self._refused(plan.faults)
        dry_run: bool = options["dry_run"]
        outcome = carrying.carry_out(
            actor=shell_actor(),
            plan=plan,
            tenant_id=tenant.id,
            shared=bool(options.get("shared")),
            dry_run=dry_run,
        )
        data = {
            "source": plan.source,
            "tenant": tenant.slug,
            "dry_run": dry_run,
            "counts": outcome.counts(),
            "things": [_row(thing) for thing in outcome.things],
            "left_behind": [item._asdict() for item in plan.left_behind],
            "skipped": [fault._asdict() for fault in plan.faults],
        }
        self.answer(data, *_lines(plan, outcome, tenant.slug, dry_run=dry_run))

    def _refused(self, faults: Sequence[Fault]) -> Exception:
        said = "; ".join(printable(f"{it.where} {it.sentence}") for it in faults[:_NAMED])
        rest = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        return Invalid(
            f"{len(faults)} rows cannot be taken, so nothing was (--skip-bad leaves them out): {said}{rest}",
            fields={fault.where: fault.sentence for fault in faults},
        )


def _litellm(options: Options) -> Plan:
    plan = Plan("litellm")
    groups: dict[str, list[str]] = {}
    if options["config"]:
        text = files.read_text(options["config"], "config")
        groups = litellm_models.read(plan, text, _variable)
    tables: dict[str, list[Row]] = {}
    if options["keys"]:
        tables = _tables(options["keys"])
    for name, table in _TABLE_OF.items():
        if options[name]:
            tables[table] = files.read_rows(options[name], name)
    litellm_keys.read(plan, tables, groups, SYSTEM.now())
    return plan


def _one_api(options: Options) -> Plan:
    plan = Plan("one-api")
    tables: dict[str, list[Row]] = {}
    if options["database"]:
        if not databases.is_address(options["database"]):
            raise Invalid.field("database", "must begin with sqlite:/// or postgres://.")
        tables = databases.read_tables(options["database"], OF_ONE_API, "database")
    for name in OF_ONE_API:
        if options[name]:
            tables[name] = files.read_rows(options[name], name)
    if not tables:
        raise Invalid.field("database", "has none of its tables; or give --channels, --tokens.")
    one_api.read(plan, tables)
    return plan


def _tables(place: str) -> dict[str, list[Row]]:
    """What is there of LiteLLM's tables: a database has them, a JSON object may, and any other file is the table of keys."""
    if databases.is_address(place):
        return databases.read_tables(place, litellm_keys.TABLES, "keys")
    found = files.read_tables(place, "keys") or {}
    named = {name: rows for name, rows in found.items() if name in litellm_keys.TABLES}
    return named or {litellm_keys.KEYS: files.read_rows(place, "keys")}


def _variable(name: str) -> str:
    """A variable of this machine; empty where it is not set, or is a secret of this house."""
    try:
        secret = on_this_machine(Path())("env", name)
    except Invalid:
        return ""
    return secret.reveal().decode() if secret else ""


def _add_shared(parser: CommandParser) -> None:
    parser.add_argument(
        "--shared",
        action="store_true",
        help="Providers and models are everybody's, not this tenant's own.",
    )


def _add_common(parser: CommandParser) -> None:
    parser.add_argument(
        "--tenant", default=DEFAULT_SLUG, help="Whose all of it is to be (slug or id; default)."
    )
    parser.add_argument("--dry-run", action="store_true", help="Only say what would happen.")
    parser.add_argument("--skip-bad", action="store_true", help="Leave out rows that are no good.")


def _row(thing: Thing) -> dict[str, Any]:
    return {
        "kind": thing.kind,
        "name": thing.name,
        "state": thing.state,
        "key_prefix": thing.shown or None,
        "used_usd": usd_text(thing.used) if thing.used else None,
    }


def _lines(plan: Plan, outcome: Outcome, slug: str, *, dry_run: bool) -> Iterator[str]:
    counts = outcome.counts()
    told = ", ".join(
        f"{of_kind['added']} {kind}" for kind, of_kind in counts.items() if of_kind["added"]
    )
    here = sum(of_kind["existing"] for of_kind in counts.values())
    gone = sum(of_kind["gone"] for of_kind in counts.values())
    yield (
        f"From {plan.source} to tenant {slug}: {told or 'nothing new'}; {here} here already, {gone} not"
        f" brought back.{' Nothing was written.' if dry_run else ''}"
    )
    yield from _first(_thing_line(thing) for thing in outcome.things)
    if plan.left_behind:
        yield f"{len(plan.left_behind)} things have no place here:"
        yield from _first(
            printable(f"  {it.whose}: {it.what}: {it.why}") for it in plan.left_behind
        )
    if plan.faults:
        yield f"{len(plan.faults)} rows were left out:"
        yield from _first(printable(f"  {it.where} {it.sentence}") for it in plan.faults)


def _thing_line(thing: Thing) -> str:
    shown = f" ({thing.shown})" if thing.shown else ""
    used = f", {usd_text(thing.used)} USD of it used" if thing.used else ""
    state = _STATES[thing.state]
    return printable(f"  {thing.kind[:-1]} {thing.name}{shown}{used}{': ' if state else ''}{state}")


def _first(lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number >= _NAMED:
            yield "  and more; --json names all."
            return
        yield line
