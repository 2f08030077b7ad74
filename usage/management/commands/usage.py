"""`usage reconcile|export|prune`: whether the books agree, the money lines themselves, and what is kept of calls no longer.

`reconcile` exits 0 when everything agrees, and 1 when anything does not; nothing is repaired. Meant for every night.
"""

import json
import re
from datetime import date
from typing import Any, Final

from django.core.management.base import CommandParser

from tenants.audit import Entry, Target
from tenants.changes import note
from tenants.chores import Sweep
from tenants.clock import SYSTEM
from tenants.commands import Actions, HouseCommand, Options, plain, shell_actor
from tenants.errors import Invalid
from usage import day_closing
from usage.forgetting import CHORES
from usage.models import LedgerEntry
from usage.reconciling import reconcile

_MONTH: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])", re.ASCII)
_CHUNK: Final = 2_000


class Command(HouseCommand):
    help = "Usage: reconcile, export, prune."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        reconciling = actions.add(
            "reconcile", self.reconcile, "Compare ledger, sums, log and balances; close past days."
        )
        reconciling.add_argument("--month", help="Such as 2026-01; else this one and the last.")
        export = actions.add(
            "export", self.export, "Write the money lines of a month as JSON lines."
        )
        export.add_argument("--month", required=True, help="Such as 2026-01.")
        prune = actions.add(
            "prune", self.prune, "Delete what is past its time: log rows, bodies. Money lines stay."
        )
        prune.add_argument("--dry-run", action="store_true", help="Count, and delete nothing.")

    def reconcile(self, options: Options) -> None:
        months = [_month(options["month"])] if options["month"] else _latest()
        changed = day_closing.altered(months)
        verdict = reconcile(months)
        closed = day_closing.close_days(shell_actor(), months)
        agrees = not verdict.count and not changed
        compared = f"{verdict.calls} calls, {verdict.rollups} sums, {verdict.balances} balances"
        lines = [f"{', '.join(months)}: {compared} compared, {len(closed)} days closed."]
        lines += [f"{it.what}: {it.found}, not {it.expected}" for it in verdict.differences]
        if verdict.count > len(verdict.differences):
            lines.append(f"… and {verdict.count - len(verdict.differences)} more.")
        lines += [f"{day}: closed entries were changed" for day in changed]
        self.answer(
            {
                "ok": agrees,
                "months": months,
                "calls": verdict.calls,
                "rollups": verdict.rollups,
                "balances": verdict.balances,
                "differences": [it._asdict() for it in verdict.differences],
                "difference_count": verdict.count,
                "altered_days": changed,
                "closed_days": [it.day for it in closed],
            },
            *lines,
        )
        if not agrees:
            raise SystemExit(1)

    def export(self, options: Options) -> None:
        """One line per money line, oldest first; memory holds a page of them."""
        lines: Any = LedgerEntry.objects.filter(month=_month(options["month"])).order_by("id")
        for row in lines.values().iterator(_CHUNK):
            self.stdout.write(json.dumps(row, ensure_ascii=False, default=_plain))

    def prune(self, options: Options) -> None:
        """The part of `housekeeping` that is about calls."""
        now, is_dry = SYSTEM.now(), options["dry_run"]
        if is_dry:
            rows = {chore.name: chore.count(now) for chore in CHORES}
        else:
            sweep = Sweep(shell_actor())
            for chore in CHORES:
                sweep.do(chore, now)
            rows = sweep.rows
            note(Entry(sweep.actor, "usage.pruned", Target("usage", "calls"), details={**rows}))
        self.answer(
            {"dry_run": is_dry, "rows": rows, "total": sum(rows.values())},
            *(f"{rows[chore.name]:>10}  {chore.name}: {chore.what}" for chore in CHORES),
            f"{sum(rows.values())} rows {'would go' if is_dry else 'went'}.",
        )


def _plain(value: object) -> str:
    return str(value) if type(value) is date else plain(value)


def _month(text: str) -> str:
    if not _MONTH.fullmatch(text):
        raise Invalid.field("month", "must be a month like 2026-01.")
    return text


def _latest() -> list[str]:
    """The month before this one, and this one."""
    now = SYSTEM.now()
    year, month = (now.year - 1, 12) if now.month == 1 else (now.year, now.month - 1)
    return [f"{year:04d}-{month:02d}", f"{now:%Y-%m}"]
