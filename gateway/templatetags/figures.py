"""Figures as the console shows them: `{% load figures %}`. Units are in the names of what is passed."""

from typing import Any, Final

from django import template

from usage.money import usd_text

register = template.Library()

_MS: Final = 1_000
_SECOND: Final = 1_000_000
_MINUTE: Final = 60 * _SECOND
NOTHING: Final = "–"


@register.filter
def amount(nano_usd: int | None) -> str:
    """Exact USD without a sign; null is a dash, for an unknown amount is not nothing."""
    return NOTHING if nano_usd is None else usd_text(nano_usd)


@register.filter
def usd(nano_usd: int | None) -> str:
    """Exact USD: `$0.036384`."""
    if nano_usd is None:
        return NOTHING
    return f"-${usd_text(-nano_usd)}" if nano_usd < 0 else f"${usd_text(nano_usd)}"


@register.filter
def took(micros: int | None) -> str:
    """A duration in microseconds as one reads it: `0.35 ms`, `412 ms`, `7.95 s`, `2 min 5 s`."""
    if micros is None:
        return NOTHING
    if micros < 10 * _MS:
        return f"{micros / _MS:.2f} ms"
    if micros < _SECOND:
        return f"{micros / _MS:,.0f} ms"
    if micros < _MINUTE:
        return f"{micros / _SECOND:.2f} s"
    return f"{micros // _MINUTE} min {micros % _MINUTE // _SECOND} s"


@register.inclusion_tag("console/parts/chip.html")
def status_chip(status: int, error_code: str = "") -> dict[str, str]:
    """What the caller was answered: by colour, sign and number. A good answer can still end in an error."""
    if status < 400 and error_code:
        return {"colour": "warn", "icon": "i-warn", "word": f"{status}, broken off"}
    if status < 400:
        colour, icon = "ok", "i-ok"
    elif status < 500:
        colour, icon = "warn", "i-warn"
    else:
        colour, icon = "bad", "i-bad"
    return {"colour": colour, "icon": icon, "word": str(status)}


@register.inclusion_tag("console/parts/filter.html")
def filter_field(field: Any) -> dict[str, Any]:
    """One field of a `FilterBar`."""
    return {"field": field}
