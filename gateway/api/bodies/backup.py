"""How an import of a backup, or the look ahead at one, looks from outside."""

from typing import Any

from gateway.api.bodies.common import moment
from gateway.backup.services import Outcome, counts_of


def outcome_body(outcome: Outcome, *, is_preview: bool) -> dict[str, Any]:
    """`possible`: whether an import like this would be carried out; `refusals` say why not."""
    return {
        "object": "backup_preview" if is_preview else "backup_import",
        "created_at": moment(outcome.head.created_at),
        "product": outcome.head.product,
        "tenant": None if outcome.head.tenant is None else str(outcome.head.tenant),
        "with_logs": outcome.head.with_logs,
        "remap_ids": outcome.manner.remap_ids,
        "on_conflict": outcome.manner.on_conflict,
        "possible": not outcome.refusals,
        "refusals": outcome.refusals,
        "master_key": not outcome.unreadable,
        "unreadable": outcome.unreadable,
        "tables": counts_of(outcome),
        "conflicts": [{"table": each.table, "name": each.name} for each in outcome.conflicts],
        "warnings": outcome.warnings,
    }
