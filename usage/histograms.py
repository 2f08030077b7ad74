"""Times of many calls as a histogram: counted, stored in little room, added up, and asked for percentiles.

A time under a millisecond falls into a bin of its own microsecond, a longer one into that of its first three digits. So what is
told is the true value cut to three digits, never more than 1 % under it, and a histogram has at most some 8,000 bins.
"""

import struct
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

PERCENTS: Final = (50, 95, 99)
#: Bins of one power of ten: 100 to 999.
DECADE: Final = 900
#: Longer times (27 hours and more) share the last decade's bins.
DECADES: Final = 8
#: How the counts of a stored histogram are written: bytes of each, and the letter of `struct`.
_WIDTHS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_BIN_BYTES: Final = 2


class Times(NamedTuple):
    """Microseconds; null where no call had such a time."""

    avg: float | None = None
    p50: int | None = None
    p95: int | None = None
    p99: int | None = None


@dataclass(slots=True)
class Histogram:
    """`bins`: number of a bin → calls in it. `total`: the sum of their times, in microseconds."""

    bins: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    total: int = 0

    def add(self, number: int, calls: int, total: int) -> None:
        self.bins[number] += calls
        self.total += total

    def merge(self, other: "Histogram") -> None:
        _add_all(self.bins, tuple(other.bins), tuple(other.bins.values()))
        self.total += other.total

    def merge_packed(self, packed: bytes | memoryview, total: int) -> None:
        """Adds what `packed` gave."""
        if len(packed):
            _add_all(self.bins, *unpack(packed))
        self.total += total

    def times(self) -> Times:
        count = sum(self.bins.values())
        if not count:
            return Times()
        ranks = [-(-percent * count // 100) for percent in PERCENTS]
        found: list[int] = []
        seen = 0
        for number in sorted(self.bins):
            seen += self.bins[number]
            while len(found) < len(ranks) and ranks[len(found)] <= seen:
                found.append(value_of(number))
        return Times(self.total / count, *found)


def value_of(number: int) -> int:
    """The least time in a bin."""
    decade = (number - 100) // DECADE if number >= 1_000 else 0
    scale: int = 10**decade
    return (number - DECADE * decade) * scale


def pack(bins: Mapping[int, int]) -> bytes:
    """A byte that says how wide counts are, then all bins, then their counts, little-endian. Of none, nothing."""
    if not bins:
        return b""
    largest = max(bins.values())
    width = next(width for width in _WIDTHS if largest < 1 << 8 * width)
    form = f"<B{len(bins)}H{len(bins)}{_WIDTHS[width]}"
    return struct.pack(form, width, *bins, *bins.values())


def unpack(packed: bytes | memoryview) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bins, and the calls in each."""
    width = packed[0]
    number = (len(packed) - 1) // (_BIN_BYTES + width)
    cells = struct.unpack_from(f"<{number}H{number}{_WIDTHS[width]}", packed, 1)
    return cells[:number], cells[number:]


def _add_all(
    bins: defaultdict[int, int], numbers: tuple[int, ...], counts: tuple[int, ...]
) -> None:
    if not bins:
        bins.update(zip(numbers, counts, strict=True))
        return
    for number, calls in zip(numbers, counts, strict=True):
        bins[number] += calls
