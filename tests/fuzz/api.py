"""`make fuzz-api`: Schemathesis with all its checks over the whole admin API, once as an owner and once as nobody.

Against a real server on a database that is thrown away. Ends with 1 if anything was found.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.environment import ROOT
from tests.support.server import Server, Yard

OWNER: Final = "owner"
WHO: Final = (OWNER, "nobody")
PHASES: Final = "examples,coverage,fuzzing,stateful"
OTHER: Final = "somebody-else"
SECONDS: Final = 3600


@dataclass(frozen=True)
class Run:
    """What came of one of them."""

    who: str
    code: int
    report: dict[str, Any]
    figures: dict[str, dict[str, int]]

    def lines(self) -> Iterator[str]:
        """For people; a block of Markdown."""
        report, cases = self.report, self.report["test_cases"]
        statuses = self.figures["statuses"]
        server_errors = sum(count for status, count in statuses.items() if status == "500")
        yield f"### As {'an owner' if self.who == OWNER else 'nobody'}"
        yield ""
        yield f"- operations: {report['operations']['tested']} of {report['operations']['total']}"
        yield (
            f"- cases: {cases['generated']:,} in {report['running_time']:.0f} s, phases "
            + ", ".join(f"{name} ({told['status']})" for name, told in report["phases"].items())
        )
        told = ", ".join(f"{status} × {count:,}" for status, count in sorted(statuses.items()))
        yield f"- answers: {told}"
        failures = cases["unique_failures"]
        yield f"- server errors (500): {server_errors}; undeclared statuses and other failures: {failures}"
        excused = ", ".join(
            f"{reason} ({count})" for reason, count in self.figures["excused"].items()
        )
        yield f"- valid by the schema and refused with 400, because of: {excused or 'nothing'}"
        for failure in report["failures"]:
            yield f"- **{failure['title']}**: {', '.join(failure['operations'])}"
        yield ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make fuzz-api", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--cases", type=int, default=50, help="of each operation and phase, at most"
    )
    parser.add_argument("--who", choices=WHO, action="append")
    parser.add_argument("--phases", default=PHASES)
    parser.add_argument("--operation", action="append", default=[], help="its id; all if none")
    asked = parser.parse_args(arguments)
    runs = []
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-api-") as folder,
        Yard(Path(folder)).opened() as yard,
    ):
        for who in asked.who or WHO:
            place = Path(folder) / who
            place.mkdir()
            installation = yard.server(place, kind="sqlite", redis=None, env={}, seed=True)
            with installation as server:
                _add_other(server, yard.operator_password, place)
                server.start(workers=2)
                runs.append(_run(server, yard, who, asked, place))
                server.stop()
    lines = [line for run in runs for line in run.lines()]
    sys.stdout.write("\n".join(lines) + "\n")
    return max(run.code for run in runs)


def _add_other(server: Server, password: str, place: Path) -> None:
    file = place / "password"
    file.write_text(password)
    named = ("--username", OTHER, "--role", "owner", "--password-file", str(file))
    server.run("operator", "create", *named)


def _run(server: Server, yard: Yard, who: str, asked: argparse.Namespace, place: Path) -> Run:
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "FUZZ_URL": server.url,
    }
    if who == OWNER:
        env |= {
            "FUZZ_USERNAME": server.operator,
            "FUZZ_OTHER": OTHER,
            "FUZZ_PASSWORD": yard.operator_password,
        }
    report, figures = place / "report.json", place / "figures.json"
    env["FUZZ_FIGURES"] = str(figures)
    command = [
        sys.executable,
        "-c",
        "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())",
        f"--config-file={Path(__file__).with_name('schemathesis.toml')}",
        "run",
        f"{server.url}/v1/admin/schema",
        f"--url={server.url}",
        "--checks=all",
        f"--phases={asked.phases}",
        f"--seed={asked.seed}",
        f"--max-examples={asked.cases}",
        "--continue-on-failure",
        "--generation-database=none",
        "--suppress-health-check=all",
        "--request-timeout=30",
        "--no-color",
        "--report=json",
        f"--report-json-path={report}",
        *(f"--include-operation-id={name}" for name in asked.operation),
    ]
    done = subprocess.run(command, cwd=place, env=env, timeout=SECONDS, check=False)
    return Run(
        who, done.returncode, json.loads(report.read_text()), json.loads(figures.read_text())
    )


if __name__ == "__main__":
    sys.exit(main())
