"""Calls: the list with its filters, and what led to one of them. Read-only, and the same numbers as `/v1/admin/logs`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from gateway import why
from gateway.api import filters, logs, paging
from gateway.api.bodies.calls import content_body, estimate_of
from gateway.api.paging import Slice
from gateway.console_views import lists
from gateway.console_views.lists import Asked, Filter
from gateway.console_views.waterfall import waterfall
from keys.models import APIKey
from providers.models import Model, Price
from providers.prices import price_tag
from tenants import roles
from tenants.console_parts import Crumb
from tenants.errands import actor_of, role_of
from tenants.errors import Invalid, NotFound
from usage import contents, pricing
from usage.contents import ContentShredded, ContentUnreadable
from usage.models import FAILED, WENT_WRONG, LedgerEntry, RequestLog
from usage.records import why_of
from usage.rerating import usage_of

#: What the console adds to the API's filters.
_OWN: Final = ("only", "request_id")
_ONLY: Final = {"failed": WENT_WRONG, "served": Q(status__lt=FAILED, error_code="")}


@dataclass(frozen=True, slots=True)
class Sums:
    """Of the rows on a page. `unpriced`: how many of them cost nobody knows what."""

    calls: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost_nano_usd: int
    unpriced: int


def _wanted(query: dict[str, str]) -> Q:
    wanted = logs.wanted_by(query)
    if "only" in query:
        if query["only"] not in _ONLY:
            raise Invalid.field("only", "must be failed or served.")
        wanted &= _ONLY[query["only"]]
    if "request_id" in query:
        ours = filters.as_id(query["request_id"])
        named = Q(correlation_id=query["request_id"])
        wanted &= named | Q(request_id=ours) if ours is not None else named
    return wanted


def _found(asked: Asked) -> Slice[RequestLog]:
    if asked.fault:
        return Slice([], None)
    try:
        return paging.cut(
            RequestLog.objects.filter(_wanted(asked.query)), asked.query, tie="request_id"
        )
    except Invalid as refusal:
        asked.fault = refusal.message
        return Slice([], None)


def _bar() -> list[Filter]:
    return [
        Filter("request_id", "Request id", wide=True),
        Filter("trace_id", "Trace id", wide=True),
        Filter("tenant", "Tenant", offered=lists.offered_tenants()),
        Filter("key", "Key prefix or id"),
        Filter("model", "Model"),
        Filter("provider", "Provider"),
        Filter("status", "Status", type="number"),
        Filter("since", "Since, UTC", type="datetime-local"),
        Filter("until", "Until, UTC", type="datetime-local"),
    ]


def requests_page(request: HttpRequest) -> HttpResponse:
    asked = lists.read(request, (*logs.PARAMETERS, *_OWN))
    found = _found(asked)
    context = {
        "title": "Requests",
        "rows": found.rows,
        "sums": _sums(found.rows),
        "pills": [
            ("All", asked.url_with(only=None), "only" not in asked.shown),
            ("Failed", asked.url_with(only="failed"), asked.shown.get("only") == "failed"),
            ("Served", asked.url_with(only="served"), asked.shown.get("only") == "served"),
        ],
        **lists.context(asked, _bar(), found.next_cursor),
    }
    return render(request, "console/requests/list.html", context, status=lists.status_of(asked))


def _sums(rows: Sequence[RequestLog]) -> Sums:
    return Sums(
        calls=len(rows),
        failed=sum(row.has_failed for row in rows),
        tokens_in=sum(row.tokens_in for row in rows),
        tokens_out=sum(row.tokens_out for row in rows),
        cost_nano_usd=sum(row.cost_nano_usd or 0 for row in rows),
        unpriced=sum(row.cost_nano_usd is None for row in rows),
    )


# --- one call ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CostLine:
    """So much of one kind times its price (nano-USD for `per` of them); `exact_usd` is not rounded."""

    name: str
    amount: int
    price: int
    per: int
    exact_usd: str


@dataclass(frozen=True, slots=True)
class CostMaths:
    """How a money line came about. `agrees`: the stored amount is what the lines add up to."""

    entry: LedgerEntry
    price: Price
    lines: list[CostLine]
    per_request: int
    agrees: bool


def request_page(request: HttpRequest, request_id: str) -> HttpResponse:
    """By the id that the caller saw, or by ours."""
    try:
        row = logs.call_named(request_id, RequestLog.objects.annotate(has_content=contents.IS_KEPT))
    except NotFound:
        raise Http404 from None
    attempts, entries = list(logs.attempts_of(row)), list(logs.lines_of(row))
    reasons = why_of(row.why)
    checks = why.checks_of_row(row, reasons)
    context = {
        "title": row.correlation_id,
        "crumbs": [Crumb("Requests", reverse("console:requests")), Crumb(row.correlation_id)],
        "row": row,
        "attempts": attempts,
        "waterfall": waterfall(row, attempts),
        "checks": checks,
        "limits_asked": all(it.outcome != "not asked" for it in checks if it.name == "limits"),
        "limits": None if reasons is None else why.limits_of(reasons),
        "candidates": () if reasons is None else reasons.candidates,
        "entries": entries,
        "estimate": estimate_of(row),
        "maths": _maths_of(entries),
        "net": sum(entry.cost_nano_usd or 0 for entry in entries),
        "unpriced": _unpriced_model(row) if role_of(request) in roles.CHANGERS else None,
        "key": APIKey.objects.filter(pk=row.key_id).only("id", "name").first(),
        "may_audit": role_of(request) in roles.AUDITORS,
    }
    return render(request, "console/requests/detail.html", context)


def content_page(request: HttpRequest, request_id: str) -> HttpResponse:
    """What was kept of a call's bodies. Asked for first, for each reading is a row of the audit log; only a POST reads."""
    try:
        row = logs.call_named(request_id)
    except NotFound:
        raise Http404 from None
    kept = contents.content_of(row)
    if kept is None:
        raise Http404
    context = {
        "title": f"Bodies of {row.correlation_id}",
        "crumbs": [
            Crumb("Requests", reverse("console:requests")),
            Crumb(row.correlation_id, reverse("console:requests-detail", args=[row.request_id])),
            Crumb("Bodies"),
        ],
        "row": row,
        "kept": kept,
    }
    status = 200
    if request.method == "POST":
        try:
            bodies = contents.read(actor=actor_of(request), call=row)
        except (ContentShredded, ContentUnreadable) as failure:
            context["refused"] = failure.message
            status = 410 if isinstance(failure, ContentShredded) else 503
        else:
            context["body"] = content_body(row, bodies)
    return render(request, "console/requests/content.html", context, status=status)


def _unpriced_model(row: RequestLog) -> Model | None:
    """The model whose missing price was the reason of a refusal: the tenant's own of that name before the shared one, the exact
    name before the longest that ends in `*`.
    """
    if row.error_code != "model_not_priced":
        return None
    fronts = (f"{row.model[:end]}*" for end in range(len(row.model) + 1))
    found = Model.objects.filter(
        Q(tenant_id=row.tenant_id) | Q(tenant=None), name__in=[row.model, *fronts]
    )
    return max(
        found,
        key=lambda it: (it.tenant_id is not None, it.name == row.model, len(it.name)),
        default=None,
    )


def _maths_of(entries: Sequence[LedgerEntry]) -> CostMaths | None:
    """Of the call's own line, while its price still stands there: deleting a model takes its prices along."""
    first = next((entry for entry in entries if entry.line == 1), None)
    if first is None or first.price_id is None:
        return None
    price = Price.objects.filter(pk=first.price_id).first()
    if price is None:
        return None
    tag = price_tag(price)
    usage = usage_of(first)
    lines = [
        CostLine(part.name, part.amount, part.price, part.per, _exact(part.scaled // 3))
        for part in pricing.parts(usage, tag)
        if part.amount
    ]
    agrees = pricing.cost(usage, tag) == first.cost_nano_usd
    return CostMaths(first, price, lines, tag.per_request, agrees)


def _exact(millionths: int) -> str:
    """Millionths of a nano-USD as USD, to the last digit: `0.0000125`. Of sound, a third of one may be left out."""
    whole, fraction = divmod(millionths, 10**15)
    return f"{whole}.{fraction:015d}".rstrip("0").rstrip(".")
