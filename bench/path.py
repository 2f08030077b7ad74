"""`python -m bench.path`: what a call costs the relay itself, from the bytes of a request to the bytes of its answer. All that is
on in a server is on; but nobody waits for sockets, and of what the kernel and the loop cost only one send is in it.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import machine
from bench.house import LIMITS, Houses
from bench.processes import BenchFailed
from bench.upstream import Upstream
from gateway.proofs.grounds import ROOT, SQLITE, free_port


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.path", description=__doc__)
    add = parser.add_argument
    add("--limits", choices=list(LIMITS), default="budget", help="what limits the key (budget)")
    add("--rounds", type=int, default=200, help="of twenty calls each (200)")
    add("--profile", action="store_true", help="print which functions take the time instead")
    options = parser.parse_args(arguments)
    sys.stdout.write(f"{machine.commit()}: python -m bench.path {shlex.join(arguments)}\n")
    sys.stdout.write(f"{machine.described(SQLITE)}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="gatehouse-path-") as folder:
        try:
            return _measure(Path(folder), options)
        except BenchFailed as failure:
            sys.stderr.write(f"{failure}\n")
            return 1


def _measure(folder: Path, options: argparse.Namespace) -> int:
    """In a process of its own, which has Django's settings from its environment."""
    port = free_port()
    with (
        Houses(folder, SQLITE, Upstream(port)).prepared() as houses,
        houses.ground() as (environment, keys),
    ):
        numbers = (keys[options.limits], port, options.rounds, int(options.profile))
        command = [sys.executable, "-m", "bench.path_calls", *map(str, numbers)]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
