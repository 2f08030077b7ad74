"""After a price was wrong: what calls cost by the right one, and correction lines for the difference.

History is never rewritten. The line that a call was charged by stays, and so does the price that it names; a correction beside
it holds what is to be added or given back, with the price that was right and the reason.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID, uuid5

import msgspec
from django.db.models import Q, QuerySet

from providers.model_services import find_model
from providers.models import Model, Price
from providers.prices import price_in_force, price_tag
from providers.types import Usage
from tenants.actor import Actor
from tenants.clock import SYSTEM
from tenants.errors import Invalid
from tenants.models import Tenant
from usage import pricing
from usage.corrections import AT_ONCE, Correction, correct
from usage.models import NOBODY, LedgerEntry

_CHUNK: Final = AT_ONCE
#: Lines that a preview shows.
SHOWN: Final = 50
#: A call is settled at most so long after it came: its month may be the one before its line's.
_LONGEST_CALL: Final = timedelta(days=1)
_CORRECTIONS: Final = UUID("5b0a4d0e-55a6-5a4e-9a5b-3f6d1c1f7a11")

#: Hears how many calls have been looked at.
Progress = Callable[[int], object]


class Rating(NamedTuple):
    """One call by the right price. `was`: what it is charged with so far, corrections included; None: nobody knew."""

    month: str
    request_id: UUID
    settled_at: datetime
    tenant: str
    model: str
    lines: int
    was: int | None
    now: int

    @property
    def delta(self) -> int:
        return self.now - (self.was or 0)

    @property
    def is_right(self) -> bool:
        return self.was == self.now


@dataclass(slots=True)
class Sums:
    """Of all calls that were looked at: how many cost something else now, and what they cost before and after."""

    calls: int = 0
    wrong: int = 0
    unpriced: int = 0
    was: int = 0
    now: int = 0
    first: list[Rating] = field(default_factory=list)

    @property
    def delta(self) -> int:
        return self.now - self.was

    def add(self, rating: Rating) -> None:
        self.calls += 1
        if rating.is_right:
            return
        self.wrong += 1
        self.unpriced += rating.was is None
        self.was += rating.was or 0
        self.now += rating.now
        if len(self.first) < SHOWN:
            self.first.append(rating)


@dataclass(frozen=True, slots=True)
class Task:
    """Which calls, by which price: those of `model` that were settled from `since` on and before `until`.

    A price of one tenant's is for its calls. Everybody's is not for calls that were charged by a tenant's own.
    """

    model: Model
    price: Price
    since: datetime
    until: datetime


def task(
    model: Model, since: datetime, until: datetime | None = None, price: Price | None = None
) -> Task:
    """Without a price the one in force now; without an end up to now. Raises `Invalid`."""
    now = SYSTEM.now()
    price = price or price_in_force(model, now)
    if price is None:
        raise Invalid(f"{model.name} has no price in force to rate by; add one first.")
    if price.model_id != model.id:
        raise Invalid.field("price", f"is not one of {model.name}'s.")
    until = until or now
    if until > now:
        raise Invalid.field("until", "lies in the future.")
    if since >= until:
        raise Invalid.field("since", "must lie before the end.")
    return Task(model, price, since, until)


def task_named(name: str, tenant: Tenant | None, since: datetime, until: datetime | None) -> Task:
    """The task for a public name: of a shared model, by everybody's price; or with a tenant of its own model of that name, else
    of the shared one by the price that is this tenant's own. Raises `Invalid`, `NotFound`.
    """
    if tenant is None or Model.objects.filter(name=name, tenant=tenant).exists():
        return task(find_model(name, tenant), since, until)
    model = find_model(name)
    own = model.prices.filter(tenant=tenant, effective_from__lte=SYSTEM.now())
    price = own.order_by("-effective_from").first()
    if price is None:
        raise Invalid(f"{tenant.name} has no price of its own for {name} in force.")
    return task(model, since, until, price)


def has_more_than(task: Task, most: int) -> bool:
    """Whether so many calls are to be looked at that somebody who waits for a page should not."""
    return _lines(task)[: most + 1].count() > most


def preview(task: Task, progress: Progress = lambda done: None) -> Sums:
    """What `rerate` would do."""
    sums = Sums()
    for rating in ratings(task):
        sums.add(rating)
        if sums.calls % _CHUNK == 0:
            progress(sums.calls)
    return sums


def usage_of(entry: LedgerEntry) -> Usage:
    """What a money line was charged for."""
    return Usage(
        input=entry.tokens_in,
        cached=entry.tokens_cached,
        output=entry.tokens_out,
        reasoning=entry.tokens_reasoning,
        cache_write=entry.tokens_cache_write,
        images=entry.images,
        audio_ms=entry.audio_ms,
    )


def ratings(task: Task) -> Iterator[Rating]:
    """Every call of the task, in the order of their months and ids."""
    tag = price_tag(task.price)
    # Page by page, not by a cursor: between pages corrections are written.
    lines = _lines(task)
    page = list(lines[:_CHUNK])
    while page:
        yield from _rated(page, tag)
        last = page[-1]
        beyond = Q(month=last.month, request_id__gt=last.request_id) | Q(month__gt=last.month)
        page = list(lines.filter(beyond)[:_CHUNK]) if len(page) == _CHUNK else []


def _lines(task: Task) -> "QuerySet[LedgerEntry]":
    months = (f"{task.since - _LONGEST_CALL:%Y-%m}", f"{task.until:%Y-%m}")
    found = LedgerEntry.objects.filter(
        _is_of(task.model),
        line=1,
        month__range=months,
        created_at__gte=task.since,
        created_at__lt=task.until,
    )
    if task.price.tenant_id is not None:
        found = found.filter(tenant_id=task.price.tenant_id)
    else:
        own = task.model.prices.filter(tenant__isnull=False).values("id")
        found = found.exclude(price_id__in=own)
    return found.order_by("month", "request_id")


def _is_of(model: Model) -> Q:
    """Calls of this model. Lines from before models were named by id: by their price, or unpriced ones by the name."""
    by_name = Q(price_id=None, model=model.name)
    if model.tenant_id is not None:
        by_name &= Q(tenant_id=model.tenant_id)
    else:
        others = Model.objects.filter(name=model.name, tenant__isnull=False)
        by_name &= ~Q(tenant_id__in=others.values("tenant_id"))
    by_price = Q(price_id__in=model.prices.values("id"))
    return Q(model_id=model.id) | (Q(model_id=NOBODY) & (by_price | by_name))


def _rated(entries: Sequence[LedgerEntry], tag: pricing.PriceTag) -> Iterator[Rating]:
    corrections = _corrections_of(entries)
    for entry in entries:
        later = corrections[entry.month, entry.request_id]
        costs = [line.cost_nano_usd for line in (entry, *later)]
        known = [cost for cost in costs if cost is not None]
        usage = usage_of(entry)
        usage = msgspec.structs.replace(
            usage,
            input=usage.input + sum(line.tokens_in for line in later),
            output=usage.output + sum(line.tokens_out for line in later),
        )
        yield Rating(
            month=entry.month,
            request_id=entry.request_id,
            settled_at=entry.created_at,
            tenant=entry.tenant,
            model=entry.model,
            lines=len(costs),
            was=sum(known) if known else None,
            now=0 if _came_to_nothing(entry, usage) else pricing.cost(usage, tag),
        )


def _came_to_nothing(entry: LedgerEntry, usage: Usage) -> bool:
    """A provider that failed is paid nothing, not even what a request costs (gateway/relay/settling.py)."""
    return entry.usage_source == LedgerEntry.Source.NONE and usage == Usage()


def _corrections_of(
    entries: Iterable[LedgerEntry],
) -> "defaultdict[tuple[str, UUID], list[LedgerEntry]]":
    """The lines that were added to these calls so far."""
    months: dict[str, list[UUID]] = defaultdict(list)
    for entry in entries:
        months[entry.month].append(entry.request_id)
    found: defaultdict[tuple[str, UUID], list[LedgerEntry]] = defaultdict(list)
    for month, ids in months.items():
        for line in LedgerEntry.objects.filter(month=month, request_id__in=ids, line__gt=1):
            found[line.month, line.request_id].append(line)
    return found


def rerate(
    *, actor: Actor, task: Task, reason: object, progress: Progress = lambda done: None
) -> Sums:
    """Write a correction line for every call that costs something else by the task's price. Gives what was corrected.

    Page by page, each in its own transaction with its own audit row; done again, it finds nothing left to correct.
    """
    sums = Sums()
    page: list[Rating] = []
    for rating in ratings(task):
        sums.add(rating)
        if not rating.is_right:
            page.append(rating)
        if len(page) == _CHUNK:
            _correct(actor, task, page, reason)
            progress(sums.calls)
            page = []
    _correct(actor, task, page, reason)
    return sums


def _correct(actor: Actor, task: Task, page: Sequence[Rating], reason: object) -> None:
    by_lines: dict[int, list[Correction]] = defaultdict(list)
    for each in page:
        by_lines[each.lines].append(
            Correction(
                month=each.month,
                request_id=each.request_id,
                cost_nano_usd=each.delta,
                price_id=task.price.id,
                lines=each.lines,
            )
        )
    for lines, corrections in sorted(by_lines.items()):
        # The same for two who correct the same calls from the same state by the same price: only one of them does.
        same = uuid5(_CORRECTIONS, f"{task.price.id} {lines}")
        correct(actor=actor, corrections=corrections, reason=reason, correction_id=same)
