"""A key's own state, for whoever holds it."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import paging
from gateway.api.bodies.calls import log_body
from gateway.api.bodies.common import identity, limits, moment, usd
from gateway.api.requests import query_of
from gateway.views import documented
from gateway.views.access import MayReadUsage, TenantKeyAuthentication, identity_of
from gateway.views.base import DataPlaneView
from keys.chain import BadCredential
from keys.models import APIKey
from tenants.clock import SYSTEM
from usage import spending
from usage.models import RequestLog
from usage.spending import Standing


class StateView(DataPlaneView):
    """The base of all: an ordinary view, for it reads tables."""

    authentication_classes = (TenantKeyAuthentication,)
    permission_classes = (MayReadUsage,)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers["Cache-Control"] = "no-store"
        return response


class KeyView(StateView):
    @documented.state("getKey", "Look at your key", "KeyState")
    def get(self, request: Request) -> Response:
        """Its limits, and what it has spent and set aside in the running month. Needs the scope `usage`."""
        query_of(request)
        key = (
            APIKey.objects.select_related("tenant", "project", "account")
            .filter(id=identity_of(request).key_id)
            .first()
        )
        if key is None:
            raise BadCredential
        now = SYSTEM.now()
        body = _key_body(key, identity_of(request).key_prefix, spending.standing_of(key.id, now))
        return Response({**body, "reset_at": moment(spending.next_month(now))})


class TracesView(StateView):
    @documented.state(
        "listTraces",
        "List your key's calls",
        "Traces",
        limit=({"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "Rows of a page."),
        cursor=({"type": "string"}, "The `next_cursor` of the page before."),
    )
    def get(self, request: Request) -> Response:
        """The calls of this key, newest first, under every secret that it had. Needs the scope `usage`."""
        query = query_of(request, paging.PARAMETERS)
        rows = RequestLog.objects.filter(key_id=identity_of(request).key_id)
        return paging.page(rows, query, _trace_body, tie="request_id", counted=False)


def _key_body(key: APIKey, prefix: str, standing: Standing) -> dict[str, Any]:
    """`remaining` is null where nothing is enforced that something could remain of."""
    spent, held = standing.spent, standing.held
    return {
        "id": str(key.id),
        "object": "key_state",
        "key_prefix": prefix,
        "name": key.name,
        "tenant": key.tenant.slug,
        "project": identity(key.project_id),
        "account": identity(key.account_id),
        "team": key.team or None,
        "scopes": key.scopes,
        "allowed_models": key.allowed_models,
        "allowed_capabilities": key.allowed_capabilities,
        "expires_at": moment(key.expires_at),
        "limits": limits(key),
        "tenant_limits": limits(key.tenant),
        "period": spent.month,
        "spent": {
            "requests": spent.requests,
            "tokens_in": spent.tokens_in,
            "tokens_out": spent.tokens_out,
            "tokens_total": spent.tokens,
            "cost_usd": usd(spent.cost_nano_usd),
            "unpriced_requests": spent.unpriced_requests,
        },
        "held": {"tokens": held.tokens, "cost_usd": usd(held.nano_usd)},
        "remaining": {"tokens": None, "cost_usd": None},
    }


def _trace_body(row: RequestLog) -> dict[str, Any]:
    """A row of the log. Of the provider it has what the answer's own headers told: no id, no credential, no address."""
    return {**log_body(row), "object": "trace"}
