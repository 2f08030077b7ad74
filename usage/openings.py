"""What a key, project or account had used elsewhere before it came here. It counts in the budgets of the window it was used in,
and is no money line of ours: nobody was called, and no provider sends us a bill for it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db.models import Sum

from tenants.changes import Change
from tenants.clock import SYSTEM
from tenants.limits import Unit
from usage.levels import Kind
from usage.models import Opening

_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Used:
    """`window` as usage/windows.py names it."""

    kind: Kind
    level_id: UUID
    window: str
    nano_usd: int


def enter(it: Change, used: Sequence[Used], note: str) -> None:
    """Write these down, inside the change that makes their levels: nothing may have been spent there yet, so no balance is there
    either, and the one that will be begins with this.
    """
    actor, now = it.entry.actor, SYSTEM.now()
    Opening.objects.bulk_create(
        [
            Opening(
                level_kind=each.kind,
                level_id=each.level_id,
                unit="nano_usd",
                window=each.window,
                amount=each.nano_usd,
                created_at=now,
                note=note,
                actor_type=actor.type,
                actor_id=actor.id[:64],
                actor_label=actor.label[:128],
            )
            for each in used
        ],
        _CHUNK,
    )


def opened_with(levels: Collection[UUID], window: str) -> dict[tuple[UUID, str], int]:
    """By level and unit, what was entered for that window."""
    rows = Opening.objects.filter(level_id__in=levels, window=window)
    sums = rows.order_by().values_list("level_id", "unit").annotate(Sum("amount"))
    return {(level_id, unit): amount for level_id, unit, amount in sums}


def opening_of(level_id: UUID, window: str, unit: Unit) -> int:
    return opened_with([level_id], window).get((level_id, unit), 0)
