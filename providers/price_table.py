"""What models cost by the providers' own lists: a snapshot of `genai-prices`, in `price_table.json`, read offline.

`make price-table` takes it anew from PyPI. The same format is what that project publishes itself, so a newer list can be given
as a file. Amounts are decimals from text or from the digits of a JSON number, never floats.

A price is listed for a provider and one of its names. A name that nobody knows has no price here: never 0.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from providers import presets

BUILT_IN: Final = Path(__file__).with_name("price_table.json")
MAX_FILE: Final = 64 * 1024 * 1024

#: Kind of provider → what the list calls it. Kinds without one are told by their address.
_LISTED_AS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{kind: kind for kind in ("openai", "azure", "groq", "mistral", "deepseek", "openrouter")},
        **{kind: kind for kind in ("together", "fireworks")},
        "xai": "x-ai",
    }
)
#: Member of a listed price → our field. Both are per million tokens.
_FIELDS: Final = {
    "input_mtok": "input_usd_per_mtok",
    "output_mtok": "output_usd_per_mtok",
    "cache_read_mtok": "cached_input_usd_per_mtok",
    "cache_write_mtok": "cache_write_usd_per_mtok",
    "output_reasoning_mtok": "reasoning_usd_per_mtok",
}
_LONG: Final = {
    "input_mtok": "long_context_input_usd_per_mtok",
    "output_mtok": "long_context_output_usd_per_mtok",
    "cache_read_mtok": "long_context_cached_input_usd_per_mtok",
    "cache_write_mtok": "long_context_cache_write_usd_per_mtok",
}
#: The same for prices of another unit: how many of theirs are one of ours.
_OTHER_UNITS: Final = {
    "audio_hours": ("per_minute_usd", 60),
    "input_audio_hours": ("per_minute_usd", 60),
    "requests_kcount": ("per_request_usd", 1000),
}
_NANO: Final = Decimal("0.000000001")
_NO_AMOUNT: Final = Decimal("NaN")
#: Beyond any price; what we take is narrower, and says so itself.
_MOST_USD: Final = 10**9
_COMPACT_DATE: Final = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class BadTable(ValueError):
    """The file is no list of prices."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What one model costs by the list, as fields of our price; `to_come` are (from when, fields).

    `left_out`: members of the listed price that ours has no place for (sound by the token, say). `unusable`: why there is no
    price although the model is known.
    """

    name: str
    context_window: int | None
    fields: dict[str, Any]
    to_come: tuple[tuple[datetime, dict[str, Any]], ...] = ()
    left_out: tuple[str, ...] = ()
    unusable: str = ""


class _Conditional(msgspec.Struct):
    prices: dict[str, Any]
    constraint: dict[str, str] | None = None


class _Model(msgspec.Struct):
    id: str
    match: dict[str, Any]
    prices: dict[str, Any] | list[_Conditional]
    context_window: int | None = None


class _Provider(msgspec.Struct):
    id: str
    models: list[_Model]
    api_pattern: str = ""
    fallback_model_providers: list[str] | None = None


class _File(msgspec.Struct):
    source: str
    providers: list[_Provider]


def _decoded(text: bytes, source: str) -> _File:
    """Ours is an object with its source, theirs a bare list of providers."""
    as_list = text.lstrip()[:1] == b"["
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
        list[_Provider] if as_list else _File, float_hook=Decimal
    )
    try:
        found = decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise BadTable(f"{source} is no list of prices as genai-prices has them: {fault}") from None
    return _File(source, found) if as_list else found


class PriceTable:
    """Providers with their models, found by our kinds and by names."""

    def __init__(self, file: _File) -> None:
        self.source = file.source
        self._providers = {provider.id: provider for provider in file.providers}

    def find(self, kind: str, base_url: str, name: str, now: datetime) -> Listed | None:
        """What this provider's list says of the model that it is called with as `name`. None: it is not listed."""
        if presets.preset(kind).in_process:
            free = dict.fromkeys(("input_usd_per_mtok", "output_usd_per_mtok"), "0")
            return Listed(name, None, free)
        provider = self._provider(kind, base_url)
        if provider is None:
            return None
        model = self._model(provider, name.lower()) or self._model(
            provider, _COMPACT_DATE.sub(r"-\1-\2-\3", name.lower())
        )
        return None if model is None else _listed(model, now)

    def _provider(self, kind: str, base_url: str) -> _Provider | None:
        if kind in _LISTED_AS:
            return self._providers.get(_LISTED_AS[kind])
        fits = (p for p in self._providers.values() if _fits(p.api_pattern, base_url))
        return next(fits, None) if base_url else None

    def _model(self, provider: _Provider, name: str) -> _Model | None:
        """By the provider's own list first; then by those of the providers whose models it serves."""
        others = (self._providers.get(it) for it in provider.fallback_model_providers or ())
        for each in (provider, *(other for other in others if other is not None)):
            for model in each.models:
                if _matches(model.match, name):
                    return model
        return None


def load(path: Path) -> PriceTable:
    """Raises `BadTable`, `OSError`."""
    if path.stat().st_size > MAX_FILE:
        raise BadTable(f"{path.name} has more than {MAX_FILE} bytes.")
    return PriceTable(_decoded(path.read_bytes(), path.name))


@lru_cache(maxsize=1)
def built_in() -> PriceTable:
    return load(BUILT_IN)


# --- names ------------------------------------------------------------------------------------------------------------


def _fits(pattern: str, base_url: str) -> bool:
    try:
        return bool(pattern and re.match(pattern, base_url))
    except re.error:
        return False


def _matches(clause: Mapping[str, Any], name: str) -> bool:
    """`name` is lower case. A clause that nobody knows fits nothing."""
    if len(clause) != 1:
        return False
    ((kind, value),) = clause.items()
    if kind in {"or", "and"} and isinstance(value, list):
        return (any if kind == "or" else all)(_matches(each, name) for each in value)
    if not isinstance(value, str):
        return False
    if kind == "regex":
        try:
            return re.search(value, name) is not None
        except re.error:
            return False
    text = value.lower()
    return {
        "equals": name == text,
        "starts_with": name.startswith(text),
        "ends_with": name.endswith(text),
        "contains": text in name,
    }.get(kind, False)


# --- prices -----------------------------------------------------------------------------------------------------------


class _Unusable(Exception):
    """The listed price says something that ours cannot."""


def _listed(model: _Model, now: datetime) -> Listed:
    in_force, to_come = _dated(model, now)
    left_out = sorted({name for price in in_force for name in price if not _has_place(name)})
    try:
        # Where the hour of the day matters, the dearest: a hold must cover whatever hour it is.
        fields = max((_fields(price) for price in in_force), key=_dearness)
        later = tuple((begins, _fields(price)) for begins, price in to_come)
    except _Unusable as fault:
        return Listed(model.id, model.context_window, {}, unusable=str(fault))
    return Listed(model.id, model.context_window, fields, later, tuple(left_out))


def _has_place(name: str) -> bool:
    return name in _FIELDS or name in _OTHER_UNITS


def _dated(
    model: _Model, now: datetime
) -> tuple[list[Mapping[str, Any]], list[tuple[datetime, Mapping[str, Any]]]]:
    """The prices that are in force now, one for each part of the day; and those that come, with their moments."""
    if isinstance(model.prices, dict):
        return [model.prices], []
    in_force: list[Mapping[str, Any]] = []
    to_come: list[tuple[datetime, Mapping[str, Any]]] = []
    for each in model.prices:
        constraint = each.constraint or {}
        if "start_date" in constraint:
            begins = _day(constraint["start_date"])
            if begins > now:
                to_come.append((begins, each.prices))
                continue
            in_force = []  # a later price ends those before it
        in_force.append(each.prices)
    return in_force or [{}], to_come


def _day(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise BadTable(f"{text[:40]!r} is no date.") from None


def _fields(price: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    thresholds = set()
    for name, value in price.items():
        if name in _OTHER_UNITS:
            field, units = _OTHER_UNITS[name]
            fields[field] = _text(_decimal(value) / units)
        elif name in _FIELDS:
            base, tier = _tiers(name, value)
            fields[_FIELDS[name]] = _text(base)
            if tier is not None:
                thresholds.add(tier[0])
                fields[_LONG[name]] = _text(tier[1])
    if len(thresholds) > 1:
        raise _Unusable("its prices change at several lengths of the context")
    if thresholds:
        fields["long_context_from_tokens"] = thresholds.pop()
    if not fields:
        raise _Unusable("it is priced by something that calls do not tell")
    return fields


def _tiers(name: str, value: object) -> tuple[Decimal, tuple[int, Decimal] | None]:
    """The price, and from which length on which other."""
    if not isinstance(value, dict):
        return _decimal(value), None
    tiers: Sequence[Mapping[str, Any]] = value.get("tiers", ())
    if len(tiers) != 1 or name not in _LONG or not isinstance(tiers[0].get("start"), int):
        raise _Unusable("it has several prices for long contexts")
    return _decimal(value.get("base")), (tiers[0]["start"], _decimal(tiers[0].get("price")))


def _decimal(value: object) -> Decimal:
    try:
        is_one = isinstance(value, str | int | Decimal) and not isinstance(value, bool)
        amount = Decimal(str(value)) if is_one else _NO_AMOUNT
    except InvalidOperation:
        amount = _NO_AMOUNT
    if not amount.is_finite() or not 0 <= amount <= _MOST_USD:
        raise _Unusable(f"{str(value)[:40]!r} is no price")
    return amount


def _text(amount: Decimal) -> str:
    """To the nano-USD, without an exponent."""
    return f"{amount.quantize(_NANO).normalize():f}"


def _dearness(fields: Mapping[str, Any]) -> Decimal:
    return sum((Decimal(fields.get(name, "0")) for name in _FIELDS.values()), Decimal(0))
