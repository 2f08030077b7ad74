"""`make fuzz-api`: Schemathesis with all its checks over the whole admin API, once as an owner and once as nobody.

Against a real server on a database that is thrown away. Ends with 1 if anything was found.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.environment import ROOT
from tests.support.server import Server, Yard

WHO: Final = ("owner", "nobody")
PHASES: Final = "examples,coverage,fuzzing,stateful"
OTHER: Final = "somebody-else"
SECONDS: Final = 3600


@dataclass(frozen=True)
class Run:
    """What came of one of them."""

    who: str
    report: dict[str, Any]
    code: int


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
    if who == "owner":
        env |= {
            "FUZZ_USERNAME": server.operator,
            "FUZZ_OTHER": OTHER,
            "FUZZ_PASSWORD": yard.operator_password,
        }
    report = place / "report.json"
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
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
    told = json.loads(report.read_text()) if report.exists() else {}
    return Run(who, told, done.returncode)


if __name__ == "__main__":
    sys.exit(main())
