"""Runtime settings: decided while the house runs, by a row each, and read anew by whoever goes by them.

The environment gives the first value. A variable that is set locks its setting: the row, if there is one, does not count, and
changing it is refused, so that nobody believes in a value that the next start would not have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings

from tenants import validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import change
from tenants.errors import Conflict, Invalid
from tenants.models import Setting
from tenants.validation import Rule

KIND: Final = "setting"
MOST_DAYS: Final = 3650
MOST_SECONDS: Final = 86_400
_AT_ONCE: Final = "at once"
_NEXT_RUN: Final = "with the next housekeeping"
_RESTART: Final = "with a restart"


class Locked(Conflict):
    """The environment says it. `fields` names the variables."""

    code = "managed_by_environment"


@dataclass(frozen=True, slots=True)
class Known:
    """A setting that there is. `first`: the environment's value, or the default. Without a rule it can only be read here."""

    first: Callable[[], Any]
    description: str
    applies: str
    rule: Rule | None = None
    variable: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """A setting as it is now. `source`: `default`, `stored` or `environment`."""

    name: str
    value: Any
    source: str
    known: Known = field(repr=False)

    @property
    def is_locked(self) -> bool:
        return self.source == "environment" or self.known.rule is None


def _days(field: str, value: object) -> int | None:
    if value is None:
        return None
    return validation.limit(field, value, MOST_DAYS)


def _some_days(field: str, value: object) -> int:
    days = validation.limit(field, value, MOST_DAYS)
    if days is None:
        raise Invalid.field(field, f"must be between 1 and {MOST_DAYS}.")
    return days


def _seconds(field: str, value: object) -> int:
    seconds = validation.limit(field, value, MOST_SECONDS)
    if seconds is None:
        raise Invalid.field(field, f"must be between 1 and {MOST_SECONDS}: every wait has an end.")
    return seconds


def _sign_up(field: str, value: object) -> bool:
    if validation.flag(field, value):
        raise Invalid.field(field, "cannot be switched on: it needs mail, which is not there yet.")
    return False


def _timeout(name: str, description: str, *, is_fixed: bool = False) -> Known:
    def first() -> float:
        seconds: float = settings.TIMEOUTS_TOLD[name]
        return int(seconds) if seconds == int(seconds) else seconds

    return Known(
        first,
        description,
        _RESTART if is_fixed else _AT_ONCE,
        rule=None if is_fixed else _seconds,
        variable=f"GATEHOUSE_TIMEOUT_{name.upper()}",
    )


#: The limits of an upstream call that act while the house runs, by their name in providers.types.Timeouts.
UPSTREAM_TIMEOUTS: Final = ("connect", "first_byte", "between_chunks", "total")

KNOWN: Final[Mapping[str, Known]] = {
    "log_retention_days": Known(
        lambda: settings.RETENTION_DAYS or None,
        "Days for which the log of calls and their attempts are kept. Null: for ever. Money lines, sums and balances stay.",
        _NEXT_RUN,
        rule=_days,
        variable="GATEHOUSE_RETENTION_DAYS",
    ),
    "audit_retention_days": Known(
        lambda: settings.AUDIT_RETENTION_DAYS or None,
        "Days for which audit rows stay in the database; older ones go into files, a segment at a time. Null: for ever.",
        _NEXT_RUN,
        rule=_days,
        variable="GATEHOUSE_AUDIT_RETENTION_DAYS",
    ),
    "session_retention_days": Known(
        lambda: 30,
        "Days for which the row of a session, or of an invitation, stays after its end.",
        _NEXT_RUN,
        rule=_some_days,
    ),
    "content_logging": Known(
        lambda: settings.CONTENT_LOGGING,
        "Whether bodies of calls may be kept at all. Off: nobody's are, whatever tenant and key ask for.",
        _AT_ONCE,
        rule=validation.flag,
        variable="GATEHOUSE_CONTENT_LOGGING",
    ),
    "public_signup": Known(
        lambda: False,
        "Whether strangers may sign up. Not in this release.",
        _AT_ONCE,
        rule=_sign_up,
    ),
    "timeout_connect": _timeout("connect", "Seconds to connect to an upstream."),
    "timeout_first_byte": _timeout(
        "first_byte", "Seconds from a request sent to the first byte of its answer."
    ),
    "timeout_between_chunks": _timeout(
        "between_chunks", "Seconds of silence in the middle of an answer."
    ),
    "timeout_total": _timeout("total", "Seconds of a whole call."),
    "timeout_head": _timeout(
        "head", "Seconds in which the head of a request must come.", is_fixed=True
    ),
    "timeout_body_idle": _timeout(
        "body_idle", "Seconds in which some more of a request's body must come.", is_fixed=True
    ),
    "timeout_drain": _timeout(
        "drain", "Seconds that running streams get when a worker is told to end.", is_fixed=True
    ),
}


def states() -> list[State]:
    """Every setting as it is now, in one query."""
    stored: dict[str, Any] = dict(Setting.objects.values_list("name", "value"))
    return [_state(name, known, stored) for name, known in KNOWN.items()]


def value_of(name: str) -> Any:
    return _state(name, KNOWN[name], _stored(name)).value


def upstream_timeouts() -> dict[str, float]:
    """Seconds, by the names of providers.types.Timeouts."""
    values = {state.name: state.value for state in states()}
    return {name: float(values[f"timeout_{name}"]) for name in UPSTREAM_TIMEOUTS}


def change_settings(*, actor: Actor, values: Mapping[str, Any]) -> list[State]:
    """Stores these; the others stay. Raises `Invalid`, and `Locked` for what the environment says."""
    with change(actor, "settings.changed", Target("settings", "house", "settings")) as it:
        if not values:
            raise Invalid("Nothing to change was given.")
        clean = validation.checked(
            values, {name: known.rule or _kept for name, known in KNOWN.items()}
        )
        before = {state.name: state for state in states()}
        _refuse_locked(before[name] for name in clean)
        for name, value in clean.items():
            if value == before[name].value and before[name].source == "stored":
                continue
            row, _ = Setting.objects.update_or_create(name=name, defaults={"value": value})
            it.touch(KIND, row.id, None)
            it.detail(**{name: {"from": before[name].value, "to": value}})
    return states()


def _refuse_locked(asked: Any) -> None:
    locked = {state.name: _lock_sentence(state.known) for state in asked if state.is_locked}
    if locked:
        first = next(iter(locked))
        raise Locked(f"{first}: {locked[first]}", fields=locked)


def _lock_sentence(known: Known) -> str:
    return f"is set by {known.variable}, which is read when a process starts."


def _kept(field: str, value: object) -> object:
    """Of one that is only read here: it is refused as locked, whatever it is to be."""
    return value


def _stored(name: str) -> dict[str, Any]:
    return dict(Setting.objects.filter(name=name).values_list("name", "value"))


def _state(name: str, known: Known, stored: Mapping[str, Any]) -> State:
    if known.variable in settings.SET_BY_ENVIRONMENT:
        return State(name, known.first(), "environment", known)
    if name in stored and known.rule is not None:
        return State(name, stored[name], "stored", known)
    return State(name, known.first(), "default", known)
