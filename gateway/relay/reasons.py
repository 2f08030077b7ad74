"""What the log keeps of why a call went as it did: short, for every row has it (usage/records.py, `Why`)."""

from collections.abc import Sequence
from typing import Final

from gateway.snapshot import Known
from keys.chain import Identity
from providers.routing import Serving
from usage.hands import Lease
from usage.records import Taken, Why
from usage.wants import Refused
from usage.windows import kind_of

#: Candidates that are named, and characters of each.
_MOST: Final = 8
_LONGEST: Final = 96
#: Limits that are told of one call.
_MOST_LIMITS: Final = 24
_READ: Final = "b"


def why(
    known: Known,
    targets: Sequence[Serving] = (),
    taken: Sequence[Taken] = (),
    *,
    was_read: bool = True,
) -> Why:
    """`taken`: what the limits said. `was_read`: the body was understood."""
    letters = _lists(known.identity) + (_READ if was_read else "")
    told = tuple([each if each[2] else _with_limit(each, known) for each in taken[:_MOST_LIMITS]])
    return Why(letters, _names(targets[:_MOST]), told)


def _with_limit(taken: Taken, known: Known) -> Taken:
    """A worker that has some of a budget in hand does not know of how much: the caller's levels do."""
    kind, what, _, before, after = taken
    unit, _, window = what.partition(" ")
    for level in known.levels:
        if level.kind == kind:
            for budget in level.limits.budgets:
                if budget.unit == unit and budget.window == kind_of(window):
                    return kind, what, budget.most, before, after
    return taken


def told_by(said: Lease | Refused | None) -> Sequence[Taken]:
    """What a lease took, or what a refusal came to: nothing was taken, so as much is left after as before."""
    if said is None:
        return ()
    if isinstance(said, Refused):
        what = f"{said.unit} {said.window}" if said.window else said.reason
        return ((said.level, what, said.limit, said.remaining, said.remaining),)
    return said.told


def _lists(identity: Identity) -> str:
    """The lists that stood between this caller and a call."""
    addresses = "a" if identity.allowed_networks else ""
    models = "m" if identity.allowed_models else ""
    return addresses + models + ("" if identity.allowed_capabilities is None else "c")


def _names(targets: Sequence[Serving]) -> tuple[str, ...]:
    return tuple([f"{each.upstream.name}/{each.name}"[:_LONGEST] for each in targets])
