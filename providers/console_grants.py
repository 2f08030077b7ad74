"""Whom a shared provider or model is for, in their forms."""

from typing import Any, Final

from providers import grants
from providers.models import Granted
from tenants.console_forms import Lines, OneOf
from tenants.console_limits import LimitFields

_ALL: Final = "all"
_SOME: Final = "some"
_BOTH: Final = ("availability", grants.FIELD)


class GrantFields(LimitFields):
    """Two fields that are one value: all tenants, or a list of them, which may be empty."""

    availability = OneOf(
        label="For whom",
        choices=[(_ALL, "All tenants"), (_SOME, "Only the tenants named beside")],
        help_text="To the others it does not exist: 404.",
    )
    tenants = Lines(
        label="Granted to",
        required=False,
        help_text="Slugs or ids, one a line. Read only if it is not for all.",
    )

    def __init__(self, *args: Any, is_shared: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["availability"].required = False
        for name in _BOTH:
            field = self.fields.pop(name)
            if is_shared:
                self.fields[name] = field  # behind the others

    @staticmethod
    def with_grants(values: dict[str, Any], everything: dict[str, Any]) -> dict[str, Any]:
        """The values for the service: if one of the two fields is among them, both make the list."""
        plain = {name: value for name, value in values.items() if name not in _BOTH}
        if plain.keys() == values.keys() or not everything.get("availability"):
            return plain
        is_all = everything["availability"] == _ALL
        return {**plain, grants.FIELD: None if is_all else everything.get(grants.FIELD) or []}


def initial_grants(thing: Granted) -> dict[str, Any]:
    """What the two fields are drawn with."""
    slugs = sorted(each.slug for each in thing.granted.all()) or None
    return {"availability": _SOME if thing.is_restricted else _ALL, grants.FIELD: slugs}


def granted_names(thing: Granted) -> list[str] | None:
    """The names of those it is for; None: all."""
    if not thing.is_restricted:
        return None
    return list(thing.granted.order_by("name").values_list("name", flat=True))
