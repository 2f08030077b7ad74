"""Every case in turn, round after round, so that whatever else the machine does hits all alike."""

import dataclasses
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from bench.cases import Case, Target
from bench.load import READY, Outcome, Task
from bench.processes import BenchFailed, Process, Weight, cores_for
from gateway.proofs.grounds import ROOT

WARM_UP_SECONDS = 0.5
WARM_UP_CONNECTIONS = 32


@dataclass(frozen=True)
class Load:
    """So many connections calling for `seconds`, or, with `chunks`, holding one stream each, begun over `ramp` seconds."""

    connections: int
    seconds: float = 0.0
    chunks: int = 0
    ramp: float = 0.0
    interval: float = 0.0
    """Seconds between two chunks."""

    @property
    def lasts(self) -> float:
        return self.seconds or self.ramp + self.chunks * self.interval

    @property
    def middle(self) -> float:
        """When all streams are open, from the beginning."""
        return self.ramp + (self.lasts - self.ramp) / 2

    def task(self, target: Target) -> Task:
        return Task(
            target.port, target.headers, self.connections, self.seconds, self.chunks, self.ramp
        )


@dataclass(frozen=True)
class Sample:
    """One load on one case in one round. CPU of the server's processes, the books included; 0 of a direct call."""

    outcome: Outcome
    cpu_seconds: float
    busy: float
    """Share of its cores that the server used while the load was on."""
    pss_growth: float = 0.0
    """MiB that the server had grown by when all streams were open, since before the first streams of this round."""

    @property
    def kib_per_stream(self) -> float:
        return 1024 * self.pss_growth / self.outcome.done

    @property
    def rate(self) -> float:
        return self.outcome.done / self.outcome.seconds

    @property
    def cpu_per_call(self) -> float:
        """In µs."""
        return self.cpu_seconds / self.outcome.done * 1e6

    @property
    def cpu_per_chunk(self) -> float:
        """In µs."""
        return self.cpu_seconds / self.outcome.chunks * 1e6


@dataclass
class Record:
    """All rounds of one case: its samples by load and round. What failed in any round is in `refused` and nowhere else."""

    samples: dict[Load, dict[int, Sample]] = field(default_factory=dict)
    refused: dict[Load, str] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)
    idle: list[Weight] = field(default_factory=list)
    loaded: list[Weight] = field(default_factory=list)
    broken: str = ""


Records = dict[str, Record]


def measure(
    cases: Sequence[Case],
    loads: Sequence[Load],
    rounds: int,
    upstream: Process,
    say: Callable[[str], None],
) -> Records:
    """What came of it, by the name of the case. An interrupt ends it early, with the rounds so far."""
    records: Records = {case.name: Record() for case in cases}
    try:
        for number in range(rounds):
            for case in _turned(cases, number):
                upstream.move(cores_for(case.processes).load)
                _one_round(case, loads, records[case.name], number)
                say(f"round {number + 1} of {rounds}: {case.name}")
    except KeyboardInterrupt:
        say("interrupted: what follows is of the rounds so far")
    return records


def _turned(cases: Sequence[Case], number: int) -> Iterator[Case]:
    """Begin elsewhere each time: nobody always comes after the same neighbour's noise."""
    start = number % len(cases)
    yield from (*cases[start:], *cases[:start])


def _one_round(case: Case, loads: Sequence[Load], record: Record, number: int) -> None:
    """A load that fails ends the round of this case, for nobody knows what its books should hold; later ones leave it out."""
    if record.broken:
        return
    try:
        with case.started() as target:
            _weigh(target, record.idle)
            made = _warmed_up(case, target)
            before_streams: Weight | None = None
            for load in loads:
                if load not in record.refused and _takes_part(case, load):
                    if load.chunks:
                        before_streams = before_streams or _weight(target)
                    sample = _sample(case, target, load, made, before_streams)
                    made += sample.outcome.done
                    record.samples.setdefault(load, {})[number] = sample
            _weigh(target, record.loaded)
        if target.process is not None:
            record.starts.append(target.started_in)
    except CallsFailed as failure:
        record.refused[failure.load] = str(failure)
        record.samples.pop(failure.load, None)
    except BenchFailed as failure:
        record.broken = str(failure)
        record.samples.clear()


def _takes_part(case: Case, load: Load) -> bool:
    return not load.chunks or load.connections <= case.most_streams


def _warmed_up(case: Case, target: Target) -> int:
    """The number of calls that it took. Raises BenchFailed."""
    try:
        outcome, _, _ = _run(case, target, Load(WARM_UP_CONNECTIONS, seconds=WARM_UP_SECONDS))
    except CallsFailed as failure:
        raise BenchFailed(f"while it was warmed up, {failure}") from failure
    target.settle(outcome.done)
    return outcome.done


def _weigh(target: Target, weights: list[Weight]) -> None:
    if target.process is not None:
        weights.append(target.process.weight())


def _weight(target: Target) -> Weight:
    return target.process.weight() if target.process is not None else Weight(0, 0)


class CallsFailed(BenchFailed):
    """Calls of a load failed, so it has no figures: a refusal is faster than an answer."""

    def __init__(self, load: Load, outcome: Outcome) -> None:
        self.load = load
        of = outcome.done + outcome.failed
        super().__init__(f"{outcome.failed} of {of} failed: {' | '.join(outcome.faults)}")


def _sample(
    case: Case, target: Target, load: Load, made: int, before_streams: Weight | None
) -> Sample:
    """Measure, and wait for the books: what a call costs is known when it is written down."""
    before = _cpu(target)
    outcome, on, weight = _run(case, target, load)
    target.settle(made + outcome.done)
    return Sample(
        outcome,
        cpu_seconds=_cpu(target) - before,
        busy=on / outcome.seconds / case.processes,
        pss_growth=weight.pss - before_streams.pss if before_streams and weight else 0.0,
    )


def _cpu(target: Target) -> float:
    return target.process.cpu_seconds() if target.process is not None else 0.0


def _run(case: Case, target: Target, load: Load) -> tuple[Outcome, float, Weight | None]:
    """What the callers say, the CPU seconds of the server while they called, its weight amid streams. Raises CallsFailed.

    They are a process of their own, on the cores that the server does not have.
    """
    task = dataclasses.asdict(load.task(target))
    with subprocess.Popen(
        [sys.executable, "-m", "bench.load"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores_for(case.processes).load),
    ) as callers:
        assert callers.stdin is not None
        assert callers.stdout is not None
        _tell(callers.stdin, json.dumps(task))
        if callers.stdout.readline().strip() != READY:
            raise BenchFailed("the callers could not connect")
        before = _cpu(target)
        _tell(callers.stdin, "go")
        weight = None
        if load.chunks and not select.select([callers.stdout], [], [], load.middle)[0]:
            weight = _weight(target)
        told = callers.stdout.readline()
        on = _cpu(target) - before
    if not told:
        raise BenchFailed("the callers broke")
    outcome = Outcome(**json.loads(told))
    if outcome.failed or not outcome.done:
        raise CallsFailed(load, outcome)
    return outcome, on, weight


def _tell(callers: IO[str], line: str) -> None:
    callers.write(f"{line}\n")
    callers.flush()
