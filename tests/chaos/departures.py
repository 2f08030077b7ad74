"""`make chaos-disconnects`: callers hang up at any byte of an answer; everybody is settled, and charged for what was read.

    python -m tests.chaos.departures [--departures 5000] [--concurrency 50] [--workers 2] [--database sqlite|postgres] [--seed N]

Prints a table and a closing line, and exits 1 if any line of the table misses its bound.
"""

import argparse
import asyncio
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from tests.chaos.balances import judge_balances
from tests.chaos.kill import machine
from tests.chaos.leavers import CANCEL, CAP, DRAIN, Leavers, Left, set_stage
from tests.chaos.stage import INPUT_NANO, OUTPUT_NANO, Stage, oracle_process
from tests.chaos.verdict_line import Line, none
from tests.support.oracle import Call, read_log
from tests.support.server import Server, Yard

SETTLE_SECONDS: Final = 60.0
CLOSE_MS: Final = 1_000
ORACLE_LOG: Final = "oracle.jsonl"


@dataclass(frozen=True)
class Options:
    departures: int = 5000
    concurrency: int = 50
    workers: int = 2
    database: str = "sqlite"
    seed: int = 1


@dataclass(frozen=True)
class Row:
    """A line of the request log. `request_id` in hex."""

    request_id: str
    status: int
    source: str
    tokens: tuple[int, int]
    cost: int
    attempts: int

    @property
    def attempt_id(self) -> str:
        return f"{self.request_id}-{self.attempts}"


@dataclass(frozen=True)
class Outcome:
    lines: list[Line]
    left: list[Left]
    exit_code: int
    log: str

    @property
    def missed(self) -> list[Line]:
        return [line for line in self.lines if not line.holds]


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _options(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gatehouse-chaos-") as folder:
        place = Path(folder)
        (place / "yard").mkdir()
        (place / "server").mkdir()
        with Yard(place / "yard").opened() as yard:
            installation = yard.server(
                place / "server", kind=chosen.database, redis=None, env={}, seed=True
            )
            with installation as server:
                _say(f"machine: {machine(server)}")
                _say(f"seed: {chosen.seed}")
                outcome = run(server, yard.operator_password, place, chosen)
    for line in outcome.lines:
        _say(str(line))
    verdict = f"{len(outcome.missed)} lines missed" if outcome.missed else "all held"
    _say(
        f"===== chaos-disconnects on {chosen.database}: {len(outcome.left)} calls; {verdict}"
        f" in {time.monotonic() - began:.0f}s ====="
    )
    if outcome.missed:
        _say(outcome.log[-4000:])
    return 1 if outcome.missed or outcome.exit_code else 0


def run(server: Server, password: str, folder: Path, chosen: Options) -> Outcome:
    """Start `server`, let callers leave, stop it, judge."""
    log = folder / ORACLE_LOG
    with oracle_process(log) as api:
        server.start(chosen.workers)
        key = set_stage(Stage(server, password), api)
        leavers = Leavers(server.port, key, chosen.concurrency, chosen.seed)
        asyncio.run(leavers.run(chosen.departures))
        settled_in = _settled_in(server, log)
        code = server.stop()
    lines = [*judge(server, log, leavers.left, settled_in), *judge_balances(server)]
    return Outcome(lines, leavers.left, code, server.log_text())


def _settled_in(server: Server, log: Path) -> float:
    """Seconds until every call that the upstream saw has its log row and no hold is open; over the bound, if never."""
    began = time.monotonic()
    while (took := time.monotonic() - began) <= SETTLE_SECONDS:
        rows = {
            UUID(str(row[0])).hex for row in server.query("SELECT request_id FROM usage_requestlog")
        }
        seen = {(call.attempt_id or "")[:32] for call in read_log(log) if call.method == "POST"}
        if seen <= rows and not server.query("SELECT COUNT(*) FROM usage_hold")[0][0]:
            return took
        time.sleep(0.2)
    return took


def judge(server: Server, log: Path, left: list[Left], settled_in: float) -> list[Line]:
    """Every line of the verdict. The server must have been stopped."""
    rows = _rows(server)
    calls = {call.attempt_id: call for call in read_log(log) if call.method == "POST"}
    pairs = [(each, rows[each.id]) for each in left if each.id in rows]
    gone = [(each, row) for each, row in pairs if not each.whole]
    never_there = [each for each in left if each.id not in rows]
    closings = sorted(_closings(gone, calls))
    return [
        Line("calls", len(left)),
        *(Line(f"  left under `{p}`", sum(e.policy == p for e, _ in gone)) for p in (CANCEL, DRAIN)),
        Line("  left before the usage, after all text", sum(_is_before_usage(e) for e, _ in gone)),
        Line("  whole before their callers could leave", sum(each.whole for each in left)),
        Line("  gone before Gatehouse had read them", len(never_there)),
        Line("seconds until all were settled (rounded up)", int(settled_in) + 1, int(SETTLE_SECONDS)),
        none("calls with answers, and no log row", (e.id for e in never_there if e.seen)),
        none("callers who met a fault", (f"{e.id} {e.fault}" for e in left if e.fault)),
        none("calls the upstream saw, and no log row", calls.keys() - {r.attempt_id for _, r in pairs}),
        Line("upstream closed after the caller, p50 ms", _at(closings, 0.5)),
        Line("upstream closed after the caller, p99 ms", _at(closings, 0.99), CLOSE_MS),
        *_charges(gone, calls),
    ]  # fmt: skip


def _charges(gone: list[tuple[Left, Row]], calls: dict[str | None, Call]) -> list[Line]:
    drained = [
        (each, row) for each, row in gone if each.policy == DRAIN and row.attempt_id in calls
    ]
    zero = [(each, row) for each, row in gone if each.plan.tells_zero]
    return [
        none("charged less than their callers had read", _too_little(gone, calls)),
        none("charged more than was held", _too_much(gone)),
        none("under `drain`: not charged what the provider told", _not_as_told(drained, calls)),
        none("under `drain`: the upstream was not read to its end",
             (e.id for e, row in drained if calls[row.attempt_id].how != "done")),
        Line("explicit zeros believed", sum(row.source == "provider" for _, row in zero)),
        none("explicit zeros that did not stay zero",
             (f"{e.id}: {row}" for e, row in zero if row.source == "provider" and (row.cost or any(row.tokens)))),
        none("explicit zeros that were seen, and not believed",
             (f"{e.id}: {row}" for e, row in zero if row.source != "provider" and e.saw_usage)),
    ]  # fmt: skip


def _rows(server: Server) -> dict[str, Row]:
    """By the id that the caller gave."""
    found = server.query(
        "SELECT correlation_id, request_id, status, usage_source, tokens_in, tokens_out, cost_nano_usd, attempts"
        " FROM usage_requestlog"
    )
    return {
        row[0]: Row(UUID(str(row[1])).hex, row[2], row[3], (row[4], row[5]), row[6] or 0, row[7])
        for row in found
    }


def _closings(gone: list[tuple[Left, Row]], calls: dict[str | None, Call]) -> Iterator[float]:
    """Milliseconds from a caller's leaving to the end of the call upstream, where it was cut off."""
    for each, row in gone:
        call = calls.get(row.attempt_id)
        if call is not None and call.how == "client_closed" and call.ended_at is not None:
            yield max(0.0, 1000 * (call.ended_at - each.left_at))


def _is_before_usage(each: Left) -> bool:
    return each.plan.before_usage and not each.saw_usage


def _too_little(gone: list[tuple[Left, Row]], calls: dict[str | None, Call]) -> Iterator[str]:
    """Of calls that the oracle has: who leaves while a connection is being opened has used nothing."""
    for each, row in gone:
        tells_zero = each.plan.tells_zero and row.source == "provider"
        if row.attempts and row.attempt_id in calls and not tells_zero:
            least = INPUT_NANO + each.pieces * OUTPUT_NANO
            if row.cost < least or row.tokens[1] < each.pieces:
                yield f"{each.id} ({each.plan.script}) saw {each.pieces} tokens: {row}"


def _too_much(gone: list[tuple[Left, Row]]) -> Iterator[str]:
    for each, row in gone:
        hold = each.body_bytes * INPUT_NANO + CAP * OUTPUT_NANO
        if row.cost > hold:
            yield f"{each.id} ({each.plan.script}), hold {hold}: {row}"


def _not_as_told(drained: list[tuple[Left, Row]], calls: dict[str | None, Call]) -> Iterator[str]:
    for each, row in drained:
        usage: dict[str, Any] = calls[row.attempt_id].usage or {}
        told = (usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
        if row.tokens != told or row.source != "provider":
            yield f"{each.id} ({each.plan.script}): told {told}, {row}"


def _at(sorted_values: list[float], share: float) -> int:
    if len(sorted_values) < 2:
        return int(sum(sorted_values))
    return round(
        statistics.quantiles(sorted_values, n=100, method="inclusive")[int(share * 100) - 1]
    )


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="chaos-disconnects")
    parser.add_argument("--departures", type=int, default=Options.departures)
    parser.add_argument("--concurrency", type=int, default=Options.concurrency)
    parser.add_argument("--workers", type=int, default=Options.workers)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default=Options.database)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    given = parser.parse_args(arguments)
    return Options(given.departures, given.concurrency, given.workers, given.database, given.seed)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
