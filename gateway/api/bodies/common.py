"""What all bodies write the same way."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tenants.limit_rules import LIMITS
from tenants.models import Limited
from usage.models import NOBODY
from usage.money import usd_text


def moment(value: datetime | None) -> str | None:
    """UTC ISO 8601 with `Z`."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else None


def identity(value: UUID | None) -> str | None:
    """Null also for the id that stands for nobody."""
    return None if value is None or value == NOBODY else str(value)


def usd(nano: int | None) -> str | None:
    """Null stays null: an unknown cost is not nothing."""
    return None if nano is None else usd_text(nano)


def milliseconds(micros: int | None) -> float | None:
    return None if micros is None else round(micros / 1000, 3)


def limits(row: Limited) -> dict[str, Any]:
    """Every limit of a row, flat, by the contract's names. Null: none."""
    return {name: getattr(row, name) for name in LIMITS}
