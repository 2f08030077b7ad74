"""What the log keeps of why a call went as it did: short, for every row has it (usage/records.py, `Why`)."""

from collections.abc import Sequence
from typing import Final

from keys.chain import Identity
from providers.routing import Serving
from usage.hands import Lease
from usage.records import Taken, Why
from usage.wants import Refused

#: Candidates that are named, and characters of each.
_MOST: Final = 8
_LONGEST: Final = 96
#: Limits that are told of one call.
_MOST_LIMITS: Final = 24
#: The letter for a body that was understood.
READ: Final = "b"


def why(checked: str, candidates: tuple[str, ...] = (), taken: Sequence[Taken] = ()) -> Why:
    """`taken`: what the limits said."""
    return Why(checked, candidates, tuple(taken[:_MOST_LIMITS]))


def told_by(said: Lease | Refused | None) -> Sequence[Taken]:
    """What a lease took, or what a refusal came to: nothing was taken, so as much is left after as before."""
    if said is None:
        return ()
    if isinstance(said, Refused):
        what = f"{said.unit} {said.window}" if said.window else said.reason
        return ((said.level, what, said.limit, said.remaining, said.remaining),)
    return said.told


def lists(identity: Identity) -> str:
    """A letter for each of the lists that stand between this caller and a call."""
    addresses = "a" if identity.allowed_networks else ""
    models = "m" if identity.allowed_models else ""
    return addresses + models + ("" if identity.allowed_capabilities is None else "c")


def names(targets: Sequence[Serving]) -> tuple[str, ...]:
    """Of the targets that a call may go to, in their order."""
    return tuple([f"{each.upstream.name}/{each.name}"[:_LONGEST] for each in targets[:_MOST]])
