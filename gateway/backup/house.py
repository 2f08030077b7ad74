"""The house that a backup is to go into: whether anything is in it yet."""

from typing import Any, Final

from django.db.models import QuerySet

from gateway.backup.tables import TABLES
from tenants.keyring import PLATFORM_PURPOSES
from tenants.models import RootSecret, Tenant
from tenants.services import DEFAULT_SLUG

_SHOWN: Final = 4


def what_is_here() -> dict[str, int]:
    """Rows by table, without those that `migrate` and a first start make: the tenant `default` and secrets of the house."""
    found = {}
    for table in TABLES:
        rows: QuerySet[Any] = table.model._default_manager.all()
        if table.model is Tenant:
            rows = rows.exclude(slug=DEFAULT_SLUG)
        elif table.model is RootSecret:
            rows = rows.exclude(tenant__isnull=True, purpose__in=PLATFORM_PURPOSES)
        count = rows.count()
        if count:
            found[table.label] = count
    return found


def is_fresh() -> bool:
    """As `migrate` leaves it. Looks at no more than one row of each table."""
    tenants = Tenant.objects.exclude(slug=DEFAULT_SLUG)
    roots = RootSecret.objects.exclude(tenant__isnull=True, purpose__in=PLATFORM_PURPOSES)
    others: list[QuerySet[Any]] = [
        table.model._default_manager.all()
        for table in TABLES
        if table.model not in {Tenant, RootSecret}
    ]
    return not any(rows.exists() for rows in (tenants, roots, *others))


def sentence() -> str:
    """Why this is no place for a whole backup."""
    found = sorted(what_is_here().items(), key=lambda each: -each[1])
    named = ", ".join(f"{count} {label}" for label, count in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more tables" if len(found) > _SHOWN else ""
    return (
        f"This database is not empty ({named}{more}). A backup goes as it is into one that was just"
        " migrated; into a house with things of its own it goes with new ids (--remap-ids, remap_ids=true)."
    )


def clear() -> None:
    """Take away what `migrate` and a first start made: what comes is to be exactly what was."""
    Tenant.objects.all().delete()
    RootSecret.objects.all().delete()
