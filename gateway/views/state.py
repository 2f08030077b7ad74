"""A key's own state, for whoever holds it."""

from collections.abc import Sequence
from typing import Any, Final

from django.db.models import Q
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import filters, logs, paging
from gateway.api.bodies.calls import log_body
from gateway.api.bodies.common import identity, limits, moment, usd
from gateway.api.once import Asker, OnceView
from gateway.api.requests import query_of
from gateway.openapi.schemas import fitting, told
from gateway.shapes.pages import PAGES
from gateway.views import documented
from gateway.views.access import MayReadUsage, TenantKeyAuthentication, identity_of
from gateway.views.base import DataPlaneView
from gateway.views.shapes import state as shapes
from keys.chain import BadCredential
from keys.models import APIKey
from tenants.clock import SYSTEM
from tenants.limits import Unit
from tenants.models import Limited
from usage import spending
from usage.levels import Kind, Level
from usage.models import RequestLog
from usage.spending import Budget, Standing

_TRACE_ID: Final = told(
    fitting("[0-9a-f]{32}"),
    "Only the calls whose `traceparent` said so: those of one conversation.",
)


class StateView(DataPlaneView, OnceView):
    """The base of all: an ordinary view, for it reads tables."""

    authentication_classes = (TenantKeyAuthentication,)
    permission_classes: tuple[type[BasePermission], ...] = (MayReadUsage,)

    def asker_of(self, request: Request) -> Asker:
        identity = identity_of(request)
        return Asker(identity.tenant_id, identity.key_id, identity.rights)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers["Cache-Control"] = "no-store"
        return response


class KeyView(StateView):
    @documented.state("getKey", "Look at your key", shapes.KEY_STATE)
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
        standing = spending.standing_of(key.id, now)
        budgets = spending.budgets_of(_levels(key), now)
        body = _key_body(key, identity_of(request).key_prefix, standing, budgets)
        return Response({**body, "reset_at": moment(spending.next_month(now))})


class TracesView(StateView):
    @documented.state(
        "listTraces",
        "List your key's calls",
        shapes.TRACES,
        query={**PAGES, "trace_id": _TRACE_ID},
    )
    def get(self, request: Request) -> Response:
        """The calls of this key, newest first, under every secret that it had. Needs the scope `usage`."""
        query = query_of(request, (*paging.PARAMETERS, "trace_id"))
        own = filters.of_trace(query) & Q(key_id=identity_of(request).key_id)
        rows = RequestLog.objects.filter(own)
        return paging.page(rows, query, _trace_body, tie="request_id", counted=False)


def _levels(key: APIKey) -> list[Level]:
    """Those whose budgets bound every call of this key, whatever it asks for."""
    owners: list[tuple[Kind, Limited | None]] = [
        ("key", key),
        ("project", key.project),
        ("account", key.account),
        ("tenant", key.tenant),
    ]
    return [Level(kind, row.pk, row.limit_set) for kind, row in owners if row is not None]


def _budget_body(budget: Budget) -> dict[str, Any]:
    """Of what it shares with others a key sees what is left, not who spent how much."""
    write = usd if budget.unit == "nano_usd" else int
    own = budget.kind == "key"
    return {
        "level": budget.kind,
        "unit": "usd" if budget.unit == "nano_usd" else "tokens",
        "window": budget.window,
        "limit": write(budget.limit) if own or budget.window != "prepaid" else None,
        "spent": write(budget.spent) if own else None,
        "held": write(budget.held) if own else None,
        "remaining": write(budget.remaining),
        "resets_at": moment(budget.resets_at),
    }


def _least(budgets: Sequence[Budget], unit: Unit) -> int | None:
    return min((it.remaining for it in budgets if it.unit == unit), default=None)


def _key_body(
    key: APIKey, prefix: str, standing: Standing, budgets: Sequence[Budget]
) -> dict[str, Any]:
    """`remaining`: of the budget with the least left; null where there is none."""
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
        "remaining": {
            "tokens": _least(budgets, "tokens"),
            "cost_usd": usd(_least(budgets, "nano_usd")),
        },
        "budgets": [_budget_body(budget) for budget in budgets],
    }


class TraceView(StateView):
    @documented.one_state("getTrace", "Ask why a call went as it did", shapes.TRACE_CARD)
    def get(self, request: Request, request_id: str) -> Response:
        """One call of this key: what was asked of it on its way in, who was tried, what it cost. Needs the scope `usage`."""
        query_of(request)
        own = RequestLog.objects.filter(key_id=identity_of(request).key_id)
        return Response(_card_body(logs.call_named(request_id, own)))


def _card_body(row: RequestLog) -> dict[str, Any]:
    return {**logs.tenants_card_of(row), "object": "trace_card"}


def _trace_body(row: RequestLog) -> dict[str, Any]:
    """A row of the log. Of the provider it has what the answer's own headers told: no id, no credential, no address."""
    return {**log_body(row), "object": "trace"}
