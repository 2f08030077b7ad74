"""What the rounds gave, as tables: medians, the spread beside them, and ratios within each round."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from bench.cases import DIRECT, NGINX
from bench.peers import LITELLM, PORTKEY
from bench.rounds import Load, Record, Records, Sample

NOTHING: Final = "–"
Row = list[str]


def tables(records: Records, loads: Sequence[Load]) -> str:
    """Markdown. What was refused or broke is said below in sentences."""
    parts = [_load_table(records, load) for load in loads]
    return "\n\n".join([*parts, _process_table(records), *_complaints(records)])


def _load_table(records: Records, load: Load) -> str:
    if load.chunks:
        title = f"{load.connections} streams at once, {load.chunks} chunks each"
        return f"### {title}\n\n{_table(*_stream_rows(records, load))}"
    connections = "1 connection" if load.connections == 1 else f"{load.connections} connections"
    return f"### {connections}\n\n{_table(*_call_rows(records, load))}"


def _call_rows(records: Records, load: Load) -> tuple[Row, list[Row]]:
    others = (NGINX, DIRECT, LITELLM, PORTKEY)
    head = ["", "calls/s (lowest – highest)", *(f"to {other}" for other in others), "p50 / p99 µs"]
    head += ["added p50 / p99 µs", "CPU µs a call (lowest – highest)", "to nginx", "busy"]
    rows = []
    for name, record in records.items():
        if not (samples := record.samples.get(load)):
            continue
        rate = _Versus(records, load, name, lambda sample: sample.rate)
        p50 = _Versus(records, load, name, lambda sample: sample.outcome.p50)
        p99 = _Versus(records, load, name, lambda sample: sample.outcome.p99)
        cpu = _Versus(records, load, name, lambda sample: sample.cpu_per_call)
        row = [name, _spread(rate.own), *(rate.ratio_to(other) for other in others)]
        row += [f"{_middle(p50.own)} / {_middle(p99.own)}"]
        added = f"{p50.added_to(DIRECT)} / {p99.added_to(DIRECT)}"
        row += [added if NOTHING not in added else NOTHING]
        row += [_spread(cpu.own), cpu.ratio_to(NGINX), _percent(s.busy for s in samples.values())]
        rows.append(row if name != DIRECT else [*row[:7], *[NOTHING] * 4])
    return head, rows


def _stream_rows(records: Records, load: Load) -> tuple[Row, list[Row]]:
    head = ["", "first chunk p50 / p99 ms", "chunk under way p50 / p99 ms"]
    head += ["CPU µs a chunk (lowest – highest)", "to nginx", "busy", "KiB a stream"]
    rows = []
    for name, record in records.items():
        if not (samples := record.samples.get(load)):
            continue
        cpu = _Versus(records, load, name, lambda sample: sample.cpu_per_chunk)
        outcomes = [sample.outcome for sample in samples.values()]
        row = [name]
        row += [_pair_ms((o.p50 for o in outcomes), (o.p99 for o in outcomes))]
        row += [_pair_ms((o.transit_p50 for o in outcomes), (o.transit_p99 for o in outcomes))]
        row += [_spread(cpu.own), cpu.ratio_to(NGINX), _percent(s.busy for s in samples.values())]
        row += [_middle(sample.kib_per_stream for sample in samples.values())]
        rows.append(row if name != DIRECT else [*row[:3], *[NOTHING] * 4])
    return head, rows


def _process_table(records: Records) -> str:
    head = [
        "",
        "ready after s (lowest – highest)",
        "idle RSS / PSS MiB",
        "after load RSS / PSS MiB",
    ]
    rows = [
        [
            name,
            _spread(record.starts),
            f"{_middle(w.rss for w in record.idle)} / {_middle(w.pss for w in record.idle)}",
            f"{_middle(w.rss for w in record.loaded)} / {_middle(w.pss for w in record.loaded)}",
        ]
        for name, record in records.items()
        if record.loaded
    ]
    return f"### Processes\n\n{_table(head, rows)}"


def _complaints(records: Records) -> list[str]:
    found = []
    for name, record in records.items():
        if record.broken:
            found.append(f"{name} is not reported: {record.broken}")
        for load, reason in record.refused.items():
            kind = "streams" if load.chunks else "connections"
            found.append(f"{name} at {load.connections} {kind} is not reported: {reason}")
    return found


class _Versus:
    """One figure of one case, beside the same figure of others in the same rounds."""

    def __init__(
        self, records: Records, load: Load, name: str, figure: Callable[[Sample], float]
    ) -> None:
        self._records, self._load, self._figure = records, load, figure
        self._name = name
        self._by_round = self._of(name)
        self.own = list(self._by_round.values())

    def _of(self, name: str) -> dict[int, float]:
        """By round."""
        samples = self._records.get(name, Record()).samples.get(self._load, {})
        return {number: self._figure(sample) for number, sample in samples.items()}

    def _pairs(self, name: str) -> list[tuple[float, float]]:
        """The own figure and theirs, of the rounds that both have."""
        theirs = self._of(name)
        return [(own, theirs[n]) for n, own in self._by_round.items() if n in theirs]

    def ratio_to(self, name: str) -> str:
        """The median of each round's ratio."""
        pairs = self._pairs(name)
        if not pairs or name == self._name or not all(theirs for _, theirs in pairs):
            return NOTHING
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        return f"{ratio:.3f}" if ratio < 1 else f"{ratio:.1f}"

    def added_to(self, name: str) -> str:
        """The median of each round's difference."""
        pairs = self._pairs(name)
        return _number(statistics.median(a - b for a, b in pairs)) if pairs else NOTHING


def _table(head: Row, rows: list[Row]) -> str:
    """Markdown whose columns stand under one another. Columns that nobody has a value in are left out."""
    kept = [n for n in range(len(head)) if not n or any(row[n] != NOTHING for row in rows)]
    lines = [[row[n] for n in kept] for row in [head, *rows]]
    widths = [max(len(line[n]) for line in lines) for n in range(len(kept))]
    rule = ["-" * width for width in widths]
    aligned = [
        [cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(pairs)]
        for pairs in (list(zip(line, widths, strict=True)) for line in [lines[0], rule, *lines[1:]])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in aligned)


def _spread(values: Iterable[float]) -> str:
    known = list(values)
    if not known:
        return NOTHING
    ends = f" ({_number(min(known))} – {_number(max(known))})" if len(known) > 1 else ""
    return _middle(known) + ends


def _middle(values: Iterable[float]) -> str:
    return _number(statistics.median(values))


def _number(value: float) -> str:
    """Three digits that mean something, and none that do not."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(shares: Iterable[float]) -> str:
    return f"{statistics.median(shares):.0%}"


def _pair_ms(p50s: Iterable[float], p99s: Iterable[float]) -> str:
    return f"{statistics.median(p50s) / 1000:.1f} / {statistics.median(p99s) / 1000:.1f}"
