"""`prices import|rerate`: what models cost, and what calls cost after a price was wrong."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from django.core.management.base import CommandParser

from providers import price_table
from providers.price_import import Proposal, import_prices
from providers.price_table import BadTable, PriceTable
from tenants import validation
from tenants.commands import Actions, HouseCommand, Options, printable, shell_actor
from tenants.errors import Invalid
from tenants.services import find_tenant
from usage import rerating
from usage.money import usd_text
from usage.rerating import Sums, Task

#: Models that the text names; the JSON has all.
_NAMED: Final = 50


class Command(HouseCommand):
    help = "Prices: import from a list, re-rate calls after a price was wrong."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        taking = actions.add("import", self.import_prices, "Give models their listed prices.")
        taking.add_argument("--file", help="A newer list, as genai-prices publishes it.")
        taking.add_argument("--model", default="*", metavar="GLOB", help="Only names that fit.")
        taking.add_argument(
            "--missing", action="store_true", help="Leave models alone that have a price."
        )
        taking.add_argument("--dry-run", action="store_true", help="Only say what would happen.")
        rating = actions.add("rerate", self.rerate, "Correct what calls cost; says what, first.")
        rating.add_argument("--model", required=True, help="The public name.")
        rating.add_argument("--tenant", help="Of a tenant's own model or price (slug or id).")
        rating.add_argument("--since", required=True, help="A time like 2026-01-31T12:00:00Z.")
        rating.add_argument("--until", help="Up to, and without, that time; else now.")
        rating.add_argument("--reason", default="price corrected", help="For the ledger.")
        rating.add_argument("--apply", action="store_true", help="Write the corrections.")

    # --- import

    def import_prices(self, options: Options) -> None:
        table = _table(options["file"])
        proposals = import_prices(
            actor=shell_actor(),
            table=table,
            match=options["model"],
            missing=options["missing"],
            dry_run=options["dry_run"],
            progress=self._progress,
        )
        if not proposals:
            raise Invalid.field("model", "fits no model.")
        rows = [_row(proposal) for proposal in proposals]
        data = {"source": table.source, "dry_run": options["dry_run"], "models": rows}
        self.answer(data, *_lines(proposals, table, dry_run=options["dry_run"]))

    def _progress(self, done: int) -> None:
        if done and done % 100 == 0 and sys.stderr.isatty():
            self.tell(f"{done} …")

    # --- rerate

    def rerate(self, options: Options) -> None:
        since = validation.moment("since", options["since"])
        until = validation.moment("until", options["until"])
        if since is None:
            raise Invalid.field("since", "must be given.")
        tenant = find_tenant(options["tenant"]) if options["tenant"] else None
        task = rerating.task_named(options["model"], tenant, since, until)
        applied: bool = options["apply"]
        if applied:
            sums = rerating.rerate(
                actor=shell_actor(), task=task, reason=options["reason"], progress=self._progress
            )
        else:
            sums = rerating.preview(task, self._progress)
        self.answer(_sums(task, sums, applied=applied), *_told(sums, applied=applied))


def _table(path: str | None) -> PriceTable:
    if path is None:
        return price_table.built_in()
    try:
        return price_table.load(Path(path))
    except BadTable as fault:
        raise Invalid.field("file", str(fault)) from None
    except OSError as fault:
        raise Invalid.field("file", f"cannot be read: {fault.strerror}.") from None


def _row(proposal: Proposal) -> dict[str, Any]:
    model = proposal.model
    return {
        "model": model.name,
        "tenant": model.tenant_id,
        "state": proposal.state,
        "listed_as": proposal.listed or None,
        "prices": proposal.prices() if proposal.fields else [],
        "left_out": list(proposal.left_out),
        "note": proposal.note or None,
    }


def _lines(proposals: Sequence[Proposal], table: PriceTable, *, dry_run: bool) -> Iterator[str]:
    counts = Counter(proposal.state for proposal in proposals)
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    yield f"{table.source}: {told}.{' Nothing was written.' if dry_run else ''}"
    changed = [proposal for proposal in proposals if proposal.is_change]
    for proposal in changed[:_NAMED]:
        fields = proposal.fields
        left_out = f"; without {', '.join(proposal.left_out)}" if proposal.left_out else ""
        yield printable(
            f"{proposal.state:8}  {proposal.model.name}: {fields['input_usd_per_mtok']} in,"
            f" {fields['output_usd_per_mtok']} out{left_out}"
        )
    rest = len(changed) - _NAMED
    if rest > 0:
        yield f"and {rest} more."
    nameless = [it for it in proposals if it.state in {"unknown", "unusable"}]
    for proposal in nameless[:_NAMED]:
        why = proposal.note or "no list has it"
        yield printable(f"{proposal.state:8}  {proposal.model.name}: {why}")


def _sums(task: Task, sums: Sums, *, applied: bool) -> dict[str, Any]:
    return {
        "model": task.model.name,
        "price": task.price.id,
        "since": task.since,
        "until": task.until,
        "applied": applied,
        "calls": sums.calls,
        "wrong": sums.wrong,
        "unpriced": sums.unpriced,
        "was_usd": usd_text(sums.was),
        "now_usd": usd_text(sums.now),
        "delta_usd": usd_text(sums.delta),
        "first": [
            {
                "request_id": rating.request_id,
                "tenant": rating.tenant,
                "was_usd": None if rating.was is None else usd_text(rating.was),
                "now_usd": usd_text(rating.now),
            }
            for rating in sums.first
        ],
    }


def _told(sums: Sums, *, applied: bool) -> Iterator[str]:
    yield (
        f"{sums.wrong} of {sums.calls} calls cost something else: {usd_text(sums.now)} USD,"
        f" not {usd_text(sums.was)} ({sums.unpriced} had no price)."
    )
    yield (
        f"Correction lines of {usd_text(sums.delta)} USD were written."
        if applied
        else "Nothing was written; --apply does it."
    )
