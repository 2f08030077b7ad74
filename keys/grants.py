"""What a key may do, as one value; whether that lies within another's; and what two have in common. Pure.

A key that makes or changes keys never gives more than it has itself. `cut` takes from what was asked for whatever goes beyond;
`beyond` is the judge of the result, and shares no step with it.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tenants.limits import LimitSet, read_rate
from usage import money

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ALL: Final = "*"


@dataclass(frozen=True, slots=True)
class Grant:
    """`models`, `capabilities`, `networks`, `until`: None means any, all, anywhere, for ever. `most`: what its limits allow at
    most, by a name for each sort; what is not in it is not limited. `account` and `project`: whose limits bind it as well.
    `is_watched`: the bodies of its calls are kept where its tenant allows it.
    """

    scopes: frozenset[str]
    models: tuple[str, ...] | None = None
    capabilities: frozenset[str] | None = None
    networks: tuple[Network, ...] | None = None
    most: Mapping[str, int] | None = None
    until: datetime | None = None
    account: UUID | None = None
    project: UUID | None = None
    is_watched: bool = False


def networks(texts: Sequence[str] | None) -> tuple[Network, ...] | None:
    return None if texts is None else tuple(_read(texts))


def most_of(limits: LimitSet) -> dict[str, int]:
    """What these limits allow at most, each sort by a name of its own. Two rates over one period: the smaller counts."""
    most: dict[str, int] = {}
    for count, seconds in limits.rates:
        name = f"rate_limits/{seconds}"
        most[name] = min(count, most.get(name, count))
    for unit, window, amount in limits.budgets:
        most[f"budget/{unit}/{window}"] = amount
    single = {
        "daily_limit": limits.daily,
        "burst": limits.burst,
        "rate_limit_tpm": limits.tokens_per_minute,
        "max_concurrency": limits.concurrency,
    }
    return {**most, **{name: value for name, value in single.items() if value is not None}}


# --- the judge --------------------------------------------------------------------------------------------------------


def beyond(inner: Grant, outer: Grant) -> list[str]:
    """In what `inner` goes beyond `outer`, by the names of a key's fields; empty if it lies within."""
    return [name for name, is_within in _QUESTIONS.items() if not is_within(inner, outer)]


def _limits_within(inner: Grant, outer: Grant) -> bool:
    own = inner.most or {}
    return all(name in own and own[name] <= most for name, most in (outer.most or {}).items())


def _expires_within(inner: Grant, outer: Grant) -> bool:
    return outer.until is None or (inner.until is not None and inner.until <= outer.until)


def _models_within(inner: Grant, outer: Grant) -> bool:
    if outer.models is None:
        return True
    return inner.models is not None and all(covers(outer.models, name) for name in inner.models)


def _networks_within(inner: Grant, outer: Grant) -> bool:
    outside = outer.networks
    if outside is None:
        return True
    return inner.networks is not None and all(
        any(_is_part(network, of) for of in outside) for network in inner.networks
    )


_QUESTIONS: Final[dict[str, Callable[[Grant, Grant], bool]]] = {
    "scopes": lambda inner, outer: inner.scopes <= outer.scopes,
    "allowed_models": _models_within,
    "allowed_capabilities": lambda inner, outer: (
        outer.capabilities is None
        or (inner.capabilities is not None and inner.capabilities <= outer.capabilities)
    ),
    "allowed_addresses": _networks_within,
    "limits": _limits_within,
    "expires_at": _expires_within,
    "account": lambda inner, outer: outer.account in (None, inner.account),
    "project": lambda inner, outer: outer.project in (None, inner.project),
    "log_content": lambda inner, outer: inner.is_watched or not outer.is_watched,
}


def covers(patterns: Iterable[str], name: str) -> bool:
    """Whether every model that `name` means (a name, or a prefix with `*`) is meant by one of the patterns."""
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith(_ALL) else name == pattern
        for pattern in patterns
    )


def _is_part(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


# --- what two have in common ------------------------------------------------------------------------------------------


def cut(field: str, asked: Any, own: Any) -> Any:
    """Of a field of a key, as it is stored: what `asked` and `own` both grant. None is no limit; an empty list is nothing."""
    return _CUTS[field](asked, own)


def _narrowest(meet: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """None on one side leaves the other."""

    def both(asked: Any, own: Any) -> Any:
        if asked is None or own is None:
            return asked if own is None else own
        return meet(asked, own)

    return both


def _names(asked: Sequence[str], own: Sequence[str]) -> list[str]:
    return [name for name in asked if name in own]


def _models(asked: Sequence[str], own: Sequence[str]) -> list[str]:
    """Of two patterns that meet, the longer one is what they have in common."""
    met = [name for name in asked if covers(own, name)]
    met += [name for name in own if covers(asked, name)]
    return _without_parts(met, lambda part, whole: covers([whole], part))


def _networks(asked: Sequence[str], own: Sequence[str]) -> list[str]:
    """Of two blocks that meet, one is part of the other."""
    ours, theirs = _read(own), _read(asked)
    met = [it for it in theirs if any(_is_part(it, of) for of in ours)]
    met += [it for it in ours if any(_is_part(it, of) for of in theirs)]
    return [str(it) for it in _without_parts(met, _is_part)]


def _read(texts: Sequence[str]) -> list[Network]:
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def _without_parts(met: Sequence[Any], is_part: Callable[[Any, Any], bool]) -> list[Any]:
    """Each once, and none that another says already."""
    once = list(dict.fromkeys(met))
    return [it for it in once if not any(it != other and is_part(it, other) for other in once)]


def _rates(asked: Sequence[str], own: Sequence[str]) -> list[str]:
    """Per period the smaller of the two."""
    by_period: dict[int, tuple[int, str]] = {}
    for text in (*asked, *own):
        rate = read_rate(text)
        if rate is not None:
            entry = (rate.count, text)
            by_period[rate.seconds] = min(entry, by_period.get(rate.seconds, entry))
    return [text for _, text in by_period.values()]


def _amounts(asked: str, own: str) -> str:
    return min(asked, own, key=money.parse_usd)


_COUNTS: Final = (
    *("rate_limit_rpm", "daily_limit", "burst", "rate_limit_tpm", "max_concurrency"),
    *("tokens_budget", "tokens_budget_day", "tokens_budget_total"),
)
_USD: Final = ("cost_budget_usd", "cost_budget_day_usd", "cost_budget_total_usd")
_CUTS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "scopes": _names,
    "allowed_models": _narrowest(_models),
    "allowed_capabilities": _narrowest(_names),
    "allowed_addresses": _narrowest(_networks),
    "expires_at": _narrowest(min),
    "rate_limits": _narrowest(_rates),
    **dict.fromkeys(_COUNTS, _narrowest(min)),
    **dict.fromkeys(_USD, _narrowest(_amounts)),
    "log_content": lambda asked, own: asked or own,
}
#: The fields of a key that can grant too much, each by the contract's name.
CUT: Final = tuple(_CUTS)
