"""One line of a verdict: a figure and its bound."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_SHOWN: Final = 5


@dataclass(frozen=True)
class Line:
    """One line of the table. `bound` None: told only; else the figure may not be greater. `examples` say which."""

    name: str
    figure: int
    bound: int | None = None
    examples: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        return self.bound is None or self.figure <= self.bound

    def __str__(self) -> str:
        must = "" if self.bound is None else f"  (at most {self.bound})"
        shown = "".join(f"\n      {example}" for example in self.examples[:_SHOWN])
        mark = "  " if self.holds else "✗ "
        return f"{mark}{self.name:<66}{self.figure:>10,}{must}{'' if self.holds else shown}"


def none(name: str, wrong: Iterable[object]) -> Line:
    """A line for what must not be."""
    found = [str(each) for each in wrong]
    return Line(name, len(found), 0, found)
