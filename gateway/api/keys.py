"""Keys: under their tenant, and by their own id."""

from typing import Final
from uuid import UUID

from django.db.models import Q, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.common import moment
from gateway.api.bodies.keys import issued_body, key_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, flag, query_of
from gateway.api.shapes import keys as shapes
from gateway.api.usage import key_usage_body
from gateway.openapi.operations import switch
from gateway.openapi.schemas import TEXT, told
from gateway.shapes.pages import PAGES
from keys.models import APIKey
from keys.services import (
    EDIT_RULES,
    ISSUE_RULES,
    delete_key,
    issue_key,
    revoke_key,
    rotate_key,
    update_key,
)
from tenants.clock import SYSTEM
from tenants.models import Tenant

#: What a body of a change must not have.
FIXED: Final = (
    "id",
    "object",
    "tenant",
    "team",
    "source",
    "key",
    "key_prefix",
    "status",
    "created_at",
    "created_by",
    "revoked_at",
    "revoked_by",
    "revoked_reason",
    "last_used_at",
    "previous_secret_expires_at",
)

_REVOKED: Final = "`key_revoked`, with `revoked_at`: it has ended."
_CONFIG: Final = "`managed_by_config`: the configuration file has it."
_CHANGING: Final = {409: f"{_REVOKED} {_CONFIG}"}
_ROTATING: Final = {409: f"{_REVOKED} {_CONFIG} `conflict`: too many old secrets still work."}
_REVOKING: Final = {409: _REVOKED}
_ENDING: Final = {409: f"{_REVOKED} With `permanent`: {_CONFIG}"}
_FILTERS: Final = {
    "tenant": documented.OF_TENANT["tenant"],
    "team": told(TEXT, "Its team."),
    "project": told(TEXT, "The id or the name of a project."),
    "account": told(TEXT, "The id or the name of a user."),
    "active_only": switch("Only keys that open the door now."),
}


def _rows() -> "QuerySet[APIKey]":
    return APIKey.objects.prefetch_related("secrets")


def is_live() -> Q:
    """Neither paused, revoked nor expired."""
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=SYSTEM.now())
    return unexpired & Q(revoked_at__isnull=True, is_active=True)


def _by_id_or(field: str, name: str, value: str) -> Q:
    """An id where the value is one, else a name."""
    try:
        return Q(**{f"{field}_id": UUID(value)})
    except ValueError:
        return Q(**{f"{field}__{name}": value})


class TenantKeysView(AdminView):
    @documented.operation("listTenantKeys", "List a tenant's keys", query=PAGES, answer=shapes.KEYS)
    def get(self, request: Request, tenant_id: UUID) -> Response:
        query = query_of(request, paging.PARAMETERS)
        tenant = self.reach.one(Tenant.objects.all(), "id", pk=tenant_id)
        return paging.page(_rows().filter(tenant=tenant), query, key_body)

    @documented.operation(
        "issueKey", "Issue a key", body=shapes.NEW_KEY, answer=shapes.ISSUED, status=201
    )
    def post(self, request: Request, tenant_id: UUID) -> Response:
        self.reach.require(tenant_id)
        fields = fields_of(request, ISSUE_RULES)
        issued = issue_key(
            actor=actor_of(request),
            tenant_id=tenant_id,
            name=fields.pop("name", None),
            **fields,
        )
        return Response(issued_body(issued), status=201)


class TenantKeyView(AdminView):
    @documented.operation(
        "deleteTenantKey",
        "Revoke or delete a tenant's key",
        query={"permanent": switch("Whether the row goes as well.")},
        answer=None,
        refuses=_ENDING,
    )
    def delete(self, request: Request, tenant_id: UUID, key_id: UUID) -> Response:
        """Revokes; with `permanent=true` the row goes. The key of another tenant is not here."""
        permanent = flag(query_of(request, ("permanent",)), "permanent")
        self.reach.one(_rows(), pk=key_id, tenant_id=tenant_id)
        if permanent:
            delete_key(actor=actor_of(request), key_id=key_id)
        else:
            revoke_key(actor=actor_of(request), key_id=key_id)
        return Response(status=204)


class KeysView(AdminView):
    @documented.operation("listKeys", "List keys", query={**PAGES, **_FILTERS}, answer=shapes.KEYS)
    def get(self, request: Request) -> Response:
        query = query_of(
            request, (*paging.PARAMETERS, "tenant", "team", "project", "account", "active_only")
        )
        keys = self.reach.rows(_rows())
        for name, label in (("tenant", "slug"), ("project", "name"), ("account", "username")):
            if name in query:
                keys = keys.filter(_by_id_or(name, label, query[name]))
        if "team" in query:
            keys = keys.filter(team=query["team"])
        if flag(query, "active_only"):
            keys = keys.filter(is_live())
        return paging.page(keys, query, key_body)


class KeyView(AdminView):
    @documented.operation("getKey", "Look at a key", answer=shapes.KEY)
    def get(self, request: Request, key_id: UUID) -> Response:
        query_of(request)
        return Response(key_body(self.reach.one(_rows(), pk=key_id)))

    @documented.operation(
        "updateKey", "Change a key", body=shapes.KEY_CHANGES, answer=shapes.KEY, refuses=_CHANGING
    )
    def patch(self, request: Request, key_id: UUID) -> Response:
        self.reach.guard(APIKey, key_id)
        fields = fields_of(request, EDIT_RULES, fixed=FIXED)
        return Response(key_body(update_key(actor=actor_of(request), key_id=key_id, **fields)))


class RotateKeyView(AdminView):
    @documented.operation(
        "rotateKey",
        "Rotate a key",
        body=shapes.ROTATION,
        answer=shapes.ISSUED,
        status=201,
        refuses=_ROTATING,
    )
    def post(self, request: Request, key_id: UUID) -> Response:
        self.reach.guard(APIKey, key_id)
        fields = fields_of(request, ("grace_period_seconds",))
        issued = rotate_key(actor=actor_of(request), key_id=key_id, **fields)
        return Response(issued_body(issued), status=201)


class RevokeKeyView(AdminView):
    @documented.operation(
        "revokeKey",
        "Revoke a key",
        body=shapes.REVOCATION,
        answer=shapes.REVOKED,
        refuses=_REVOKING,
    )
    def post(self, request: Request, key_id: UUID) -> Response:
        self.reach.guard(APIKey, key_id)
        fields = fields_of(request, ("reason",))
        key = revoke_key(actor=actor_of(request), key_id=key_id, **fields)
        return Response({"ok": True, "revoked_at": moment(key.revoked_at)})


class KeyUsageView(AdminView):
    @documented.operation("getKeyUsage", "Look at what a key has used", answer=shapes.KEY_USAGE)
    def get(self, request: Request, key_id: UUID) -> Response:
        query_of(request)
        return Response(key_usage_body(self.reach.one(_rows(), pk=key_id), SYSTEM.now()))
