"""A table of SHA-256 hashes: a row per key, with whatever a key of ours can have."""

import json
import re
from typing import Any, Final

from gateway.imports import files
from gateway.imports.amounts import nano, truth
from gateway.imports.files import Row
from gateway.imports.plan import Plan, PlannedGroup, Used
from keys import importing
from tenants.errors import Invalid
from tenants.limit_rules import LIMITS

_LISTS: Final = frozenset(
    ("scopes", "allowed_models", "allowed_capabilities", "allowed_addresses", "rate_limits")
)
_FLAGS: Final = frozenset(("is_active", "log_content", "clamp_to_budget"))
_NUMBERS: Final = frozenset(LIMITS) - _LISTS - _FLAGS - {name for name in LIMITS if "usd" in name}
_DIGITS: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_SEPARATORS: Final = re.compile(r"[,;\s]+")
#: What a row may have besides the fields of a key.
_OWN: Final = frozenset(("hash", "sha256", "key_prefix", "project", "account", "budget_spent_usd"))
#: Budget of a key → the window in which what was spent counts.
_WINDOWS: Final = {
    "cost_budget_total_usd": "total",
    "cost_budget_usd": "month",
    "cost_budget_day_usd": "day",
}


def read(path: str) -> Plan:
    """Raises `Invalid` for a file that is no table; rows that are no good are faults of the plan."""
    plan = Plan("sha256")
    rows = files.read_rows(path, "file")
    unknown = {name for row in rows for name in row.values} - _OWN - importing.RULES.keys()
    if unknown:
        names = ", ".join(sorted(unknown)[:8])
        raise Invalid.field("file", f"has columns that no key has: {names}.")
    for row in rows:
        try:
            _add(plan, row)
        except Invalid as fault:
            plan.fault(row.where, fault)
    return plan


def _add(plan: Plan, row: Row) -> None:
    values = {name: value for name, value in row.values.items() if value not in (None, "")}
    if "hash" in values and "sha256" in values:
        raise Invalid.field("hash", "and sha256 are the same; give one.")
    sha256 = importing.read_sha256("hash", values.pop("hash", values.pop("sha256", None)))
    shown = importing.shown_part(sha256, str(values.pop("key_prefix", "")))
    spent = nano("budget_spent_usd", values.pop("budget_spent_usd", None), up=True) or 0
    project, account = str(values.pop("project", "")), str(values.pop("account", ""))
    fields = {name: _value(name, value) for name, value in values.items()}
    fields.setdefault("name", shown)
    used = [Used(window, spent) for window in _counted_in(fields)] if spent > 0 else []
    if spent < 0:
        raise Invalid.field("budget_spent_usd", "must not be negative.")
    if spent and not used:
        plan.leave(f"key {fields['name']}", "budget_spent_usd", "it has no budget in USD.")
    if project:
        plan.projects.setdefault(project.lower(), PlannedGroup(project))
    if account:
        plan.accounts.setdefault(account.lower(), PlannedGroup(account, is_here=True))
    plan.add_key(
        row.where,
        sha256,
        fields,
        shown=shown,
        project=project.lower(),
        account=account.lower(),
        used=used,
    )


def _counted_in(fields: dict[str, Any]) -> list[Any]:
    """What was spent counts in the month and in all; in a day only where there is nothing but a day's budget."""
    having = [window for name, window in _WINDOWS.items() if fields.get(name) is not None]
    return [window for window in having if window != "day"] or having


def _value(name: str, value: Any) -> Any:
    """As the rules take it, if the table had it as a text. What makes no sense is left for them to refuse."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if name in _FLAGS:
        return truth(name, text)
    if name in _NUMBERS:
        return int(text) if _DIGITS.fullmatch(text) else text
    if name not in _LISTS:
        return text
    if text.startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return [item for item in _SEPARATORS.split(text) if item]
