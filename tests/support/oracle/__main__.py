"""The oracle as a process: prints its port and runs until SIGTERM or SIGINT."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from tests.support.oracle.server import Oracle


def main() -> None:
    options = argparse.ArgumentParser(prog="oracle")
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--log", type=Path, required=True)
    chosen = options.parse_args()
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    with Oracle(chosen.log, port=chosen.port, host=chosen.host) as oracle:
        sys.stdout.write(f"{oracle.port}\n")
        sys.stdout.flush()
        told.wait()


if __name__ == "__main__":
    main()
