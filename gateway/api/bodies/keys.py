"""Keys. The credential itself is only in the two answers that make one."""

from typing import Any, Final

from gateway.api.bodies.common import identity, limits, moment
from keys.models import APIKey
from keys.services import Issued, current_prefix, previous_secret_expires_at, status_of
from tenants.clock import SYSTEM

#: Types of actors that are the tenant's.
_OF_THE_TENANT: Final = ("key", "member")


def key_body(key: APIKey) -> dict[str, Any]:
    """Reads `key.secrets`: fetch them with the rows of a list."""
    now = SYSTEM.now()
    return {
        "id": str(key.id),
        "object": "key",
        "tenant": str(key.tenant_id),
        "project": identity(key.project_id),
        "account": identity(key.account_id),
        "name": key.name,
        "team": key.team or None,
        "key_prefix": current_prefix(key),
        "status": status_of(key, now),
        "is_active": key.is_active,
        "source": key.source,
        "scopes": key.scopes,
        "allowed_models": key.allowed_models,
        "allowed_capabilities": key.allowed_capabilities,
        "allowed_addresses": key.allowed_addresses,
        **limits(key),
        "log_content": key.log_content,
        "expires_at": moment(key.expires_at),
        "created_at": moment(key.created_at),
        "created_by": _who(key.created_by_type, key.created_by_id, key.created_by_label),
        "revoked_at": moment(key.revoked_at),
        "revoked_by": _who(key.revoked_by_type, key.revoked_by_id, key.revoked_by_label),
        "revoked_reason": key.revoked_reason or None,
        "last_used_at": moment(key.last_used_at),
        "previous_secret_expires_at": moment(previous_secret_expires_at(key, now)),
    }


def own_key_body(key: APIKey) -> dict[str, Any]:
    """The same for a tenant's own key: who of the house made or ended a key has no name there, for it is one to sign in with."""
    body = key_body(key)
    for who in (body["created_by"], body["revoked_by"]):
        if who is not None and who["type"] not in _OF_THE_TENANT:
            who.update(id=None, label=None)
    return body


def own_issued_body(issued: Issued) -> dict[str, Any]:
    return {**own_key_body(issued.key), "key": issued.credential.reveal().decode()}


def issued_body(issued: Issued) -> dict[str, Any]:
    """With the one sight of the credential."""
    return {**key_body(issued.key), "key": issued.credential.reveal().decode()}


def _who(type_: str, id_: str, label: str) -> dict[str, str] | None:
    return {"type": type_, "id": id_, "label": label} if id_ else None
