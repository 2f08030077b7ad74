"""Lists that only grow (calls, ledger, audit): filters in the URL, which the admin API reads the same way, and pages by a cursor.

A parameter that means nothing is a sentence above an empty list, with 400: showing everything would look like an answer.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest

from gateway.api import requests
from tenants.errors import Invalid
from tenants.models import Tenant

_OFFERED: Final = 200
_LONGEST_SHOWN: Final = 256
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MINUTE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?", re.ASCII)
_MOMENTS: Final = ("since", "until")


@dataclass(frozen=True, slots=True)
class Filter:
    """A field of the bar above a list. With `choices` it is chosen, else typed; `offered` are suggestions."""

    name: str
    label: str
    choices: Sequence[tuple[str, str]] = ()
    type: str = "text"
    offered: Sequence[tuple[str, str]] = ()
    value: str = ""
    wide: bool = False


@dataclass(slots=True)
class Asked:
    """What the URL asks for: `shown` as it was typed, `query` as filters read it. `fault` is why it cannot be answered."""

    shown: dict[str, str]
    query: dict[str, str] = field(default_factory=dict)
    fault: str = ""

    def bar(self, filters: Sequence[Filter]) -> list[Filter]:
        """The fields with what was typed into them."""
        return [
            Filter(
                each.name,
                each.label,
                each.choices,
                each.type,
                each.offered,
                self.shown.get(each.name, ""),
                each.wide,
            )
            for each in filters
        ]

    @property
    def is_filtered(self) -> bool:
        return any(name not in {"cursor", "limit"} for name in self.shown)

    @property
    def is_first_page(self) -> bool:
        return "cursor" not in self.shown

    def url_with(self, **changed: str | None) -> str:
        """The same list with other parameters; null takes one out. A cursor belongs to its own filters."""
        kept = {name: value for name, value in self.shown.items() if name != "cursor"}
        kept |= {name: value for name, value in changed.items() if value is not None}
        for name, value in changed.items():
            if value is None:
                kept.pop(name, None)
        return f"?{urlencode(kept)}"


def read(request: HttpRequest, known: Sequence[str]) -> Asked:
    shown = {
        name: str(value)[:_LONGEST_SHOWN]
        for name, value in request.GET.items()
        if value and name in {*known, "cursor"}
    }
    asked = Asked(shown)
    try:
        asked.query = requests.parameters(request.GET, (*known, "cursor"))
    except Invalid as refusal:
        asked.fault = refusal.message
    for name in _MOMENTS:
        if name in asked.query:
            asked.query[name] = in_utc(asked.query[name])
    return asked


def in_utc(text: str) -> str:
    """What a date field of a browser sends has no zone; all times of the console are UTC."""
    if _DAY.fullmatch(text):
        return f"{text}T00:00:00Z"
    return f"{text}Z" if _MINUTE.fullmatch(text) else text


def offered_tenants() -> list[tuple[str, str]]:
    return list(Tenant.objects.order_by("name").values_list("slug", "name")[:_OFFERED])


def context(asked: Asked, filters: Sequence[Filter], next_cursor: str | None) -> Mapping[str, Any]:
    """What the templates of such lists need."""
    return {
        "asked": asked,
        "bar": asked.bar(filters),
        "older": asked.url_with(cursor=next_cursor) if next_cursor else "",
        "newest": "" if asked.is_first_page else asked.url_with(cursor=None),
    }


def status_of(asked: Asked) -> int:
    return 400 if asked.fault else 200
