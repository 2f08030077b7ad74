"""`python -m bench.forgetting`: how long housekeeping takes for old log rows, and how long others who write wait meanwhile."""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import machine
from gateway.proofs.grounds import ROOT, SQLITE, Grounds, ProofFailed

_PLACE = "forgetting"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.forgetting", description=__doc__)
    add = parser.add_argument
    add("--rows", type=int, default=1_000_000, help="log rows of 91 days ago (1,000,000)")
    add("--alone", type=float, default=10.0, help="seconds of writing with nobody beside (10)")
    options = parser.parse_args(arguments)
    sys.stdout.write(f"{machine.commit()}: python -m bench.forgetting {shlex.join(arguments)}\n")
    sys.stdout.write(f"{machine.described(SQLITE)}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="gatehouse-forgetting-") as folder:
        grounds = Grounds(Path(folder), SQLITE, "gatehouse_bench")
        try:
            environment = grounds.environment(_PLACE, grounds.fresh(_PLACE))
        except ProofFailed as failure:
            sys.stderr.write(f"{failure}\n")
            return 1
        for command in (
            ("manage.py", "migrate", "--no-input", "--verbosity", "0"),
            ("-m", "bench.forgetting_rows", str(options.rows), str(options.alone)),
        ):
            done = subprocess.run(
                [sys.executable, *command], cwd=ROOT, env=environment, check=False
            )
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
