"""Small parts of the console's pages: `{% load console %}`. Each draws one template of `templates/console/parts/`."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django import forms, template
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.utils.html import conditional_escape

from tenants.clock import SYSTEM

register = template.Library()

#: What a state looks like: (the chip's colour, its icon, the word). Colour never speaks alone.
_STATES: Final = {
    "active": ("ok", "i-ok", "Active"),
    "ok": ("ok", "i-ok", "OK"),
    "paused": ("warn", "i-clock", "Paused"),
    "expired": ("warn", "i-clock", "Expired"),
    "warning": ("warn", "i-warn", "Warning"),
    "old_secret": ("warn", "i-rotate", "Old secret"),
    "failed": ("bad", "i-bad", "Failed"),
    "refused": ("bad", "i-bad", "Refused"),
    "revoked": ("off", "i-off", "Revoked"),
    "inactive": ("off", "i-off", "Inactive"),
    "deleted": ("off", "i-off", "Deleted"),
}
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_FOREVER: Final = timedelta(days=730)


@register.inclusion_tag("console/parts/icon.html")
def icon(name: str) -> dict[str, str]:
    """A sign of the page's sprite; for the eye alone."""
    return {"name": name}


@register.inclusion_tag("console/parts/chip.html")
def chip(state: str, word: str = "", mark: str = "") -> dict[str, str]:
    """A state of the table above, or `chip "warn" "Anything" "i-clock"` in that colour."""
    colour, sign, known = _STATES.get(state, (state, "i-info", state))
    return {"colour": colour, "icon": mark or sign, "word": word or known}


@register.inclusion_tag("console/parts/moment.html")
def moment(value: datetime | None, never: str = "never") -> dict[str, Any]:
    """How long ago, or in how long, with the exact time as its title."""
    return {"value": value and value.astimezone(UTC), "text": _distance(value), "never": never}


@register.inclusion_tag("console/parts/moment.html")
def day(value: datetime | None, never: str = "never") -> dict[str, Any]:
    """A date, with the exact time as its title."""
    text = f"{value.astimezone(UTC):%-d %b %Y}" if value else ""
    return {"value": value and value.astimezone(UTC), "text": text, "never": never}


def _distance(value: datetime | None) -> str:
    if value is None:
        return ""
    away = SYSTEM.now() - value
    size = _size(abs(away))
    if not size:
        return "just now"
    return f"{size} ago" if away > timedelta(0) else f"in {size}"


def _size(away: timedelta) -> str:
    if away < timedelta(seconds=2):
        return ""
    if away < _MINUTE:
        return f"{away.seconds} s"
    if away < _HOUR:
        return f"{away // _MINUTE} min"
    if away < 2 * _DAY:
        return f"{away // _HOUR} h"
    return f"{away.days} d" if away < _FOREVER else f"{away.days // 365} years"


@register.filter
def soon(value: datetime | None, days: int = 14) -> bool:
    """Whether it comes within so many days, or has come."""
    return value is not None and value - SYSTEM.now() < timedelta(days=days)


@register.filter
def state_class(message: Any) -> str:
    """The banner for one of Django's messages."""
    return {"success": "ok", "warning": "warn", "error": "bad"}.get(message.level_tag, "info")


@register.filter
def grouped(value: int | None) -> str:
    """A number with its thousands apart; null is no limit."""
    return "–" if value is None else f"{value:,}"


@register.inclusion_tag("console/parts/heading.html")
def heading(cl: ChangeList, name: str, label: str, css: str = "") -> dict[str, Any]:
    """A column's head that sorts by a field of `list_display`."""
    index = list(cl.list_display).index(name)
    direction = cl.get_ordering_field_columns().get(index, "")
    turned = f"-{index}" if direction == "asc" else str(index)
    return {
        "label": label,
        "css": css,
        "direction": {"asc": "ascending", "desc": "descending"}.get(direction, ""),
        "url": cl.get_query_string({ORDER_VAR: turned}, ["p"]),
    }


@register.inclusion_tag("console/parts/pager.html")
def pager(cl: ChangeList) -> dict[str, Any]:
    """Links to the pages before and after this one."""
    page, last = cl.page_num, cl.paginator.num_pages
    return {
        "page": page,
        "last": last,
        "total": cl.result_count,
        "before": cl.get_query_string({"p": page - 1}) if page > 1 else "",
        "after": cl.get_query_string({"p": page + 1}) if page < last else "",
    }


@register.simple_tag
def kept_filters(cl: ChangeList) -> list[tuple[str, str]]:
    """What a list is filtered by beside what its filter form shows: to be sent along with it."""
    selects: list[Any] = [each for each in cl.filter_specs if getattr(each, "as_select", False)]
    shown = {spec.parameter_name for spec in selects}
    shown |= {"q", "p", ORDER_VAR}
    return [
        (name, value)
        for name, values in cl.filter_params.items()
        if name not in shown
        for value in values
    ]


@register.simple_tag
def choices_of(spec: Any, cl: ChangeList) -> list[dict[str, Any]]:
    """What a filter offers: `display`, `selected`, `query_string`."""
    return list(spec.choices(cl))


@register.inclusion_tag("console/parts/field.html")
def field(bound: forms.BoundField) -> dict[str, Any]:
    """A field with label, hint and error, tied together for who does not see them."""
    widget = bound.field.widget
    described = [
        f"{bound.id_for_label or bound.auto_id}-{part}"
        for part, there in (("hint", bound.help_text), ("error", bound.errors))
        if there
    ]
    attributes: dict[str, str | bool] = {"class": _class_of(widget)}
    if described:
        attributes["aria-describedby"] = " ".join(described)
    if bound.errors:
        attributes["aria-invalid"] = "true"
    many = isinstance(widget, forms.RadioSelect | forms.CheckboxSelectMultiple)
    notes = getattr(bound.field, "notes", {})
    return {
        "bound": bound,
        "base": bound.id_for_label or bound.auto_id,
        "kind": "many" if many else _kind_of(widget),
        "control": None if many else bound.as_widget(attrs=attributes),
        "flow": isinstance(widget, forms.CheckboxSelectMultiple),
        "described": attributes.get("aria-describedby", ""),
        "options": [
            (part, notes.get(conditional_escape(part.data["value"]), ""))
            for part in (bound.subwidgets if many else ())
        ],
        "offered": getattr(bound.field, "offered", ()),
    }


def _kind_of(widget: forms.Widget) -> str:
    return "tick" if isinstance(widget, forms.CheckboxInput) else "plain"


def _class_of(widget: forms.Widget) -> str:
    if isinstance(widget, forms.CheckboxInput):
        return ""
    own = str(widget.attrs.get("class", ""))
    if isinstance(widget, forms.Select):
        return f"select {own}".strip()
    wide = isinstance(widget, forms.Textarea) or "size" not in widget.attrs
    return f"input {'input-wide' if wide else ''} {own}".strip()
