"""`python -m bench.lists`: how long lists and figures of the admin API and of the console take over a large log, and how many
queries each has. The log is made by the command itself, in a database that is thrown away.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import machine
from gateway.proofs.grounds import ROOT, SQLITE, Grounds, ProofFailed

_PLACE = "lists"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.lists", description=__doc__)
    add = parser.add_argument
    add("--rows", type=int, default=1_000_000, help="calls in log and ledger (1,000,000)")
    add("--times", type=int, default=200, help="requests of each route (200)")
    add("--only", default="", help="routes with this in their name alone")
    options = parser.parse_args(arguments)
    sys.stdout.write(f"{machine.commit()}: python -m bench.lists {shlex.join(arguments)}\n")
    sys.stdout.write(f"{machine.described(SQLITE)}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="gatehouse-lists-") as folder:
        grounds = Grounds(Path(folder), SQLITE, "gatehouse_bench")
        try:
            environment = grounds.environment(_PLACE, grounds.fresh(_PLACE))
        except ProofFailed as failure:
            sys.stderr.write(f"{failure}\n")
            return 1
        numbers = (str(options.rows), str(options.times), options.only)
        for command in (
            ("manage.py", "migrate", "--no-input", "--verbosity", "0"),
            ("-m", "bench.lists_pages", *numbers),
        ):
            done = subprocess.run(
                [sys.executable, *command], cwd=ROOT, env=environment, check=False
            )
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
