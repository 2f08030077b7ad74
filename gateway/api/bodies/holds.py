"""What is set aside: by calls in flight, and by the workers that serve them."""

from datetime import datetime
from typing import Any

from gateway.api.bodies.common import moment, usd
from usage.models import Hold, HoldSlice


def hold_body(hold: Hold, now: datetime) -> dict[str, Any]:
    """`held_usd` and `tokens` are what the call can still use at most; `id` names the call in the log once it has ended."""
    return {
        "id": str(hold.request_id),
        "object": "hold",
        "created_at": moment(hold.created_at),
        "age_seconds": max(0, round((now - hold.created_at).total_seconds())),
        "tenant": hold.tenant,
        "project": hold.project or None,
        "account": hold.account or None,
        "key_id": str(hold.key_id),
        "key_prefix": hold.key_prefix,
        "team": hold.team or None,
        "model": hold.model or None,
        "tokens": hold.tokens,
        "held_usd": usd(hold.nano_usd),
    }


def slice_body(row: HoldSlice, now: datetime) -> dict[str, Any]:
    """What one worker (`worker` is its journal's id) has borrowed of a budget and not used yet."""
    balance = row.balance
    money = balance.unit == "nano_usd"
    return {
        "id": str(row.pk),
        "object": "hold_slice",
        "worker": str(row.boot),
        "level": balance.level_kind,
        "level_id": str(balance.level_id),
        "unit": "usd" if money else "tokens",
        "window": balance.window,
        "amount": usd(row.amount) if money else row.amount,
        "state": state_of(row, now),
        "deadline": moment(row.deadline),
        "written_off_at": moment(row.written_off_at),
    }


def state_of(row: HoldSlice, now: datetime) -> str:
    """`lent`; `overdue`: its worker is late and is about to be looked after; `written_off`: counted as spent for now."""
    if row.written_off_at is not None:
        return "written_off"
    return "lent" if row.deadline > now else "overdue"
