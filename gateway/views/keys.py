"""A tenant's keys, managed by one of them: `/v1/keys`."""

from uuid import UUID

from django.db.models import Q, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import paging
from gateway.api.bodies.keys import own_issued_body, own_key_body
from gateway.api.keys import FIXED, is_live
from gateway.api.requests import fields_of, flag, query_of
from gateway.openapi.operations import switch
from gateway.shapes.pages import PAGES
from gateway.views import documented
from gateway.views.access import (
    MayManageKeys,
    actor_of,
    warrant_of,
)
from gateway.views.shapes import keys as shapes
from gateway.views.state import StateView
from keys import self_service
from keys.models import APIKey
from keys.services import EDIT_RULES, ISSUE_RULES
from tenants.errors import NotFound


class _KeysView(StateView):
    permission_classes = (MayManageKeys,)


def _visible(request: Request) -> "QuerySet[APIKey]":
    return APIKey.objects.prefetch_related("secrets").filter(warrant_of(request).keys)


class KeysView(_KeysView):
    @documented.state(
        "listKeys",
        "List keys",
        shapes.KEYS,
        tag=documented.KEYS,
        query={**PAGES, "active_only": switch("Leave out those that open nothing.")},
    )
    def get(self, request: Request) -> Response:
        """The keys of this key's project, or of its tenant if it belongs to none; newest first. Needs the scope `keys`."""
        query = query_of(request, (*paging.PARAMETERS, "active_only"))
        live = is_live() if flag(query, "active_only") else Q()
        return paging.page(_visible(request).filter(live), query, own_key_body)

    @documented.change(
        "issueKey",
        "Issue a key",
        documented.KEYS,
        shapes.NEW_KEY,
        shapes.ISSUED,
        status=201,
        by_name=False,
        is_made_once=True,
    )
    def post(self, request: Request) -> Response:
        """A new key with what was asked for, as far as this key has it itself; what was not asked for is as this key has it,
        the scopes `inference` and `usage` excepted. The answer is the only one with the key in it. Needs the scope `keys`.
        """
        fields = fields_of(request, ISSUE_RULES)
        issued = self_service.issue(
            actor=actor_of(request),
            warrant=warrant_of(request),
            name=fields.pop("name", None),
            **fields,
        )
        return Response(own_issued_body(issued), status=201)


class KeyView(_KeysView):
    @documented.one_state("getManagedKey", "Look at a key", shapes.KEY, tag=documented.KEYS)
    def get(self, request: Request, key_id: UUID) -> Response:
        """Revoked ones too. Needs the scope `keys`."""
        query_of(request)
        key = _visible(request).filter(pk=key_id).first()
        if key is None:
            raise NotFound
        return Response(own_key_body(key))

    @documented.change("updateKey", "Change a key", documented.KEYS, shapes.KEY_CHANGE, shapes.KEY)
    def patch(self, request: Request, key_id: UUID) -> Response:
        """Absent fields stay, null clears; what goes beyond this key's own is cut to it. `is_active: false` pauses. A key that
        would still be able to do more than this one is refused. Needs the scope `keys`.
        """
        fields = fields_of(request, EDIT_RULES, fixed=FIXED)
        key = self_service.update(
            actor=actor_of(request), warrant=warrant_of(request), key_id=key_id, **fields
        )
        return Response(own_key_body(key))

    @documented.change("revokeKey", "Revoke a key", documented.KEYS, status=204)
    def delete(self, request: Request, key_id: UUID) -> Response:
        """For good; the key stays to be seen. Needs the scope `keys`."""
        query_of(request)
        self_service.revoke(actor=actor_of(request), warrant=warrant_of(request), key_id=key_id)
        return Response(status=204)


class RotateKeyView(_KeysView):
    @documented.change(
        "rotateKey",
        "Rotate a key",
        documented.KEYS,
        shapes.ROTATION,
        shapes.ISSUED,
        status=201,
        is_made_once=True,
    )
    def post(self, request: Request, key_id: UUID) -> Response:
        """A new secret on the same key, this one or one that may do no more. Needs the scope `keys`."""
        fields = fields_of(request, ("grace_period_seconds",))
        issued = self_service.rotate(
            actor=actor_of(request), warrant=warrant_of(request), key_id=key_id, **fields
        )
        return Response(own_issued_body(issued), status=201)
