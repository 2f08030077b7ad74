"""Calls of a batch that have all in common but ids, times and figures of their own: most of a busy worker's have. What they have
in common is looked at, written and summed up once for all of them. Pure.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from providers.types import Usage
from usage.calls import Call
from usage.pricing import credible
from usage.records import AttemptOutcome, AttemptStarted, Intent, Refusal, Settlement
from usage.windows import DAY_US

#: The outcome of an attempt that nobody saw end.
UNKNOWN: Final = "unknown"
#: Stands for the last attempt of a call that had none.
NO_ATTEMPT: Final = AttemptStarted("", UUID(int=0), 0, 0, UUID(int=0), "", "", "")

_One = TypeVar("_One")


class Ended(msgspec.Struct, frozen=True, gc=False):
    """A settled call. `last`: its last attempt; `usage`: its settlement's, made credible."""

    intent: Intent
    last: AttemptStarted
    attempts: int
    end: Settlement
    usage: Usage


class Try(msgspec.Struct, frozen=True, gc=False):
    """An attempt of a settled call."""

    started: AttemptStarted
    outcome: AttemptOutcome


def ended(call: Call, end: Settlement) -> Ended:
    tries = call.attempts
    last = tries[-1] if tries else NO_ATTEMPT
    return Ended(call.intent, last, len(tries), end, credible(end.usage))


def outcome_of(started: AttemptStarted, end: Settlement) -> AttemptOutcome:
    """How an attempt ended; `unknown` where the settlement does not tell."""
    for outcome in end.attempts:
        if outcome.n == started.n:
            return outcome
    return AttemptOutcome(started.n, UNKNOWN, 0)


def ended_alike(calls: Iterable[Ended]) -> list[list[Ended]]:
    return _alike(calls, _of_ended)


def refused_alike(refusals: Iterable[Refusal]) -> list[list[Refusal]]:
    return _alike(refusals, _of_refusal)


def tried_alike(tries: Iterable[Try]) -> list[list[Try]]:
    return _alike(tries, _of_try)


def _alike(each: Iterable[_One], in_what: Callable[[_One], Hashable]) -> list[list[_One]]:
    """Together those that have it in common, in the order in which they came."""
    groups: defaultdict[Hashable, list[_One]] = defaultdict(list)
    for one in each:
        groups[in_what(one)].append(one)
    return list(groups.values())


# What a worker has in memory once is told apart by identity: ids hash in Python. Equal ones that are two objects, as in a journal
# that was read back, cost a group more and nothing else.


def _of_ended(call: Ended) -> Hashable:
    """All that a log row and a money line have, but for ids, times and figures of the call's own."""
    intent, last, end, usage = call.intent, call.last, call.end, call.usage
    return (
        id(intent.caller),
        intent.month,
        intent.received_at // DAY_US,
        intent.kind,
        intent.model,
        id(intent.model_id),
        intent.dialect_in,
        intent.stream,
        call.attempts,
        id(last.provider_id),
        last.provider,
        last.target,
        last.dialect_out,
        end.status,
        end.error_code,
        end.dispatched,
        end.usage_source,
        id(end.price_id),
        end.overrun,
        usage.images,
        usage.audio_ms,
    )


def _of_refusal(refusal: Refusal) -> Hashable:
    return (
        id(refusal.caller),
        refusal.month,
        refusal.kind,
        refusal.model,
        refusal.dialect_in,
        refusal.stream,
        refusal.status,
        refusal.error_code,
        refusal.idempotent_replay,
    )


def _of_try(tried: Try) -> Hashable:
    started, outcome = tried.started, tried.outcome
    return (
        started.month,
        started.n,
        id(started.provider_id),
        started.provider,
        started.target,
        started.dialect_out,
        id(started.credential_id),
        id(started.price_id),
        outcome.outcome,
        outcome.status,
    )
