"""From the journal into the tables: each call once, whoever brings it and however often.

Everything hangs on `(month, request_id)`: a log row or money line that is there already is passed over, and the monthly sums
and the balances of budgets grow only by lines that were really new. So a batch whose commit went unanswered, a replayed journal
and two workers with the same file all end in the same tables.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from django.db import transaction

from providers.models import Price
from providers.prices import price_tag
from providers.types import Usage
from usage import rows
from usage.alike import Ended, Try, ended, ended_alike, outcome_of, refused_alike, tried_alike
from usage.budget_books import sharing
from usage.calls import Call, Item
from usage.charging import charge
from usage.idempotency import close_claims
from usage.pricing import PriceTag, cost
from usage.quarters import reopen_late
from usage.records import Refusal, Settlement
from usage.sums import add_up
from usage.tables import New, insert

#: Error code and status of calls whose worker was killed while they were open.
WORKER_DIED: Final = "worker_died"
_WORKER_DIED_STATUS: Final = 503


class Applied(NamedTuple):
    """How many rows were new."""

    logs: int
    entries: int
    holds: int


def apply(items: Sequence[Item], boot: str | None = None) -> Applied:
    """Brings calls and refusals into the tables, in one transaction.

    A settled call: log row, attempts, content, and unless nothing was sent a money line and its part of the sums and of every
    budget it counts in, out of what the worker `boot` has borrowed there; its hold goes. An open call: a hold, unless it was
    settled before. Raises Django's database errors, and then nothing is changed.
    """
    refused, opened, settled = _each_once(items)
    calls = ended_alike([ended(*end) for end in settled])
    charged = [alike for alike in calls if alike[0].end.dispatched != "no"]
    tries = [Try(each, outcome_of(each, end)) for call, end in settled for each in call.attempts]
    logs = [rows.log_block(alike) for alike in calls]
    logs += [rows.refusal_block(alike) for alike in refused_alike(refused)]
    entries = [rows.entry_block(alike) for alike in charged]
    attempts = [rows.attempt_block(alike) for alike in tried_alike(tries)]
    came = [call.intent.received_at for call, _ in settled] + [it.received_at for it in refused]
    with transaction.atomic():
        sharing()
        new_logs, new_entries, *_ = insert(
            (rows.LOGS, logs),
            (rows.ENTRIES, entries),
            (rows.ATTEMPTS, attempts),
            (rows.CONTENTS, rows.content_blocks(calls)),
        )
        reopen_late(came)
        _forget_holds(call for call, _ in settled)
        close_claims(items)
        [new_holds] = insert((rows.HOLDS, rows.hold_blocks(_not_yet_settled(opened))))
        portions = [rows.portion(alike) for alike in _of_new(new_entries, charged)]
        # Last, and sorted: only these rows are shared by workers, so they are locked briefly and by all in the same order.
        add_up(portions)
        charge(portions, boot)
    return Applied(new_logs.number, new_entries.number, new_holds.number)


def settle_orphans(items: Sequence[Item], now_us: int) -> list[Item]:
    """`items` with an end for the calls that their worker left open when it died.

    Without an attempt nothing was sent: such a call costs nothing. With one, nobody knows what reached the upstream: it is
    charged the estimated prompt at the last attempt's price; `dispatched` and the attempts' outcome say `unknown`.
    """
    attempts = [
        item.attempts[-1] for item in items if isinstance(item, Call) and not item.settlement
        and item.attempts
    ]  # fmt: skip
    prices = _prices({attempt.price_id for attempt in attempts if attempt.price_id is not None})
    return [
        msgspec.structs.replace(item, settlement=_end_of_orphan(item, prices, now_us))
        if isinstance(item, Call) and item.settlement is None
        else item
        for item in items
    ]


def _each_once(
    items: Iterable[Item],
) -> tuple[Collection[Refusal], Sequence[Call], Collection[tuple[Call, Settlement]]]:
    """What was refused, what is open, and what is settled; a call that is here twice is settled if it is that once."""
    refused: dict[int, Refusal] = {}
    opened: dict[int, Call] = {}
    settled: dict[int, tuple[Call, Settlement]] = {}
    for item in items:
        if isinstance(item, Refusal):
            refused[item.request_id.int] = item
        elif item.settlement is None:
            opened[item.intent.request_id.int] = item
        else:
            settled[item.intent.request_id.int] = item, item.settlement
    left_open = [call for number, call in opened.items() if number not in settled]
    return refused.values(), left_open, settled.values()


def _of_new(new: New, calls: list[list[Ended]]) -> list[list[Ended]]:
    """Without the calls whose rows were there before."""
    if new.ids is None:
        return calls
    left = ([call for call in alike if call.end.request_id in new.ids] for alike in calls)
    return [alike for alike in left if alike]


def _by_month(calls: Iterable[Call]) -> dict[str, list[UUID]]:
    months: dict[str, list[UUID]] = defaultdict(list)
    for call in calls:
        months[call.intent.month].append(call.intent.request_id)
    return months


def _forget_holds(calls: Iterable[Call]) -> None:
    for month, ids in _by_month(call for call in calls if call.held).items():
        rows.HOLDS.delete(month, ids)


def _not_yet_settled(calls: Sequence[Call]) -> list[Call]:
    """Without those that have a log row: an intent that is replayed after its call was settled holds nothing."""
    known: set[UUID] = set()
    for month, ids in _by_month(calls).items():
        known |= rows.LOGS.present(month, ids)
    return [call for call in calls if call.intent.request_id not in known]


def _prices(ids: set[UUID]) -> dict[UUID, PriceTag]:
    return {price.id: price_tag(price) for price in Price.objects.filter(id__in=ids)} if ids else {}


def _end_of_orphan(call: Call, prices: Mapping[UUID, PriceTag], now_us: int) -> Settlement:
    intent = call.intent
    end = Settlement(
        month=intent.month,
        request_id=intent.request_id,
        settled_at=now_us,
        status=_WORKER_DIED_STATUS,
        error_code=WORKER_DIED,
        dispatched="no",
        usage=Usage(),
        usage_source="none",
        cost_nano_usd=0,
        price_id=None,
        duration_us=0,
        ttfb_us=None,
        overhead_us=None,
        attempts=[],
    )
    if not call.attempts:
        return end
    last = call.attempts[-1]
    usage = Usage(input=intent.prompt_estimate)
    price = None if last.price_id is None else prices.get(last.price_id)
    return msgspec.structs.replace(
        end,
        dispatched="unknown",
        usage=usage,
        usage_source="estimated",
        cost_nano_usd=None if price is None else cost(usage, price),
        price_id=last.price_id,
        # As long as it is known to have lived: up to its last record.
        duration_us=max(0, last.started_at - intent.received_at),
    )
