"""What the database itself refuses, whoever asks: plain SQL, past all of our own checks."""

from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.utils import DataError

from keys.models import APIKey
from keys.services import rotate_key
from providers import credentials
from providers.model_services import create_model
from providers.services import create_provider, set_provider_config
from tenants.models import Account, Membership, Project, Tenant, User


@pytest.fixture
def everything(tenant, outsider, key, operator, staging) -> None:
    """At least one row in every table that has rules."""
    rotate_key(actor=staging, key_id=key.key.id, grace_period_seconds=60)
    Project.objects.create(tenant=tenant, name="Web")
    Account.objects.create(tenant=tenant, username="payer")
    Membership.objects.create(tenant=tenant, user=operator)
    create_provider(actor=staging, name="main", kind="openai", api_key="sk-first-0123456789")
    set_provider_config(actor=staging, tenant_id=tenant.id, provider="openai", api_key="sk-own-1")
    create_model(
        actor=staging,
        id="m",
        targets=[{"provider": "main", "upstream_model": "m-1"}],
        prices=[{"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}],
    )


def refused(statement: str, *parameters: Any) -> None:
    with pytest.raises((IntegrityError, DataError)), transaction.atomic():
        _run(statement, parameters)


def _run(statement: str, parameters: tuple[Any, ...]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        assert cursor.rowcount, "the statement met no row at all"


LIMITS = (0, -1, 1_000_001, 2**40)
BAD_VALUES = {
    ("tenants_tenant", "status"): ("suspended", "", "ACTIVE"),
    ("tenants_tenant", "rate_limit_rpm"): LIMITS,
    ("tenants_tenant", "max_concurrency"): LIMITS,
    ("tenants_tenant", "content_retention_days"): (0, -1, 3651),
    ("tenants_tenant", "slug"): (None,),
    ("tenants_user", "role"): ("root", "Owner"),
    ("tenants_membership", "role"): ("", "admin"),
    ("keys_apikey", "rate_limit_rpm"): LIMITS,
    ("keys_apikey", "max_concurrency"): LIMITS,
    ("keys_apikey", "source"): ("", "elsewhere"),
    ("keys_apikey", "created_by_id"): ("",),
    ("keys_apikey", "revoked_at"): ("2026-01-01 00:00:00+00:00",),
    ("keys_apikey", "tenant_id"): (None,),
    ("keys_keysecret", "fingerprint"): (None,),
    ("keys_keysecret", "not_after"): (None,),
    ("providers_model", "context_window"): (0, -1, 10**12 + 1),
    ("providers_model", "max_output_tokens"): (0, -1),
    ("providers_price", "input_nano_per_mtok"): (-1, None),
    ("providers_price", "output_nano_per_mtok"): (-1,),
    ("providers_price", "cached_input_nano_per_mtok"): (-1,),
    ("providers_price", "reasoning_nano_per_mtok"): (-1,),
    ("providers_price", "per_request_nano"): (-1, None),
    ("providers_credential", "sealed"): (None,),
}


@pytest.mark.parametrize("table", sorted({table for table, _ in BAD_VALUES}))
def test_a_value_that_cannot_be_is_refused(everything, table):
    for (of, column), values in BAD_VALUES.items():
        if of == table:
            for value in values:
                refused(f"UPDATE {table} SET {column} = %s", value)


def test_the_ends_of_a_limit_are_allowed(everything):
    with connection.cursor() as cursor:
        for table in ("tenants_tenant", "keys_apikey"):
            for value in (None, 1, 1_000_000):
                cursor.execute(f"UPDATE {table} SET rate_limit_rpm = %s", [value])
                assert cursor.rowcount


#: Table, the columns in which a second row differs (as SQL), and the rule that the second row breaks.
DOUBLES = [
    ("tenants_tenant", {}, "slug"),
    ("tenants_user", {}, "username"),
    ("tenants_user", {"username": "'THE-OPERATOR'"}, "username in any case"),
    ("tenants_project", {}, "project of a tenant"),
    ("tenants_project", {"name": "'WEB'"}, "project in any case"),
    ("tenants_account", {"username": "'Payer'"}, "account in any case"),
    ("tenants_membership", {"role": "'owner'"}, "membership"),
    ("keys_keysecret", {"not_after": "'2030-01-01 00:00:00+00:00'"}, "fingerprint"),
    ("keys_keysecret WHERE not_after IS NULL", {"fingerprint": "NEW"}, "current secret"),
    ("providers_provider WHERE tenant_id IS NULL", {}, "shared provider"),
    ("providers_provider WHERE tenant_id IS NOT NULL", {"name": "'other'"}, "default provider"),
    ("providers_credential", {"version": "9"}, "current credential"),
    ("providers_model", {}, "model"),
    ("providers_target", {"priority": "9"}, "target"),
    ("providers_price", {}, "price of a moment"),
    ("tenants_configchange", {}, "seq of the epoch"),
    ("tenants_audithead", {}, "head of a scope"),
    ("tenants_auditevent", {}, "seq in a scope"),
]


@pytest.mark.parametrize(
    ("source", "differing", "rule"), DOUBLES, ids=[double[2] for double in DOUBLES]
)
def test_there_is_no_second_one(everything, source, differing, rule):
    table = source.partition(" ")[0]
    with connection.cursor() as cursor:
        names = [
            column.name for column in connection.introspection.get_table_description(cursor, table)
        ]
    new_id = "%s" if "id" in names else ""
    blob = "x'00'" if connection.vendor == "sqlite" else "'\\x00'::bytea"
    values = [
        new_id if name == "id" else differing.get(name, name).replace("NEW", blob) for name in names
    ]
    identity = uuid4().hex if connection.vendor == "sqlite" else str(uuid4())
    if connection.vendor == "postgresql" and new_id:
        values[names.index("id")] = "%s::uuid"
    if connection.vendor == "postgresql" and "'" in differing.get("not_after", ""):
        values[names.index("not_after")] += "::timestamptz"
    refused(
        f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM {source}",
        *([identity] if new_id else []),
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("keys_apikey", "tenant_id"),
        ("keys_apikey", "project_id"),
        ("keys_apikey", "account_id"),
        ("keys_keysecret", "key_id"),
        ("providers_provider", "tenant_id"),
        ("providers_credential", "provider_id"),
        ("providers_model", "tenant_id"),
        ("providers_target", "provider_id"),
        ("providers_price", "model_id"),
        ("tenants_membership", "user_id"),
        ("tenants_rootsecret", "tenant_id"),
    ],
)
def test_nothing_belongs_to_what_does_not_exist(everything, table, column):
    nobody = uuid4().hex if connection.vendor == "sqlite" else str(uuid4())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {table} LIMIT 1")
        assert cursor.fetchone()
    refused(f"UPDATE {table} SET {column} = %s", nobody)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("table", ["tenants_tenant", "keys_apikey", "providers_provider"])
def test_nothing_goes_while_something_belongs_to_it(everything, table):
    refused(f"DELETE FROM {table}")


@pytest.mark.sqlite
@pytest.mark.django_db
def test_sqlite_checks_foreign_keys_on_our_connections():
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA foreign_keys")
        assert cursor.fetchone() == (1,)
        cursor.execute("PRAGMA synchronous")
        assert cursor.fetchone() == (2,)  # FULL
        cursor.execute("PRAGMA recursive_triggers")
        assert cursor.fetchone() == (1,)


@pytest.mark.django_db
def test_the_payer_of_a_key_cannot_be_deleted_but_goes_with_the_tenant(tenant, key):
    account = Account.objects.create(tenant=tenant, username="payer")
    APIKey.objects.update(account=account)
    with pytest.raises(IntegrityError):
        account.delete()
    tenant.delete()
    assert not Account.objects.exists()
    assert not APIKey.objects.exists()


@pytest.mark.django_db
def test_ids_are_there_before_the_insert():
    for model in (Tenant, Project, Account, User, Membership, APIKey):
        assert model().pk is not None
        assert model().pk != model().pk


@pytest.mark.django_db
def test_a_credential_that_was_replaced_leaves_no_ciphertext(tenant, staging):
    own = set_provider_config(
        actor=staging, tenant_id=tenant.id, provider="openai", api_key="sk-own-1"
    )
    first = credentials.current(own)
    set_provider_config(actor=staging, tenant_id=tenant.id, provider="openai", api_key="sk-own-2")
    assert first is not None
    first.refresh_from_db()
    assert bytes(first.sealed) == b""
    assert first.retired_at is not None
