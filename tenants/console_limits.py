"""The limits of a thing in the console: the same part of every form that has them, and how each is called on its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from django import forms

from tenants.console_forms import Dollars, HouseForm, Lines, WholeNumber
from tenants.limit_rules import LIMITS


@dataclass(frozen=True, slots=True)
class LimitGroup:
    """Limits of one sort, drawn beside each other."""

    title: str
    fields: Sequence[forms.BoundField]


_GROUPS: Final = (
    ("Requests", ("rate_limit_rpm", "daily_limit", "max_concurrency", "burst", "rate_limits")),
    (
        "Tokens, in and out",
        ("rate_limit_tpm", "tokens_budget_day", "tokens_budget", "tokens_budget_total"),
    ),
    ("Money", ("cost_budget_day_usd", "cost_budget_usd", "cost_budget_total_usd")),
    ("When a budget comes to its end", ("clamp_to_budget",)),
)


class LimitFields(HouseForm):
    """Every limit of `tenants.models.Limited`. They are drawn in a part of their own, below the other fields."""

    #: Whose calls they count.
    limits_hint: ClassVar[str] = "For everything that it does. Empty is no limit of its own."

    rate_limit_rpm = WholeNumber(
        label="Requests a minute", required=False, help_text="In any 60 seconds."
    )
    daily_limit = WholeNumber(
        label="Requests a day", required=False, help_text="From midnight to midnight, UTC."
    )
    max_concurrency = WholeNumber(
        label="Calls at once", required=False, help_text="Streams count until they end."
    )
    burst = WholeNumber(
        label="Burst",
        required=False,
        help_text="Requests that may come together. Empty: a sixth of a minute’s, at least ten.",
    )
    rate_limits = Lines(
        label="Further windows",
        required=False,
        help_text="Such as 10/s, 500/h or 5000/d, one a line. All of them count.",
    )
    rate_limit_tpm = WholeNumber(
        label="Tokens a minute", required=False, help_text="In any 60 seconds."
    )
    tokens_budget_day = WholeNumber(
        label="Tokens a day", required=False, help_text="Midnight to midnight, UTC."
    )
    tokens_budget = WholeNumber(
        label="Tokens a month", required=False, help_text="Calendar month, UTC."
    )
    tokens_budget_total = WholeNumber(
        label="Tokens in all", required=False, help_text="Never begins anew."
    )
    cost_budget_day_usd = Dollars(label="USD a day", help_text="Midnight to midnight, UTC.")
    cost_budget_usd = Dollars(label="USD a month", help_text="Calendar month, UTC.")
    cost_budget_total_usd = Dollars(label="USD in all", help_text="Never begins anew.")
    clamp_to_budget = forms.BooleanField(
        label="Shorten answers to what is left",
        required=False,
        help_text="A call that asks for more tokens than its budgets have left gets fewer, and is told so."
        " Without this it is refused.",
    )

    def rows(self) -> list[list[forms.BoundField]]:
        """What is no limit."""
        return [row for row in super().rows() if row[0].name not in LIMITS]

    def limit_groups(self) -> list[LimitGroup]:
        return [LimitGroup(title, [self[name] for name in names]) for title, names in _GROUPS]


#: How each limit is called on the page of what has it.
LABELS: Final[dict[str, str]] = {name: str(LimitFields.base_fields[name].label) for name in LIMITS}
