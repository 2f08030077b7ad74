"""What an operator should look at: looked for in a few bounded queries, worst first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.urls import reverse

from keys.models import APIKey
from providers import credentials, presets
from providers.models import Model, Provider, Target
from providers.prices import has_price
from tenants.models import Tenant

#: Things of one sort that are named; the rest is a number.
NAMED: Final = 3
_COUNTED: Final = 100
_SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Concern:
    """`colour`, `icon` and `word` make the chip. `what` is wrong, `whose` it is, and `url` is where it can be mended."""

    colour: str
    icon: str
    word: str
    what: str
    whose: str
    url: str
    button: str


def live_keys(now: datetime) -> "QuerySet[APIKey]":
    """Keys that open the door: as the admin API's `active_only` has it."""
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    return APIKey.objects.filter(unexpired, revoked_at__isnull=True, is_active=True)


def concerns(now: datetime) -> list[Concern]:
    looks: tuple[Callable[[datetime], Iterator[Concern]], ...] = (
        _missing_credentials,
        _providers_off,
        _models_without_a_way,
        _unpriced_models,
        _expiring_keys,
        _keys_without_limits,
    )
    return [concern for look in looks for concern in look(now)]


def _named(rows: "QuerySet[Any]", name: Callable[[Any], str]) -> tuple[str, int]:
    """The first few by name, and how many there are; counting stops at a hundred."""
    found = list(rows[: _COUNTED + 1])
    names = ", ".join(name(row) for row in found[:NAMED])
    more = min(len(found), _COUNTED) - NAMED
    if more > 0:
        names += f" and {'over ' if len(found) > _COUNTED else ''}{more} more"
    return names, len(found)


def _missing_credentials(now: datetime) -> Iterator[Concern]:
    needing = [name for name, preset in presets.PRESETS.items() if preset.needs_key]
    bare = Provider.objects.filter(~credentials.is_set(), is_active=True, kind__in=needing)
    for provider in bare.select_related("tenant").order_by("name")[:NAMED]:
        yield Concern(
            "bad",
            "i-bad",
            "No credential",
            f"{provider.name} has no credential",
            f"{_owner(provider.tenant)}: {presets.preset(provider.kind).label} refuses calls without one",
            reverse("console:providers-detail", args=[provider.pk]),
            "Provider",
        )


def _providers_off(now: datetime) -> Iterator[Concern]:
    """Off although active models lead there."""
    used = Target.objects.filter(provider=OuterRef("pk"), model__is_active=True)
    off = Provider.objects.filter(Exists(used), is_active=False).select_related("tenant")
    for provider in off.order_by("name")[:NAMED]:
        yield Concern(
            "warn",
            "i-off",
            "Off, in use",
            f"{provider.name} is off, and models route to it",
            f"{_owner(provider.tenant)}: they are served by their other targets, or not at all",
            reverse("console:providers-detail", args=[provider.pk]),
            "Provider",
        )


def _models_without_a_way(now: datetime) -> Iterator[Concern]:
    ways = Target.objects.filter(model=OuterRef("pk"), provider__isnull=False)
    lost = Model.objects.filter(~Exists(ways), is_active=True).order_by("name")
    names, count = _named(lost, lambda model: model.name)
    if count:
        yield Concern(
            "warn",
            "i-warn",
            "Leads nowhere",
            f"{_counted(count, 'model has', 'models have')} no target with a provider",
            names,
            f"{reverse('console:models')}?state=on",
            "Models",
        )


def _unpriced_models(now: datetime) -> Iterator[Concern]:
    rows = Model.objects.filter(~has_price(now), is_active=True).order_by("name")
    names, count = _named(rows, lambda model: model.name)
    if count:
        yield Concern(
            "warn",
            "i-warn",
            "No price",
            f"{_counted(count, 'model is', 'models are')} served without a price",
            names,
            f"{reverse('console:models')}?price=none&state=on",
            "Models",
        )


def _expiring_keys(now: datetime) -> Iterator[Concern]:
    soon = live_keys(now).filter(expires_at__lt=now + _SOON).select_related("tenant")
    for key in soon.order_by("expires_at")[:NAMED]:
        yield Concern(
            "warn",
            "i-clock",
            "Expires",
            f"{key.name} expires on {key.expires_at:%-d %b}",
            key.tenant.name,
            reverse("console:keys-detail", args=[key.pk]),
            "Key",
        )


def _keys_without_limits(now: datetime) -> Iterator[Concern]:
    """Neither an end nor a limit of its own: whoever finds it has it for good."""
    bare = live_keys(now).filter(
        expires_at__isnull=True, rate_limit_rpm__isnull=True, max_concurrency__isnull=True
    )
    names, count = _named(
        bare.select_related("tenant").order_by("name"),
        lambda key: f"{key.name} ({key.tenant.name})",
    )
    if count:
        yield Concern(
            "off",
            "i-off",
            "No limit",
            f"{_counted(count, 'key has', 'keys have')} neither an end nor a limit",
            names,
            reverse("console:keys"),
            "Keys",
        )


def _counted(count: int, one: str, many: str) -> str:
    if count > _COUNTED:
        return f"Over {_COUNTED} {many}"
    return f"{count} {one if count == 1 else many}"


def _owner(tenant: Tenant | None) -> str:
    return tenant.name if tenant is not None else "Shared"
