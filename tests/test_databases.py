"""The ground that database tests stand on: a real file or server, and an audit table that only a test's end can empty."""

from datetime import UTC, datetime

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.utils import DatabaseError

from tenants import audit_triggers
from tenants.models import AuditEvent
from tests.support import environment

BYTES = b"\0" * 32


def an_audit_row(seq: int) -> AuditEvent:
    return AuditEvent.objects.create(
        scope="platform",
        seq=seq,
        created_at=datetime.now(UTC),
        duration_ms=1,
        **dict.fromkeys(
            ("actor_type", "actor_id", "actor_label", "method", "action", "request_id"), "x"
        ),
        **dict.fromkeys(("target_kind", "target_id", "target_label"), "x"),
        outcome="ok",
        source="system",
        details_salt=BYTES[:16],
        details_digest=BYTES,
        prev_hash=BYTES,
        row_hash=BYTES,
    )


@pytest.mark.django_db
def test_the_database_is_the_one_this_run_is_for():
    assert (
        connection.vendor == {"sqlite": "sqlite", "postgres": "postgresql"}[environment.database()]
    )
    assert environment.worker() in str(connection.settings_dict["NAME"])


@pytest.mark.sqlite
@pytest.mark.django_db
def test_sqlite_is_a_file_in_wal_mode():
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)
        cursor.execute("PRAGMA database_list")
        assert cursor.fetchone()[2] == environment.database_name()


@pytest.mark.parametrize("round_number", [1, 2])
@pytest.mark.django_db(transaction=True)
def test_a_test_with_real_transactions_leaves_nothing_and_the_triggers_stay(round_number: int):
    assert AuditEvent.objects.count() == 0
    an_audit_row(1)
    assert audit_triggers.missing(connection) == []


@pytest.mark.django_db(transaction=True)
def test_flush_empties_the_audit_table_and_puts_the_triggers_back():
    an_audit_row(1)
    call_command("flush", interactive=False, verbosity=0)
    assert AuditEvent.objects.count() == 0
    row = an_audit_row(1)
    assert audit_triggers.missing(connection) == []
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        AuditEvent.objects.filter(pk=row.pk).delete()
