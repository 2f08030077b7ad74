"""The whole suite: a pytest run on SQLite, one on PostgreSQL with what touches a database, and one for each further way of
serving calls with what is about calls (`data_plane`), on SQLite. One closing line for all.

A test that failed beside others is tried once more, alone, if they were few: a machine that was busy for a moment is told from
a fault. Which ones needed that is said at the end.

`python -m tests.run [arguments for pytest]`; with arguments the further ways are left out. `TEST_DATABASE=sqlite` or
`postgres` leaves out the other. With `REQUIRE_SERVICES=1` a service that does not answer is a failure.
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
from tests.support.server import end_seeds

NOTHING_COLLECTED = 5
#: More than there are cores: tests of servers wait more than they work.
WORKERS = "3"
#: More failures than these are not the machine's.
FEW = 3


class Reason(NamedTuple):
    run: str
    sentence: str


@dataclass(frozen=True)
class Run:
    """One pytest run. `environment` goes over the process's own."""

    name: str
    environment: dict[str, str]
    mark: str = ""
    may_be_empty: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """For pytest. Of 240 files no worker needs to read any but those that name the mark."""
        if not self.mark:
            return ()
        files = sorted((environment.ROOT / "tests").rglob("test_*.py"))
        naming = (str(file) for file in files if self.mark in file.read_text())
        return ("-m", self.mark, *naming)


SQLITE = Run("sqlite", {"TEST_DATABASE": "sqlite"})
POSTGRES = Run("postgres", {"TEST_DATABASE": "postgres"}, may_be_empty=True)
_OF_CALLS = "data_plane"
FURTHER_WAYS = (
    Run("sqlite, calls by the views", {**SQLITE.environment, "TEST_EXPRESS": "off"}, _OF_CALLS),
    Run("sqlite, upstreams by httpx", {**SQLITE.environment, "TEST_TRANSPORT": "httpx"}, _OF_CALLS),
)


@dataclass
class Tally:
    """What came out of all runs so far."""

    counts: Counter[str] = field(default_factory=Counter)
    skips: Counter[Reason] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    tried_again: list[str] = field(default_factory=list)

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
            (len(self.tried_again), "rerun"),
        ]
        told = ", ".join(f"{number} {word}" for number, word in numbers if number) or "no tests ran"
        return f"===== {told} in {seconds:.0f}s ====="


def main(arguments: list[str]) -> int:
    started = time.monotonic()
    tally = Tally()
    environment.seeds_folder()  # all runs copy the same
    try:
        for run in _runs(arguments, tally):
            _run(run, arguments, tally)
    finally:
        end_seeds()
    for reason, count in sorted(tally.skips.items()):
        _say(f"not run on {reason.run}: {count} × {reason.sentence}")
    for name in tally.tried_again:
        _say(f"failed beside others, passed alone: {name}")
    for sentence in tally.broken:
        _say(f"failed: {sentence}")
    line = tally.closing_line(time.monotonic() - started)
    if summary := os.environ.get("TEST_SUMMARY_FILE"):
        Path(summary).write_text(line + "\n")
    _say(line)
    return 0 if tally.is_good else 1


def _runs(arguments: list[str], tally: Tally) -> Iterator[Run]:
    chosen = os.environ.get("TEST_DATABASE")
    if chosen != "postgres":
        yield SQLITE
        if not arguments:
            yield from FURTHER_WAYS
    if chosen == "sqlite":
        return
    if services.postgres_answers():
        services.drop_left_behind()
        yield POSTGRES
    elif os.environ.get("REQUIRE_SERVICES") == "1":
        tally.broken.append("PostgreSQL does not answer at TEST_POSTGRES_URL (REQUIRE_SERVICES=1)")
    else:
        tally.skips[
            Reason("postgres", "the whole run: PostgreSQL does not answer at TEST_POSTGRES_URL")
        ] = 1
        tally.counts["skipped"] += 1


def _run(run: Run, arguments: list[str], tally: Tally) -> None:
    """One pytest run, and the second try of what failed in it; their own output goes straight to the reader."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-report-") as folder:
        together = (
            "-n",
            WORKERS,
            "--dist=loadfile",  # servers that a file's tests share start once
            "--no-loadscope-reorder",  # by the order of tests/conftest.py
        )
        _say(f"----- tests on {run.name} -----")
        seen = _pytest(run, (*together, *arguments), Path(folder))
        if 0 < len(seen.failed) <= FEW and seen.code == 1:
            _say(f"----- once more, alone: {len(seen.failed)} on {run.name} -----")
            alone = ("-n", "0", "--last-failed", "--last-failed-no-failures=none")
            seen = seen.after(_pytest(run, (*alone, *arguments), Path(folder)))
    tally.counts += seen.counts
    tally.tried_again += seen.tried_again
    tally.skips.update(Reason(run.name, sentence) for sentence in seen.skips)
    if seen.code not in (0, 1) and not (seen.code == NOTHING_COLLECTED and run.may_be_empty):
        tally.broken.append(f"pytest on {run.name} exited {seen.code}")
    elif seen.code == 1 and not seen.failed:
        tally.broken.append(f"pytest on {run.name} failed outside of any test")


@dataclass
class Seen:
    """What one call of pytest came to."""

    code: int
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skips: list[str] = field(default_factory=list)
    tried_again: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        numbers = {"passed": self.passed, "failed": self.failed, "skipped": self.skips}
        return Counter({word: len(those) for word, those in numbers.items()})

    def after(self, second: "Seen") -> "Seen":
        """With the second try's verdict on what failed in the first. What it did not come to stays failed."""
        mended = self.failed & (second.passed - second.failed)
        return Seen(
            code=second.code if mended == self.failed else 1,
            passed=self.passed | mended,
            failed=self.failed - mended,
            skips=self.skips,
            tried_again=sorted(mended),
        )


def _pytest(run: Run, arguments: tuple[str, ...], folder: Path) -> Seen:
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}"]
    # What failed last time is remembered apart from the developer's own cache.
    command += ["-o", f"cache_dir={folder / 'cache'}", *run.arguments, *arguments]
    code = subprocess.call(command, cwd=environment.ROOT, env=os.environ | run.environment)
    seen = Seen(code)
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - written by our own pytest
            _note(case, seen)
    return seen


def _note(case: ElementTree.Element, seen: Seen) -> None:
    """Add one test to what was seen. A test that broke in its clean-up comes twice, and has failed."""
    name = f"{case.get('classname')}::{case.get('name')}"
    skipped = case.find("skipped")
    if case.find("failure") is not None or case.find("error") is not None:
        seen.failed.add(name)
        seen.passed.discard(name)
    elif skipped is not None:
        seen.skips.append(skipped.get("message", "without a reason"))
    elif name not in seen.failed:
        seen.passed.add(name)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
