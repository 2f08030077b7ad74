"""A call's attempts on one line of time, from the numbers that were stored: what took how long, and what waited for what."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from usage.models import Attempt, RequestLog

#: The drawing is so many units wide, and has so many marks of time.
WIDTH: Final = 1000
MARKS: Final = 8
_MICROSECOND: Final = timedelta(microseconds=1)
#: Nothing is drawn so thin that it cannot be seen.
_THINNEST: Final = 3.0
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of time in units of the drawing; `css` says what it was."""

    css: str
    x: str
    width: str


@dataclass(frozen=True, slots=True)
class Step:
    """One row. `micros` null: nobody saw it end."""

    name: str
    note: str
    micros: int | None
    bars: list[Bar]


@dataclass(frozen=True, slots=True)
class Waterfall:
    steps: list[Step]
    #: Labels of the marks, in the unit that `unit` names.
    marks: list[str]
    unit: str
    #: Of the call's time, what no attempt took; null where an attempt's end is unknown.
    own_micros: int | None


@dataclass(frozen=True, slots=True)
class _Scale:
    total: int

    def bar(self, css: str, start: int, micros: int) -> Bar:
        x = min(max(start, 0) * WIDTH / self.total, WIDTH - _THINNEST)
        width = min(max(micros * WIDTH / self.total, _THINNEST), WIDTH - x)
        return Bar(css, f"{x:.1f}", f"{width:.1f}")


def waterfall(row: RequestLog, attempts: Sequence[Attempt]) -> Waterfall:
    starts = [_since(row.created_at, attempt.started_at) for attempt in attempts]
    ends = [start + (it.duration_us or 0) for start, it in zip(starts, attempts, strict=True)]
    total = max(row.duration_us, *ends, 1) if ends else max(row.duration_us, 1)
    scale = _Scale(total)
    steps = [_gateway("Key, policy, limits, route", 0, starts[0] if starts else total, scale)]
    for index, attempt in enumerate(attempts):
        if index and starts[index] > ends[index - 1]:
            gap = starts[index] - ends[index - 1]
            steps.append(_gateway("Choose the next target", ends[index - 1], gap, scale))
        steps.append(_attempt(attempt, starts[index], scale))
    if ends and total > ends[-1] and attempts[-1].duration_us is not None:
        steps.append(_gateway("Settle", ends[-1], total - ends[-1], scale))
    known = [it.duration_us for it in attempts if it.duration_us is not None]
    own = total - sum(known) if len(known) == len(attempts) else None
    marks, unit = _marks(total)
    return Waterfall(steps, marks, unit, own)


def _since(began: datetime, moment: datetime) -> int:
    """Microseconds. Clocks of two machines may disagree; nothing begins before its call."""
    return max((moment - began) // _MICROSECOND, 0)


def _gateway(name: str, start: int, micros: int, scale: _Scale) -> Step:
    return Step(name, "gateway", micros, [scale.bar("wf-gate", start, micros)])


def _attempt(attempt: Attempt, start: int, scale: _Scale) -> Step:
    name = f"{attempt.n} {attempt.provider}"
    status = f"{attempt.status}, " if attempt.status else ""
    note = f"{status}{attempt.outcome.replace('_', ' ')}; {attempt.target}"
    if attempt.duration_us is None:
        return Step(name, note, None, [scale.bar("wf-wait", start, scale.total - start)])
    if attempt.outcome != "ok":
        return Step(
            name, note, attempt.duration_us, [scale.bar("wf-fail", start, attempt.duration_us)]
        )
    first = min(attempt.ttfb_us or 0, attempt.duration_us)
    bars = [scale.bar("wf-first", start, first)] if first else []
    if attempt.duration_us > first:
        bars.append(scale.bar("wf-stream", start + first, attempt.duration_us - first))
    return Step(name, note, attempt.duration_us, bars)


def _marks(total: int) -> tuple[list[str], str]:
    """Where each eighth begins."""
    in_seconds = total >= 2 * _SECOND
    unit, size = ("s", _SECOND) if in_seconds else ("ms", 1_000)
    places = 1 if total / size < 10 * MARKS else 0
    return [f"{total * mark / MARKS / size:.{places}f}" for mark in range(MARKS)], unit
