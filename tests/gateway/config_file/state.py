"""Everything that is configured, by natural names: what a rollback has to bring back, credentials included."""

from typing import Any

from django.db import models

from keys.models import APIKey
from providers import credentials
from providers.models import Model, Provider
from tenants.models import Account, Project, Tenant

#: What a rollback neither knows nor touches.
_NOT_COMPARED = {"id", "created_at", "last_used_at"}


def configured() -> dict[str, Any]:
    """Two of these are equal exactly when everything that a file can say is the same."""
    return {
        **{f"tenant {row.slug}": _columns(row) for row in Tenant.objects.all()},
        **{f"project {row.tenant.slug} {row.name}": _columns(row) for row in Project.objects.all()},
        **{
            f"account {row.tenant.slug} {row.username}": _columns(row)
            for row in Account.objects.all()
        },
        **{f"provider {_of(row)} {row.name}": _provider(row) for row in Provider.objects.all()},
        **{f"model {_of(row)} {row.name}": _model(row) for row in Model.objects.all()},
        **{f"key {row.tenant.slug} {row.id}": _key(row) for row in APIKey.objects.all()},
    }


def _of(row: Any) -> str:
    return row.tenant.slug if row.tenant else "-"


def _columns(row: models.Model) -> dict[str, Any]:
    columns = {
        column.attname: column.value_from_object(row) for column in row._meta.concrete_fields
    }
    return {name: value for name, value in columns.items() if name not in _NOT_COMPARED}


def _provider(row: Provider) -> dict[str, Any]:
    current = credentials.current(row)
    clear = credentials.open_sealed(credentials.sealed(current, row)).reveal() if current else None
    return {**_columns(row), "credential": clear, "granted": _granted(row)}


def _granted(row: Any) -> list[str]:
    return sorted(row.granted.values_list("slug", flat=True))


def _model(row: Model) -> dict[str, Any]:
    return {
        **_columns(row),
        "granted": _granted(row),
        "targets": sorted(
            (str(it.provider), it.upstream_model, it.priority) for it in row.targets.all()
        ),
        "prices": [_columns(price) for price in row.prices.order_by("effective_from")],
    }


def _key(row: APIKey) -> dict[str, Any]:
    secrets = [(bytes(it.fingerprint), it.prefix, it.not_after) for it in row.secrets.all()]
    return {**_columns(row), "secrets": sorted(secrets)}
