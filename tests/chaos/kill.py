"""`make chaos-kill`: workers of a real server are killed under load: no call is lost or counted twice, every balance is right.

    python -m tests.chaos.kill [--kills 300] [--concurrency 50] [--workers 2] [--database sqlite|postgres] [--seed N]

Prints a table and a closing line, and exits 1 if any line of the table misses its bound. A seed replays the same choices
(which calls, which workers, when); the moments at which processes run are the machine's own.
"""

import argparse
import asyncio
import os
import platform
import secrets
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.chaos.killer import Kill, Killer
from tests.chaos.stage import Stage, is_sqlite, oracle_process
from tests.chaos.traffic import Sent, Traffic, set_stage
from tests.chaos.verdict import judge
from tests.chaos.verdict_line import Line
from tests.support.server import Server, Yard

#: Seconds in which everything that dead workers left must have been brought into the tables by the living.
SETTLE_SECONDS = 30.0
ORACLE_LOG = "oracle.jsonl"


@dataclass(frozen=True)
class Options:
    kills: int = 300
    concurrency: int = 50
    workers: int = 2
    database: str = "sqlite"
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    """`exit_code` is the server's."""

    lines: list[Line]
    kills: list[Kill]
    sent: list[Sent]
    exit_code: int
    seconds: float
    log: str

    @property
    def missed(self) -> list[Line]:
        return [line for line in self.lines if not line.holds]


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="gatehouse-chaos-") as folder:
        place = Path(folder)
        (place / "yard").mkdir()
        (place / "server").mkdir()
        with Yard(place / "yard").opened() as yard:
            installation = yard.server(
                place / "server", kind=chosen.database, redis=None, env=ENVIRONMENT, seed=True
            )
            with installation as server:
                _say(f"machine: {machine(server)}")
                _say(f"seed: {chosen.seed}")
                outcome = run(server, yard.operator_password, place, chosen)
    for line in outcome.lines:
        _say(str(line))
    _say(_closing_line(chosen, outcome))
    if outcome.missed:
        _say(outcome.log[-4000:])
    return 1 if outcome.missed or outcome.exit_code else 0


#: Hundreds of workers that are killed say so hundreds of times; nobody reads that.
ENVIRONMENT = {"LOG_LEVEL": "CRITICAL"}


def run(server: Server, password: str, folder: Path, chosen: Options) -> Outcome:
    """Start `server`, kill its workers under load, stop it, judge."""
    began = time.monotonic()
    log = folder / ORACLE_LOG
    with oracle_process(log) as api:
        server.start(chosen.workers)
        keys = set_stage(Stage(server, password), api)
        traffic = Traffic(server.port, keys, chosen.concurrency, chosen.seed)
        killer = Killer(server, chosen.seed + 1)
        asyncio.run(_under_load(traffic, killer, chosen.kills))
        server.wait_ready()
        _wait_for_replay(server)
        code = server.stop()
    lines = judge(server, log, traffic.sent, killer.kills, chosen.concurrency)
    return Outcome(
        lines, killer.kills, traffic.sent, code, time.monotonic() - began, server.log_text()
    )


async def _under_load(traffic: Traffic, killer: Killer, kills: int) -> None:
    load = asyncio.create_task(traffic.run())
    await asyncio.sleep(1)  # all callers are in the middle of something
    try:
        await asyncio.to_thread(killer.kill, kills)
        await asyncio.sleep(1)
    finally:
        traffic.stop()
        await load


def _wait_for_replay(server: Server) -> None:
    """Until only the living have journals and hold money. What is not brought in by then, the judge will see."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while len(server.journals()) > server.workers and time.monotonic() < deadline:
        time.sleep(0.1)


def _closing_line(chosen: Options, outcome: Outcome) -> str:
    figures = {line.name.partition(":")[0].strip(): 0 for line in outcome.lines}
    for line in outcome.lines:
        figures[line.name.partition(":")[0].strip()] += line.figure
    verdict = f"{len(outcome.missed)} lines missed" if outcome.missed else "all held"
    if outcome.exit_code:
        verdict += f", the server exited {outcome.exit_code}"
    return (
        f"===== chaos-kill on {chosen.database}: {len(outcome.kills)} kills, lost {figures['lost']},"
        f" doubled {figures['doubled']}, negative balances {figures['negative']}, unknown {figures['unknown attempts']}"
        f" (at most {len(outcome.kills) * chosen.concurrency}); {verdict} in {outcome.seconds:.0f}s ====="
    )


def machine(server: Server) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()}, {_database_version(server)}"
    )


def _database_version(server: Server) -> str:
    if is_sqlite(server):
        return f"SQLite {sqlite3.sqlite_version}"
    with psycopg.connect(server.database_url) as connection:
        return f"PostgreSQL {connection.info.server_version // 10_000}"


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="chaos-kill")
    parser.add_argument("--kills", type=int, default=Options.kills)
    parser.add_argument("--concurrency", type=int, default=Options.concurrency)
    parser.add_argument("--workers", type=int, default=Options.workers)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default=Options.database)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    given = parser.parse_args(arguments)
    return Options(given.kills, given.concurrency, given.workers, given.database, given.seed)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
