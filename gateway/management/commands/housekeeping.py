"""`housekeeping`: deletes what is over, a batch at a time, while others work; with `--dry-run` it counts.

Workers do it by themselves unless `GATEHOUSE_HOUSEKEEPING=off`; then cron should, daily.
"""

import sys

from django.core.management.base import CommandParser

from gateway import housekeeping
from gateway.housekeeping import CHORES, Report
from tenants import duties
from tenants.chores import Chore, Sweep
from tenants.clock import SYSTEM
from tenants.commands import HouseCommand, Options, add_json, shell_actor

#: Rows after which it is said how far it is.
_TOLD_EVERY = 20_000


class Command(HouseCommand):
    help = "Delete what is over: log rows, bodies, sessions and more, each past its time."

    def add_arguments(self, parser: CommandParser) -> None:
        add_json(parser)
        parser.add_argument("--dry-run", action="store_true", help="Count, and delete nothing.")
        parser.add_argument(
            "--only",
            action="append",
            metavar="TABLE",
            choices=[chore.name for chore in CHORES],
            help=f"One of {', '.join(chore.name for chore in CHORES)}; may be given several times.",
        )

    def run(self, options: Options) -> None:
        only = options["only"]
        chores = [chore for chore in CHORES if not only or chore.name in only]
        is_dry = options["dry_run"]
        report = housekeeping.count(chores) if is_dry else self._do(chores)
        if not is_dry and not only:
            duties.note_done(housekeeping.DAILY, SYSTEM.now())
        verb = "would go" if is_dry else "went"
        self.answer(
            {"dry_run": is_dry, "rows": report.rows, "total": report.total},
            *(f"{report.rows[chore.name]:>10}  {chore.name}: {chore.what}" for chore in chores),
            f"{report.total} rows {verb}.",
        )

    def _do(self, chores: list[Chore]) -> Report:
        deleted = told = 0

        def progress(number: int) -> None:
            nonlocal deleted, told
            deleted += number
            if sys.stderr.isatty() and deleted - told >= _TOLD_EVERY:
                told = deleted
                self.tell(f"{deleted} rows …")

        return housekeeping.run(Sweep(shell_actor(), progress=progress), chores)
