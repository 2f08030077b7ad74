"""The whole suite: one pytest run on SQLite, one on PostgreSQL with what touches a database, one closing line for both.

`python -m tests.run [arguments for pytest]`. `TEST_DATABASE=sqlite` or `postgres` makes it one run. With `REQUIRE_SERVICES=1`
a service that does not answer is a failure.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.support import environment, services

NOTHING_COLLECTED = 5
WORKERS = "2"


class Reason(NamedTuple):
    database: str
    sentence: str


@dataclass
class Tally:
    """What came out of all runs so far."""

    counts: Counter[str] = field(default_factory=Counter)
    skips: Counter[Reason] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.broken and not self.counts["failed"] and self.counts["passed"] > 0

    def closing_line(self, seconds: float) -> str:
        """In pytest's own style."""
        failed = self.counts["failed"] + len(self.broken)
        numbers = [
            (failed, "failed"),
            (self.counts["passed"], "passed"),
            (self.counts["skipped"], "skipped"),
        ]
        told = ", ".join(f"{number} {word}" for number, word in numbers if number) or "no tests ran"
        return f"===== {told} in {seconds:.0f}s ====="


def main(arguments: list[str]) -> int:
    started = time.monotonic()
    tally = Tally()
    for database in _databases(tally):
        _run(database, arguments, tally)
    for reason, count in sorted(tally.skips.items()):
        _say(f"not run on {reason.database}: {count} × {reason.sentence}")
    for sentence in tally.broken:
        _say(f"failed: {sentence}")
    line = tally.closing_line(time.monotonic() - started)
    if summary := os.environ.get("TEST_SUMMARY_FILE"):
        Path(summary).write_text(line + "\n")
    _say(line)
    return 0 if tally.is_good else 1


def _databases(tally: Tally) -> Iterator[str]:
    chosen = os.environ.get("TEST_DATABASE")
    if chosen != "postgres":
        yield "sqlite"
    if chosen == "sqlite":
        return
    if services.postgres_answers():
        services.drop_left_behind()
        yield "postgres"
    elif os.environ.get("REQUIRE_SERVICES") == "1":
        tally.broken.append("PostgreSQL does not answer at TEST_POSTGRES_URL (REQUIRE_SERVICES=1)")
    else:
        tally.skips[
            Reason("postgres", "the whole run: PostgreSQL does not answer at TEST_POSTGRES_URL")
        ] = 1
        tally.counts["skipped"] += 1


def _run(database: str, arguments: list[str], tally: Tally) -> None:
    """One pytest run; its own output goes straight to the reader."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-report-") as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            WORKERS,
            "--dist=loadfile",  # servers that a file's tests share start once
            f"--junit-xml={report}",
            *arguments,
        ]
        _say(f"----- tests on {database} -----")
        code = subprocess.call(
            command, cwd=environment.ROOT, env=os.environ | {"TEST_DATABASE": database}
        )
        seen = _read(report, database, tally)
    if code not in (0, 1) and not (code == NOTHING_COLLECTED and database == "postgres"):
        tally.broken.append(f"pytest on {database} exited {code}")
    elif code == 1 and not seen["failed"]:
        tally.broken.append(f"pytest on {database} failed outside of any test")


def _read(report: Path, database: str, tally: Tally) -> Counter[str]:
    """Add a JUnit report to the tally; returns the counts of this run alone."""
    counts: Counter[str] = Counter()
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - written by our own pytest
            counts[_verdict(case, database, tally)] += 1
    tally.counts += counts
    return counts


def _verdict(case: ElementTree.Element, database: str, tally: Tally) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    skipped = case.find("skipped")
    if skipped is None:
        return "passed"
    tally.skips[Reason(database, skipped.get("message", "without a reason"))] += 1
    return "skipped"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
