"""The limits of a thing as its page shows them: those on requests and tokens per minute in words, budgets as bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tenants.console_limits import LABELS
from tenants.console_parts import Fact
from tenants.models import BUDGETS, Limited
from usage import spending
from usage.levels import Kind, Level
from usage.money import usd_text
from usage.spending import Budget

#: From here on a bar warns, and from there on it is full. In thousandths of the limit.
_WARN, _FULL = 800, 1_000
#: Columns of budgets are in the facts' place as bars.
_IN_WORDS: Final = (
    *("rate_limit_rpm", "rate_limits", "daily_limit", "burst", "max_concurrency"),
    "rate_limit_tpm",
)
_BUDGET_NAMES: Final[dict[tuple[str, str], str]] = {
    (unit, window): LABELS[column.replace("_nano", "_usd")]
    for column, (unit, window) in BUDGETS.items()
}
#: Tokens before money, short windows before long ones.
_ORDER: Final = [
    (unit, window) for unit in ("tokens", "nano_usd") for window in ("day", "month", "total")
]
_NO_SUCH: Final = "none of its own"


@dataclass(frozen=True, slots=True)
class Bar:
    """A budget: its texts, and thousandths of the limit for the drawing. `tone` is `hr-warn`, `hr-bad` or nothing."""

    label: str
    used: str
    limit: str
    held: str
    resets_at: datetime | None
    spent_mil: int
    held_mil: int
    tone: str

    @property
    def percent(self) -> str:
        return f"{self.spent_mil / 10:.0f} %"

    @property
    def spent_width(self) -> str:
        """In hundredths of the bar, as SVG writes it."""
        return f"{min(self.spent_mil, _FULL) / 10:.1f}"

    @property
    def held_width(self) -> str:
        return f"{min(self.held_mil, _FULL - min(self.spent_mil, _FULL)) / 10:.1f}"


@dataclass(frozen=True, slots=True)
class Panel:
    """What the part `console/parts/limits.html` draws."""

    facts: Sequence[Fact]
    bars: Sequence[Bar]
    clamps: bool


def limits_panel(kind: Kind, row: Limited, now: datetime) -> Panel:
    """Two queries at most for what calls have drawn on, one more for each budget that nobody has drawn on yet."""
    level = Level(kind, row.pk, row.limit_set)
    budgets = [it for it in spending.budgets_of([level], now) if it.window != "prepaid"]
    budgets.sort(key=lambda it: _ORDER.index((it.unit, it.window)))
    facts = [Fact(LABELS[name], _in_words(name, getattr(row, name))) for name in _IN_WORDS]
    return Panel(
        [fact for fact in facts if fact.value],
        [_bar(budget) for budget in budgets],
        row.clamp_to_budget and bool(budgets),
    )


def _in_words(name: str, value: Any) -> str:
    if name == "rate_limit_rpm" and value is None:
        return _NO_SUCH
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,}" if value is not None else ""


def _bar(budget: Budget) -> Bar:
    say = _usd if budget.unit == "nano_usd" else _tokens
    spent_mil = budget.spent * 1_000 // budget.limit
    held_mil = budget.held * 1_000 // budget.limit
    whole = spent_mil + held_mil
    return Bar(
        label=_BUDGET_NAMES[budget.unit, budget.window],
        used=say(budget.spent),
        limit=say(budget.limit),
        held=say(budget.held) if budget.held else "",
        resets_at=budget.resets_at,
        spent_mil=spent_mil,
        held_mil=held_mil,
        tone="hr-bad" if whole >= _FULL else "hr-warn" if whole >= _WARN else "",
    )


def _usd(nano: int) -> str:
    return f"${usd_text(nano)}"


def _tokens(count: int) -> str:
    return f"{count:,}"
