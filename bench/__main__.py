"""`python -m bench`: Gatehouse, nginx and a direct call side by side, in one run on one machine."""

import argparse
import platform
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import cases, machine, report
from bench.cases import Case
from bench.house import Houses
from bench.processes import BenchFailed, Process, cores_for
from bench.rounds import Load, measure
from bench.upstream import serving
from gateway.proofs.grounds import ROOT

EVIDENCE: Final = ROOT / "docs" / "evidence" / "bench.md"
STREAM_CHUNKS: Final = 20
CHUNK_INTERVAL_MS: Final = 200
#: Streams begin one after the other: so many a second.
RAMP_PER_SECOND: Final = 1_000
#: Beside its loads, what a case takes in a round: to start, to warm up, to finish its books, to end; and callers to begin.
_SECONDS_A_CASE: Final = 6.0
_SECONDS_A_LOAD: Final = 0.5
_QUICK: Final = ["direct", "nginx", "express-1", "express-1-budget"]


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    if platform.system() != "Linux":
        sys.stderr.write("The benchmark reads /proc and so needs Linux.\n")
        return 2
    try:
        return _bench(options, f"python -m bench {shlex.join(arguments)}".strip())
    except BenchFailed as failure:
        sys.stderr.write(f"{failure}\n")
        return 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--cases", type=_names, help=f"of {','.join(cases.names())} (all but drf and httpx)")
    add("--full", action="store_true", help="every case and every load: about 40 minutes")
    add("--rounds", type=_count, help="how often all cases are gone through (3)")
    add("--seconds", type=_seconds, help="that a load of calls lasts (2)")
    add("--connections", type=_counts, help="loads of calls (1,32,256)")
    add("--streams", type=_counts, help="loads of streams at once (500,2000)")
    add("--database", default="sqlite", help="or postgres://user@host/db, who may make databases")
    add(
        "--tls",
        action="store_true",
        help="the provider is called by TLS (other gateways are left out)",
    )
    add("--quick", action="store_true", help="a bit of everything: does it run at all?")
    add("--write", action="store_true", help=f"add the result to {EVIDENCE.relative_to(ROOT)}")
    defaults = {
        "cases": cases.names() if "--full" in arguments else cases.usual(),
        "rounds": 3,
        "seconds": 2.0,
        "connections": [1, 32, 256],
        "streams": [500, 2000],
    }
    if "--quick" in arguments:
        defaults = {
            "cases": _QUICK,
            "rounds": 1,
            "seconds": 0.5,
            "connections": [1, 32],
            "streams": [20],
        }
    parser.set_defaults(**defaults)
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a number of things")
    return int(text)


def _counts(text: str) -> list[int]:
    return [_count(part) for part in text.split(",")]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 60:
        raise argparse.ArgumentTypeError("between 0.1 and 60 seconds")
    return seconds


def _names(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in cases.names()]:
        raise argparse.ArgumentTypeError(f"no case is called {unknown[0]}")
    return chosen


def _bench(options: argparse.Namespace, command: str) -> int:
    calls = [Load(connections, seconds=options.seconds) for connections in options.connections]
    # Streams come first: what thousands of calls leave in the allocator would make their memory look small.
    streams = [_streams(count) for count in options.streams]
    loads = [*streams, *calls]
    for sentence in cases.missing(options.cases, options.tls):
        _say(sentence)
    _allow_many_sockets()
    started = time.monotonic()
    with _stage(options) as (upstream, chosen):
        _say(f"about {_minutes(chosen, loads, options.rounds):.1f} minutes")
        records = measure(chosen, loads, options.rounds, upstream, _say)
    told = "\n\n".join(
        [
            f"## {datetime.now(UTC):%Y-%m-%d}, commit {machine.commit()}",
            f"```\n{command}\n```",
            f"Machine: {machine.described(options.database)}.",
            f"{_placement(chosen)} Rounds: {options.rounds}, in {_minutes_since(started)} minutes.",
            report.tables(records, [*calls, *streams]),
        ]
    )
    sys.stdout.write(f"{told}\n")
    if options.write:
        with EVIDENCE.open("a") as file:
            file.write(f"\n{told}\n")
    return int(any(record.refused or record.broken for record in records.values()))


def _streams(count: int) -> Load:
    interval = CHUNK_INTERVAL_MS / 1000
    return Load(count, chunks=STREAM_CHUNKS, ramp=count / RAMP_PER_SECOND, interval=interval)


def _allow_many_sockets() -> None:
    """Two for each stream in a gateway; all processes have it from this one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _stage(options: argparse.Namespace) -> Iterator[tuple[Process, list[Case]]]:
    """The provider, and the chosen cases of what is installed here."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as name:
        folder = Path(name)
        needs_house = any(cases.is_gatehouse(name) for name in options.cases)
        with serving(folder, STREAM_CHUNKS, CHUNK_INTERVAL_MS, options.tls) as (process, upstream):
            houses = Houses(folder, options.database, upstream)
            with houses.prepared() if needs_house else nullcontext():
                everything = options.full or options.quick
                known = cases.all_cases(folder, upstream, houses, everything)
                yield process, [case for case in known if case.name in options.cases]


def _minutes(chosen: Sequence[Case], loads: Sequence[Load], rounds: int) -> float:
    a_round = sum(
        _SECONDS_A_CASE
        + sum(
            load.lasts + _SECONDS_A_LOAD
            for load in loads
            if not load.chunks or load.connections <= case.most_streams
        )
        for case in chosen
    )
    return rounds * a_round / 60


def _minutes_since(moment: float) -> str:
    return f"{(time.monotonic() - moment) / 60:.1f}"


def _placement(chosen: Sequence[Case]) -> str:
    alone = [case.name for case in chosen if not cores_for(case.processes).shared]
    sharing = [case.name for case in chosen if cores_for(case.processes).shared]
    sentences = []
    if alone:
        sentences.append(
            "The server has a core for each worker, callers and provider have the rest."
        )
    if sharing:
        sentences.append(f"There is no rest for {', '.join(sharing)}: all have all cores.")
    return " ".join(sentences)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
