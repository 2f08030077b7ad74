"""`doctor`: everything that can be looked at, each with a sentence. Exits 1 when something has failed, 0 with warnings."""

from django.core.management.base import CommandParser

from gateway import checks
from gateway.checks import Finding, State
from gateway.version import VERSION
from tenants.commands import HouseCommand, Options, add_json

_MARKS = {State.OK: "ok  ", State.WARNING: "warn", State.FAILED: "FAIL"}


class Command(HouseCommand):
    help = "Look at everything that Gatehouse needs, and say what is wrong."

    def add_arguments(self, parser: CommandParser) -> None:
        add_json(parser)

    def run(self, options: Options) -> None:
        findings = checks.Watch().findings(checks.FOR_DOCTOR)
        failed = [found.name for found in findings if found.state is State.FAILED]
        self.answer(
            {
                "ok": not failed,
                "version": VERSION,
                "checks": [
                    {
                        "name": found.name,
                        "state": found.state.value,
                        "message": found.sentence,
                        "details": found.details,
                    }
                    for found in findings
                ],
            },
            *(self._line_of(found) for found in findings),
        )
        if failed:
            self.as_json = False  # the answer is out already
            raise self.error(f"Failed: {', '.join(failed)}.")

    def _line_of(self, found: Finding) -> str:
        return f"{_MARKS[found.state]}  {found.name:<12} {found.sentence}"
