"""`python -m bench.ledger`: what bringing a call from the journal into the tables costs the worker's own process."""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import machine
from gateway.proofs.grounds import ROOT, SQLITE, Grounds, ProofFailed

_PLACE = "books"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    add = parser.add_argument
    add("--database", default=SQLITE, help="sqlite, or the address of a PostgreSQL")
    add("--at-once", type=int, default=250, help="calls of a batch (250)")
    add("--callers", type=int, default=1, help="keys that take turns, each of its own tenant (1)")
    add("--uneven", type=int, default=0, help="batches are smaller by up to so many calls (0)")
    add("--batches", type=int, default=200, help="of a round (200)")
    add("--rounds", type=int, default=5, help="(5)")
    options = parser.parse_args(arguments)
    sys.stdout.write(f"{machine.commit()}: python -m bench.ledger {shlex.join(arguments)}\n")
    sys.stdout.write(f"{machine.described(options.database)}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="gatehouse-ledger-") as folder:
        grounds = Grounds(Path(folder), options.database, "gatehouse_bench")
        try:
            return _measure(grounds, options)
        except ProofFailed as failure:
            sys.stderr.write(f"{failure}\n")
            return 1
        finally:
            grounds.drop(_PLACE)


def _measure(grounds: Grounds, options: argparse.Namespace) -> int:
    """In processes of their own, which have Django's settings from their environment."""
    numbers = (
        options.at_once,
        options.uneven,
        options.callers,
        options.batches,
        options.rounds,
    )
    environment = grounds.environment(_PLACE, grounds.fresh(_PLACE))
    for command in (
        ("manage.py", "migrate", "--no-input", "--verbosity", "0"),
        ("-m", "bench.ledger_batches", *map(str, numbers)),
    ):
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
