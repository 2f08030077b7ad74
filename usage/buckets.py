"""The arithmetic of limits that several workers share: what one level has given out, and what it may still give. Pure.

A worker leases requests and tokens for a short `life` and spends them in it, so each is counted as if spent at the very end of
that life. Then no window of any length that a limit names ever holds more than the limit, whatever the workers do with what
they have. A window counts in sub-windows, so its memory is bounded; what falls into one sub-window counts from its latest.
Beside each window may stand a bucket (GCRA), which says how much may come at once.

Moments are integer microseconds of a store's own clock; `wall` is one since 1970, for the days. A clock may jump: what a state
says of the future counts as if it were now. usage/rates.lua does exactly the same sums inside Redis.
"""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from usage.rate_terms import (
    DAILY,
    DAY,
    MAX_LIFE,
    MINUTE,
    NOTHING,
    REQUESTS,
    SECOND,
    SLOT_LIFE,
    SLOTS,
    TOKENS,
    Answer,
    Ask,
    Batch,
    Got,
    Part,
    Refusing,
    Return,
    Rules,
    Window,
)

#: Sub-windows of a window with all that may be leased ahead of it.
_PARTS: Final = 60
#: Days that are remembered: a clock that jumps ahead and comes back finds what it had counted.
_DAYS: Final = 4
#: Beyond what the calls need, one lease takes at most this share of what is left.
_SHARE: Final = 16
#: The bucket's drain is a fraction; this much of a microsecond's rounding must not refuse.
_SLACK: Final = 1.0


# --- what is remembered -------------------------------------------------------------------------------------------------

#: [latest end, count], oldest first.
Runs = list[list[int]]


class Used(msgspec.Struct, array_like=True):
    """One window's. `full_until`: when the bucket would be empty again (µs); `step`: µs per request, as of the last take."""

    period: int
    full_until: float = 0
    step: float = 0
    runs: Runs = []


class Holder(msgspec.Struct, array_like=True):
    """Slots that one worker has, until it does not say so any more."""

    name: str
    slots: int
    until: int


class State(msgspec.Struct, array_like=True):
    """One level's. `days`: [day since 1970, requests]."""

    windows: list[Used] = []
    days: list[list[int]] = []
    tokens: Runs = []
    holders: list[Holder] = []

    def used(self, period: int) -> Used:
        for used in self.windows:
            if used.period == period:
                return used
        used = Used(period)
        self.windows.append(used)
        return used

    def advance(self, now: int) -> None:
        """Forgets what no rule looks at any more."""
        for used in self.windows:
            _advance(used.runs, used.period, now)
        _advance(self.tokens, MINUTE, now)
        self.windows = [used for used in self.windows if used.runs]
        for holder in self.holders:
            holder.until = min(holder.until, now + SLOT_LIFE)
        self.holders = [holder for holder in self.holders if holder.until > now and holder.slots]

    @property
    def is_idle(self) -> bool:
        return not (self.windows or self.days or self.tokens or self.holders)

    def forget_days(self, wall: int) -> None:
        """For a store whose clock nobody sets back: those before yesterday."""
        self.days = [day for day in self.days if day[0] >= wall // DAY - 1]

    def idle_after(self, wall: int) -> int:
        """µs after `wall` from which on nothing in here counts, at most."""
        after = SLOT_LIFE if self.holders else 0
        for used in self.windows:
            after = max(after, used.period + MAX_LIFE)
        if self.tokens:
            after = max(after, MINUTE + MAX_LIFE)
        if self.days:
            after = max(after, DAY - wall % DAY + DAY)
        return after


def _advance(runs: Runs, period: int, now: int) -> None:
    for run in reversed(runs):
        if run[0] <= now + MAX_LIFE:
            break
        run[0] = now + MAX_LIFE
    gone = 0
    while gone < len(runs) and runs[gone][0] + period <= now:
        gone += 1
    if gone:
        del runs[:gone]


def _add(runs: Runs, period: int, end: int, count: int) -> None:
    width = (period + MAX_LIFE) // _PARTS
    if runs and (end <= runs[-1][0] or end - end % width == runs[-1][0] - runs[-1][0] % width):
        runs[-1][0] = max(runs[-1][0], end)
        runs[-1][1] += count
    else:
        runs.append([end, count])


def _take_out(runs: Runs, period: int, end: int, count: int, now: int) -> None:
    """What was counted at `end` and not spent. What has left the window is no reason to take out what others spent."""
    if end + period <= now:
        return
    for run in runs:
        if run[0] >= end:
            run[1] -= min(run[1], count)
            return


def _sum(runs: Runs) -> int:
    total = 0
    for run in runs:
        total += run[1]
    return total


def _wait(runs: Runs, period: int, surplus: int, now: int) -> int:
    """µs until `surplus` of what is counted has left; 0 for none."""
    wait = 0
    for run in runs:
        if surplus <= 0:
            break
        surplus -= run[1]
        wait = run[0] + period - now
    return wait


def _reset(runs: Runs, period: int, now: int) -> int:
    """µs until everything has left: longer than the period, for what is leased counts from the end of its life."""
    for run in reversed(runs):
        if run[1]:
            return run[0] + period - now
    return 0


# --- the work -----------------------------------------------------------------------------------------------------------


def work(states: Mapping[str, State], batch: Batch, now: int, wall: int) -> list[Answer]:
    """Carries a batch out on the states of its levels; one answer per ask."""
    for state in states.values():
        state.advance(now)
    for back in batch.returns:
        _put_back(states[back.level], back, now)
    for having in batch.havings:
        _hold(states[having.level], having.holder, having.slots, now)
    return [_answer(states, ask, now, wall) for ask in batch.asks]


def _put_back(state: State, back: Return, now: int) -> None:
    if back.requests:
        for used in state.windows:
            _take_out(used.runs, used.period, back.end, back.requests, now)
            used.full_until -= back.requests * used.step
        for day in state.days:
            if day[0] == back.day:
                day[1] -= min(day[1], back.requests)
    if back.tokens > 0:
        _take_out(state.tokens, MINUTE, back.end, back.tokens, now)
    elif back.tokens:
        _add(state.tokens, MINUTE, now, -back.tokens)


def _hold(state: State, holder: str, slots: int, now: int) -> None:
    state.holders = [each for each in state.holders if each.name != holder]
    if slots:
        state.holders.append(Holder(holder, slots, now + SLOT_LIFE))


def _answer(states: Mapping[str, State], ask: Ask, now: int, wall: int) -> Answer:
    here = [(part, states[part.level]) for part in ask.parts]
    rooms = [_room(part, state, ask.life, now, wall) for part, state in here]
    granted, tokens = 0, 0
    for size in ask.calls:
        if any(granted + 1 > r or tokens + size > t or granted + 1 > s for r, t, s in rooms):
            break
        granted += 1
        tokens += size
    got = [
        _take(part, state, room, (granted, tokens), ask, now, wall)
        for (part, state), room in zip(here, rooms, strict=True)
    ]
    if granted == len(ask.calls):
        return Answer(granted, got)
    size = ask.calls[granted]
    faults = [_fault(part, state, size, ask.life, now, wall) for part, state in here]
    part = max(range(len(faults)), key=lambda n: (faults[n][1], -n))
    reason, wait, *told = faults[part]
    if reason == NOTHING:  # only rounding stands in the way
        reason, wait = REQUESTS, 1
    return Answer(granted, got, part, reason, wait, *told)


#: Where a rule does not limit.
PLENTY: Final = 2**50


def _room(part: Part, state: State, life: int, now: int, wall: int) -> tuple[int, int, int]:
    """Requests, tokens and further slots that the level can give now."""
    rules = part.rules
    requests = PLENTY
    for window in rules.windows:
        used = state.used(window.period)
        requests = min(requests, window.most - _sum(used.runs))
        if window.burst:
            requests = min(requests, _at_once(used, window, now))
    if rules.daily:
        requests = min(requests, rules.daily - _busiest_day(state, wall, life))
    tokens = rules.tokens - _sum(state.tokens) if rules.tokens else PLENTY
    slots = rules.slots - _others(state, part) - part.held if rules.slots else PLENTY
    return max(0, requests), tokens, max(0, slots)


def _step(window: Window) -> float:
    return window.period / window.most


def _over(used: Used, window: Window, now: int) -> float:
    """How full the bucket is, in µs; one that was made smaller is full, not over-full."""
    return min(max(0, used.full_until - now), window.burst * _step(window))


def _at_once(used: Used, window: Window, now: int) -> int:
    step = _step(window)
    return math.floor((window.burst * step - _over(used, window, now) + _SLACK) / step)


def _busiest_day(state: State, wall: int, life: int) -> int:
    """A lease across midnight may be spent on either side, and counts on both."""
    first, last = wall // DAY, (wall + life) // DAY
    return max((day[1] for day in state.days if first <= day[0] <= last), default=0)


def _others(state: State, part: Part) -> int:
    return sum(each.slots for each in state.holders if each.name != part.holder)


def _extra(like: int, room: int) -> int:
    """Beyond what is needed, of what is left then."""
    return max(0, min(like, room // _SHARE))


def _take(
    part: Part,
    state: State,
    room: tuple[int, int, int],
    need: tuple[int, int],
    ask: Ask,
    now: int,
    wall: int,
) -> Got:
    rules, end = part.rules, now + ask.life
    calls, tokens = need
    requests = slots = 0
    like, like_tokens = (0, 0) if part.is_stocked else (ask.like, ask.like_tokens)
    if rules.windows or rules.daily:
        requests = calls + _extra(like, room[0] - calls)
    if not rules.tokens:
        tokens = 0
    else:
        tokens += _extra(like_tokens, room[1] - tokens)
    if rules.slots:
        slots = part.held + calls + _extra(ask.like, room[2] - calls)
        _hold(state, part.holder, slots, now)
    if requests:
        _count(state, rules, requests, end, now)
    if requests and rules.daily:
        for day in range(wall // DAY, (wall + ask.life) // DAY + 1):
            _count_day(state, day, requests)
    if tokens:
        _add(state.tokens, MINUTE, end, tokens)
    limit, left, reset = _least_left(rules, state, ask.life, now, wall)
    return Got(
        requests,
        tokens,
        slots,
        end,
        wall // DAY,
        limit,
        left,
        reset,
        max(0, rules.tokens - _sum(state.tokens)),
        _reset(state.tokens, MINUTE, now),
        max(0, rules.slots - _others(state, part) - slots),
    )


def _count(state: State, rules: Rules, requests: int, end: int, now: int) -> None:
    for window in rules.windows:
        used = state.used(window.period)
        if window.burst:
            used.step = _step(window)
            used.full_until = now + _over(used, window, now) + requests * used.step
        _add(used.runs, window.period, end, requests)


def _count_day(state: State, day: int, requests: int) -> None:
    for each in state.days:
        if each[0] == day:
            each[1] += requests
            return
    state.days.append([day, requests])
    if len(state.days) > _DAYS:
        state.days.remove(min(state.days))


def _least_left(rules: Rules, state: State, life: int, now: int, wall: int) -> tuple[int, int, int]:
    limit, left, reset = 0, PLENTY, 0
    for window in rules.windows:
        used = state.used(window.period)
        rest = max(0, window.most - _sum(used.runs))
        if window.burst:
            rest = min(rest, _at_once(used, window, now))
        if rest < left:
            limit, left, reset = window.most, rest, _reset(used.runs, window.period, now)
    if rules.daily:
        rest = max(0, rules.daily - _busiest_day(state, wall, life))
        if rest < left:
            limit, left, reset = rules.daily, rest, DAY - wall % DAY
    return limit, left, reset


#: Why a level refuses: the reason, µs to wait, the limit, µs to its reset, a window's period and burst (see `Answer`).
#: Reason −1 and no wait: it does not.
_Fault = tuple[Refusing, int, int, int, int, int]


def _fault(part: Part, state: State, tokens: int, life: int, now: int, wall: int) -> _Fault:
    """What stands longest in the way of one more call."""
    rules = part.rules
    worst = _request_fault(rules, state, life, now, wall)
    surplus = _sum(state.tokens) + tokens - rules.tokens
    if rules.tokens and surplus > 0:
        wait = max(1, _wait(state.tokens, MINUTE, surplus, now))
        if tokens > rules.tokens:
            wait = MINUTE
        if wait > worst[1]:
            worst = (TOKENS, wait, rules.tokens, _reset(state.tokens, MINUTE, now), MINUTE, 0)
    is_full = rules.slots and rules.slots - _others(state, part) - _mine(state, part) < 1
    if is_full and worst[1] < SECOND:
        worst = (SLOTS, SECOND, rules.slots, SECOND, 0, 0)
    return worst


def _request_fault(rules: Rules, state: State, life: int, now: int, wall: int) -> _Fault:
    worst: _Fault = (NOTHING, 0, 0, 0, 0, 0)
    for window in rules.windows:
        used = state.used(window.period)
        wait = _wait(used.runs, window.period, _sum(used.runs) + 1 - window.most, now)
        burst = 0
        if window.burst and _at_once(used, window, now) < 1:
            step = _step(window)
            room_in = math.floor(_over(used, window, now) + step - window.burst * step) + 1
            if room_in > wait:
                wait, burst = room_in, window.burst
        if wait > worst[1]:
            whole = _reset(used.runs, window.period, now)
            worst = (REQUESTS, wait, window.most, whole, window.period, burst)
    if rules.daily and _busiest_day(state, wall, life) >= rules.daily:
        left = DAY - wall % DAY
        if left > worst[1]:
            worst = (DAILY, left, rules.daily, left, DAY, 0)
    return worst


def _mine(state: State, part: Part) -> int:
    return sum(each.slots for each in state.holders if each.name == part.holder)
