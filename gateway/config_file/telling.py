"""Plans and revisions as they are told: to programs and to people. Of a secret only that there is one."""

from collections.abc import Iterator
from typing import Any

from gateway.config_file.applying import Applied, RolledBack
from gateway.config_file.differences import Plan
from tenants.models import ConfigRevision


def plan_body(plan: Plan) -> dict[str, Any]:
    return {
        "object": "config_plan",
        "revision": plan.revision,
        "is_empty": plan.is_empty,
        "counts": plan.counts(),
        "changes": [step.told() for step in plan.changing],
        "adopted": [step.named() for step in plan.adopting],
        "orphans": [step.named() for step in plan.orphans],
        "warnings": plan.warnings,
    }


def applied_body(applied: Applied) -> dict[str, Any]:
    """With the one sight of the keys that were made."""
    return {
        **plan_body(applied.plan),
        "object": "config_applied",
        "revision": applied.revision,
        "is_new": applied.is_new,
        "keys": [
            {"tenant": tenant, "name": name, "key": credential.reveal().decode()}
            for tenant, name, credential in applied.made
        ],
    }


def rolled_back_body(done: RolledBack) -> dict[str, Any]:
    return {
        "object": "config_rolled_back",
        "rolled_back": done.revision,
        "revision": done.current,
        "warnings": done.warnings,
    }


def revision_body(revision: ConfigRevision) -> dict[str, Any]:
    return {
        "id": str(revision.id),
        "object": "config_revision",
        "revision": revision.number,
        "digest": revision.digest,
        "counts": revision.counts,
        "actor": {
            "type": revision.actor_type,
            "id": revision.actor_id,
            "label": revision.actor_label,
        },
        "applied_at": revision.applied_at,
        "rolled_back_at": revision.rolled_back_at,
        "rolled_back_by": revision.rolled_back_by or None,
        "can_be_rolled_back": revision.undo is not None,
    }


_MARKS = {"create": "+", "update": "~", "delete": "-"}


def plan_lines(plan: Plan) -> Iterator[str]:
    """One line for each thing, one below it for each field."""
    for step in plan.changing:
        inside = f"{step.tenant}/" if step.tenant else ""
        yield f"{_MARKS[step.action]} {step.kind} {inside}{step.name}"
        for name, change in step.changes.items():
            yield f"    {name}: {change['from']!r} -> {change['to']!r}"
    for step in plan.adopting:
        inside = f"{step.tenant}/" if step.tenant else ""
        yield f"= {step.kind} {inside}{step.name} was there before; the file owns it from now on"
    counts = plan.counts()
    yield (
        f"{counts['create']} to make, {counts['update']} to change, {counts['delete']} to take away,"
        f" {counts['unchanged']} as they are."
    )
