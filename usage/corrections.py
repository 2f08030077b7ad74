"""Corrections: lines after the first of a call, which say by how much it was wrong. Nothing in the ledger is rewritten."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from tenants import validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import change
from tenants.clock import SYSTEM
from tenants.errors import Invalid
from usage.budget_books import sharing
from usage.charging import charge
from usage.models import LedgerEntry, RequestLog
from usage.quarters import reopen, start_of
from usage.sums import Portion, Totals, Whose, add_up

#: Calls that one transaction corrects.
AT_ONCE: Final = 500
_REASON_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True)
class Correction:
    """What to add to one call, in tokens and nano-USD; negative takes away. `price_id`: what it is rated by now. `lines`: how
    many the call had when the difference was worked out; if it has others now, it is another difference. None: it is the same.
    """

    month: str
    request_id: UUID
    cost_nano_usd: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    price_id: UUID | None = None
    lines: int | None = None


class Corrected(NamedTuple):
    """How many calls got a line, and what those lines come to. `passed_over`: corrected before, by this very correction or by
    another since the difference was worked out.
    """

    calls: int
    nano_usd: int
    passed_over: int


class _Call(NamedTuple):
    """A call as the ledger has it: its first line, and the sums of all its lines (`cost` None: it was never rated)."""

    first: LedgerEntry
    last_line: int
    cost: int | None
    tokens_in: int
    tokens_out: int


def correct(
    *, actor: Actor, corrections: Sequence[Correction], reason: object, correction_id: UUID
) -> Corrected:
    """Add a line to each of these calls, and their differences to the sums, the log, and every balance of the windows in which
    they were made. One transaction, at most `AT_ONCE` calls, none of them twice.

    A call that has a line of this `correction_id` already is passed over: whoever was interrupted does the same again. Raises
    `Invalid` for a call that the ledger does not know, and for one that would come to less than nothing.
    """
    text = validation.name("reason", reason, _REASON_CHARACTERS)
    if not 0 < len({(each.month, each.request_id) for each in corrections}) == len(corrections):
        raise Invalid("Each call is corrected once, and at least one is.")
    if len(corrections) > AT_ONCE:
        raise Invalid(f"At most {AT_ONCE} calls are corrected at once.")
    target = Target("ledger", str(correction_id), text)
    with change(actor, "ledger.corrected", target) as it:
        sharing()
        calls = _known(corrections)
        todo = [
            each
            for each in _not_yet(corrections, correction_id)
            if not _is_stale(each, calls[each.month, each.request_id])
        ]
        lines = [_line(each, calls, actor, text, correction_id) for each in todo]
        LedgerEntry.objects.bulk_create(lines)
        _correct_logs(todo, calls)
        # A line is charged where the call was: it has its month, its day and its levels.
        portions = [_portion(line, calls[line.month, line.request_id]) for line in lines]
        add_up(portions)
        charge(portions, None)
        done = Corrected(
            len(lines), sum(line.cost_nano_usd or 0 for line in lines), len(corrections) - len(todo)
        )
        it.detail(calls=done.calls, nano_usd=done.nano_usd, passed_over=done.passed_over)
    return done


def _entries(corrections: Iterable[Correction]) -> Iterable[LedgerEntry]:
    months: dict[str, list[UUID]] = defaultdict(list)
    for each in corrections:
        months[each.month].append(each.request_id)
    for month, ids in sorted(months.items()):
        # Locked: of two corrections of one call the second sees the first one's line.
        lines = LedgerEntry.objects.select_for_update().filter(month=month, request_id__in=ids)
        yield from lines.order_by("request_id", "line")


def _known(corrections: Sequence[Correction]) -> dict[tuple[str, UUID], _Call]:
    calls: dict[tuple[str, UUID], _Call] = {}
    for line in _entries(corrections):
        name = (line.month, line.request_id)
        known = calls.get(name) or _Call(line, 0, None, 0, 0)
        cost = line.cost_nano_usd
        total = known.cost if cost is None else (known.cost or 0) + cost
        calls[name] = _Call(
            known.first,
            line.line,
            total,
            known.tokens_in + line.tokens_in,
            known.tokens_out + line.tokens_out,
        )
    for each in corrections:
        call = calls.get((each.month, each.request_id))
        if call is None:
            raise Invalid(f"The ledger has no call {each.request_id} in {each.month}.")
        if min(_after(each, call)) < 0 and not _is_stale(each, call):
            raise Invalid(f"Call {each.request_id} would come to less than nothing.")
    return calls


def _is_stale(each: Correction, call: _Call) -> bool:
    return each.lines is not None and each.lines != call.last_line


def _after(each: Correction, call: _Call) -> tuple[int, int, int]:
    """Cost and tokens of a call once it is corrected."""
    return (
        (call.cost or 0) + each.cost_nano_usd,
        call.tokens_in + each.tokens_in,
        call.tokens_out + each.tokens_out,
    )


def _not_yet(corrections: Sequence[Correction], correction_id: UUID) -> list[Correction]:
    done = {
        (line.month, line.request_id)
        for line in _entries(corrections)
        if line.line > 1 and line.correction_id == correction_id
    }
    return [each for each in corrections if (each.month, each.request_id) not in done]


def _line(
    each: Correction,
    calls: dict[tuple[str, UUID], _Call],
    actor: Actor,
    reason: str,
    correction_id: UUID,
) -> LedgerEntry:
    call = calls[each.month, each.request_id]
    first = call.first
    copied = {
        field.attname: getattr(first, field.attname)
        for field in LedgerEntry._meta.concrete_fields
        if not field.primary_key
    }
    counts = {name: 0 for name in copied if name.startswith("tokens_")}
    return LedgerEntry(
        **{
            **copied,
            **counts,
            "images": 0,
            "audio_ms": 0,
            "line": call.last_line + 1,
            "created_at": SYSTEM.now(),
            "tokens_in": each.tokens_in,
            "tokens_out": each.tokens_out,
            "cost_nano_usd": each.cost_nano_usd,
            "price_id": each.price_id or first.price_id,
            "overrun": False,
            "correction_id": correction_id,
            "reason": reason,
            "corrected_by": actor.label[:128],
        }
    )


def _correct_logs(todo: Sequence[Correction], calls: dict[tuple[str, UUID], _Call]) -> None:
    for each in todo:
        cost, tokens_in, tokens_out = _after(each, calls[each.month, each.request_id])
        RequestLog.objects.filter(month=each.month, request_id=each.request_id).update(
            cost_nano_usd=cost, tokens_in=tokens_in, tokens_out=tokens_out
        )
    months, ids = {it.month for it in todo}, [it.request_id for it in todo]
    logs = RequestLog.objects.filter(month__in=months, request_id__in=ids)
    reopen({start_of(moment) for moment in logs.values_list("created_at", flat=True)})


def _portion(line: LedgerEntry, call: _Call) -> Portion:
    """What a line adds to the sums: a request that had no price has one now."""
    named = {name: getattr(line, name) for name in Whose._fields}
    totals = Totals(
        tokens_in=line.tokens_in,
        tokens_out=line.tokens_out,
        cost_nano_usd=line.cost_nano_usd or 0,
        unpriced_requests=-(call.cost is None),
    )
    return Whose(**{**named, "day": f"{line.day}"}), totals
