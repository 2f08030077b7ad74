"""What a tenant's key can do to keys and projects. Every change here is one of the services', within what that key may."""

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from keys.errors import TooManyChanges
from keys.models import APIKey
from keys.services import Issued, issue_key, revoke_key, rotate_key, update_key
from keys.warrants import Warrant
from tenants import project_services
from tenants.actor import Actor
from tenants.clock import SYSTEM
from tenants.models import AuditEvent, Project

#: Changes, refused ones included, that one key may make in a minute: each is a row of the audit log for ever.
MOST_A_MINUTE: Final = 120
_MINUTE: Final = timedelta(minutes=1)


def issue(*, actor: Actor, warrant: Warrant, name: object, **fields: Any) -> Issued:
    _hold_back(actor)
    return issue_key(
        actor=actor,
        tenant_id=warrant.tenant_id,
        name=name,
        source=APIKey.Source.SELF_SERVICE.value,
        warrant=warrant,
        **fields,
    )


def update(*, actor: Actor, warrant: Warrant, key_id: UUID, **fields: Any) -> APIKey:
    _hold_back(actor)
    return update_key(actor=actor, key_id=key_id, warrant=warrant, **fields)


def rotate(*, actor: Actor, warrant: Warrant, key_id: UUID, **fields: Any) -> Issued:
    _hold_back(actor)
    return rotate_key(actor=actor, key_id=key_id, warrant=warrant, **fields)


def revoke(*, actor: Actor, warrant: Warrant, key_id: UUID) -> None:
    """Any key that it sees, also one that may do more: nothing is gained by an end."""
    _hold_back(actor)
    revoke_key(actor=actor, key_id=key_id, warrant=warrant)


def create_project(*, actor: Actor, warrant: Warrant, name: object, **limits: Any) -> Project:
    _hold_back(actor)
    return project_services.create_project(
        actor=actor, tenant_id=warrant.tenant_id, name=name, bounds=warrant, **limits
    )


def delete_project(*, actor: Actor, warrant: Warrant, project_id: UUID) -> None:
    _hold_back(actor)
    project_services.delete_project(actor=actor, project_id=project_id, bounds=warrant)


def _hold_back(actor: Actor) -> None:
    """Raises `TooManyChanges`, of which there is no row: it would be one of what there is too much of."""
    made = AuditEvent.objects.filter(actor_id=actor.id, created_at__gt=SYSTEM.now() - _MINUTE)
    if made[:MOST_A_MINUTE].count() == MOST_A_MINUTE:
        raise TooManyChanges
