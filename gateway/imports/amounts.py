"""Money, limits and times as other gateways write them, in our units. A limit never comes out wider than it was."""

import csv
import io
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any, Final

from tenants.errors import Invalid
from tenants.limits import Window
from usage import money

_NANO: Final = Decimal(money.NANO_PER_USD)
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})(mo|[smhdw])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "mo": 31 * 86_400}
_DAY: Final = 86_400
_LONGEST_MONTH: Final = 31 * _DAY
_WORDS: Final = {
    "true": True,
    "t": True,
    "1": True,
    "yes": True,
    "false": False,
    "f": False,
    "0": False,
    "no": False,
}


def is_nothing(value: object) -> bool:
    """What stands for no value in CSV, JSON and columns of databases."""
    return value is None or value in ("", "null", "NULL", "{}", "[]") or value in ([], {})


def number(field: str, value: object) -> Decimal | None:
    """Exactly what is written; a float is what its shortest text says. Raises `Invalid`."""
    if is_nothing(value):
        return None
    if isinstance(value, bool):
        raise Invalid.field(field, "must be a number.")
    try:
        found = Decimal(repr(value) if isinstance(value, float) else str(value).strip())
    except InvalidOperation:
        raise Invalid.field(field, "must be a number.") from None
    if not found.is_finite() or abs(found) > 10**24:
        raise Invalid.field(field, "is no number that can be counted with.")
    return found


def whole(field: str, value: object) -> int | None:
    """An integer, also where it is written as a text or with zeros after its point. Raises `Invalid`."""
    found = number(field, value)
    if found is None:
        return None
    if found != found.to_integral_value():
        raise Invalid.field(field, "must be a whole number.")
    return int(found)


def nano(field: str, value: object, *, up: bool) -> int | None:
    """An amount of USD in nano-USD. What was spent is rounded up, what may be spent down."""
    found = number(field, value)
    if found is None:
        return None
    return int((found * _NANO).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR))


def truth(field: str, value: object) -> bool | None:
    if value is None or value == "":
        return None
    found = value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())
    if found is None:
        raise Invalid.field(field, "must be true or false.")
    return found


def moment(field: str, value: object) -> datetime | None:
    """A time; one without a zone is in UTC, as databases keep them."""
    if is_nothing(value):
        return None
    found = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.strip())
        except ValueError:
            found = None
    if not isinstance(found, datetime):
        raise Invalid.field(field, "must be a time like 2026-01-31T12:00:00Z.")
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def window(field: str, duration: object) -> tuple[Window, bool]:
    """The calendar window for a budget that begins anew after `duration` (`30d`, `1mo`, null: never), and whether it is as long.
    If none is, it is the next longer one: the same amount then has to last longer, and never buys more.
    """
    if is_nothing(duration):
        return "total", True
    match = _DURATION.fullmatch(str(duration).strip())
    if match is None:
        raise Invalid.field(field, "must be a duration like 1d, 30d or 1mo.")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds <= _DAY:
        return "day", seconds == _DAY
    if seconds <= _LONGEST_MONTH:
        return "month", seconds >= 30 * _DAY
    return "total", False


def limits(
    values: Mapping[str, Any], names: Mapping[str, tuple[str, int]]
) -> tuple[dict[str, int], list[str], list[str]]:
    """Limits of ours out of another's columns: `names` gives ours and our highest. With them, the columns that say nothing may
    pass, and those that say more than we can, which is no limit.
    """
    found: dict[str, int] = {}
    nothing, unbounded = [], []
    for theirs, (ours, highest) in names.items():
        count = whole(theirs, values.get(theirs))
        if count is None:
            continue
        if count <= 0:
            nothing.append(theirs)
        elif count > highest:
            unbounded.append(theirs)
        else:
            found[ours] = count
    return found, nothing, unbounded


def texts(field: str, value: object) -> list[str]:
    """A list of texts: as one, as JSON, or as PostgreSQL writes an array (`{a,b}`)."""
    if is_nothing(value):
        return []
    found = value
    if isinstance(value, str):
        text = value.strip()
        is_array = text.startswith("{") and text.endswith("}")
        found = _array(text[1:-1]) if is_array else _json(text)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise Invalid.field(field, "must be a list of texts.")
    return found


def _array(text: str) -> list[str] | None:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), escapechar="\\", doublequote=False))
    except (csv.Error, StopIteration):
        return None


def mapping(field: str, value: object) -> dict[str, Any]:
    """An object, as one or as JSON."""
    if is_nothing(value):
        return {}
    found = _json(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise Invalid.field(field, "must be an object.")
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
