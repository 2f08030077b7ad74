"""The audit table grows and does nothing else, whatever statement is tried and by whichever connection."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from gateway import checks
from gateway.checks import State
from tenants import audit, audit_triggers
from tenants.actor import system_actor
from tenants.audit import Entry, Target
from tenants.models import AuditEvent
from tests.support.contents import contents

TABLE = "tenants_auditevent"
COLUMNS = [str(field.column) for field in AuditEvent._meta.concrete_fields]


@pytest.fixture
def row(transactional_db: None) -> AuditEvent:
    """A committed row, so that other connections see it."""
    with transaction.atomic():
        return audit.write(Entry(system_actor("staging"), "x", Target("x", "x")))


def values_of(row: AuditEvent, **changes: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {TABLE} WHERE seq = %s", [row.seq])
        names = [column[0] for column in cursor.description]
        found = dict(zip(names, cursor.fetchone(), strict=True))
    return [(found | changes)[name] for name in COLUMNS]


@contextmanager
def nothing_changes() -> Iterator[None]:
    before = contents()
    with pytest.raises((DatabaseError, sqlite3.DatabaseError), match="append-only"):
        yield
    assert contents() == before


INTO = f"INTO {TABLE} ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"
ON_BOTH = [
    f"UPDATE {TABLE} SET action = 'y'",
    f"UPDATE {TABLE} SET action = action",
    f"UPDATE {TABLE} SET seq = seq + 1",
    f"UPDATE {TABLE} SET details_salt = details_salt WHERE seq = 1",
    f"DELETE FROM {TABLE}",
    f"DELETE FROM {TABLE} WHERE seq = 1",
]
ON_SQLITE = [
    f"UPDATE OR REPLACE {TABLE} SET action = 'y'",
    f"UPDATE OR IGNORE {TABLE} SET action = 'y'",
    f"UPDATE {TABLE} SET rowid = rowid + 1",
]
ON_POSTGRES = [
    f"TRUNCATE {TABLE}",
    f"TRUNCATE {TABLE} RESTART IDENTITY CASCADE",
    f"MERGE INTO {TABLE} t USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    f"MERGE INTO {TABLE} t USING (SELECT 1) s ON true WHEN MATCHED THEN UPDATE SET action = 'y'",
    f"WITH gone AS (DELETE FROM {TABLE} RETURNING *) SELECT * FROM gone",
]


def run(statement: str, parameters: list[Any] | None = None) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)


@pytest.mark.parametrize("statement", ON_BOTH)
def test_a_row_is_neither_changed_nor_deleted(row, statement):
    with nothing_changes():
        run(statement)


@pytest.mark.sqlite
@pytest.mark.parametrize("statement", ON_SQLITE)
def test_a_row_is_neither_changed_nor_deleted_in_the_ways_of_sqlite(row, statement):
    with nothing_changes():
        run(statement)


@pytest.mark.postgres
@pytest.mark.parametrize("statement", ON_POSTGRES)
def test_a_row_is_neither_changed_nor_deleted_in_the_ways_of_postgresql(row, statement):
    with nothing_changes():
        run(statement)


@pytest.mark.postgres
@pytest.mark.parametrize("statement", [*ON_BOTH, *ON_POSTGRES])
def test_a_session_that_plays_replica_does_not_get_past_it(row, statement):
    with nothing_changes(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement)


CLASHES: list[dict[str, Any]] = [
    {"action": "y"},  # both the id and the place in the chain
    {"id": uuid4().hex, "action": "y"},
    {"seq": 2, "action": "y"},
]


@pytest.mark.sqlite
@pytest.mark.parametrize("verb", ["INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE", "INSERT"])
@pytest.mark.parametrize("clash", CLASHES)
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_an_insert_does_not_replace_a_row(row, verb, clash, recursive):
    """By a connection of its own, as any program could open: without `recursive_triggers` no DELETE trigger fires."""
    statement = f"{verb} {INTO.replace('%s', '?')}"
    values = values_of(row, **clash)
    with (
        nothing_changes(),
        closing(sqlite3.connect(connection.settings_dict["NAME"])) as other,
        other,
    ):
        other.execute(f"PRAGMA recursive_triggers = {recursive}")
        other.execute(statement, values)


@pytest.mark.sqlite
@pytest.mark.parametrize("name", ["rowid", "oid", "_rowid_"])
def test_an_insert_does_not_replace_a_row_by_its_hidden_number(row, name):
    values = values_of(row, id=uuid4().hex, seq=2, action="y")
    statement = INTO.replace("%s", "?").replace("(", f"({name}, ", 1)
    statement = f"INSERT OR REPLACE {statement.replace('VALUES (', 'VALUES (?, ')}"
    with (
        nothing_changes(),
        closing(sqlite3.connect(connection.settings_dict["NAME"])) as other,
        other,
    ):
        (number,) = other.execute(f"SELECT rowid FROM {TABLE}").fetchone()
        other.execute(statement, [number, *values])


@pytest.mark.parametrize("target", ["(id)", "(scope, seq)"])
def test_an_upsert_does_not_change_a_row(row, target):
    clash = {"action": "y"} if target == "(id)" else {"id": uuid4().hex, "action": "y"}
    statement = f"INSERT {INTO} ON CONFLICT {target} DO UPDATE SET action = 'y'"
    with nothing_changes():
        run(statement, _jsonable(values_of(row, **clash)))


def _jsonable(values: list[Any]) -> list[Any]:
    return ["{}" if isinstance(value, dict) else value for value in values]


@pytest.mark.django_db
def test_a_row_cannot_be_changed_or_deleted_through_its_model_either():
    with transaction.atomic():
        row = audit.write(Entry(system_actor("staging"), "x", Target("x", "x")))
    with pytest.raises(TypeError, match="not changed"):
        row.save()
    with pytest.raises(TypeError, match="not deleted"):
        row.delete()
    for attempt in (
        AuditEvent.objects.all().delete,
        lambda: AuditEvent.objects.update(action="y"),
        lambda: AuditEvent.objects.bulk_update([row], ["action"]),
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attempt()


@pytest.mark.django_db
def test_rows_are_added_freely():
    for seq in (5, 1, 3):
        AuditEvent.objects.create(
            scope="free",
            seq=seq,
            created_at=datetime.now(UTC),
            duration_ms=0,
            outcome="ok",
            source="system",
            **dict.fromkeys(("details_salt", "details_digest", "prev_hash", "row_hash"), b"\0"),
            **dict.fromkeys(
                ("actor_type", "actor_id", "actor_label", "method", "action", "request_id"), "x"
            ),
        )
    assert AuditEvent.objects.filter(scope="free").count() == 3


# --- gone triggers ----------------------------------------------------------------------------------------------------


def trigger_names() -> list[str]:
    names = {"audit_no_update", "audit_no_delete"}
    last = "audit_no_replace" if connection.vendor == "sqlite" else "audit_no_truncate"
    return sorted({*names, last})


def disarm(name: str) -> list[str]:
    """Leave a trigger of that name which does nothing."""
    if connection.vendor == "sqlite":
        event = {"audit_no_update": "UPDATE", "audit_no_delete": "DELETE"}.get(name, "INSERT")
        return [
            f"DROP TRIGGER {name}",
            f"CREATE TRIGGER {name} BEFORE {event} ON {TABLE} BEGIN SELECT 1; END",
        ]
    return [f"ALTER TABLE {TABLE} DISABLE TRIGGER {name}"]


def meddle(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.django_db
def test_a_trigger_that_is_gone_or_does_nothing_is_missing_and_put_back():
    assert audit_triggers.missing(connection) == []
    for name in trigger_names():
        on_table = "" if connection.vendor == "sqlite" else f" ON {TABLE}"
        for statements in ([f"DROP TRIGGER {name}{on_table}"], disarm(name)):
            meddle(*statements)
            assert audit_triggers.missing(connection) == [name]
            audit_triggers.install(connection)
            assert audit_triggers.missing(connection) == []
    audit_triggers.remove(connection)
    assert audit_triggers.missing(connection) == trigger_names()
    audit_triggers.install(connection)


ANEW = "CREATE OR REPLACE TRIGGER audit_no_update"
REFUSE = "EXECUTE FUNCTION gatehouse_audit_append_only()"


@pytest.mark.postgres
@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        f"ALTER TABLE {TABLE} ENABLE TRIGGER audit_no_update",
        f"ALTER TABLE {TABLE} ENABLE REPLICA TRIGGER audit_no_update",
        f"{ANEW} BEFORE UPDATE ON {TABLE} FOR EACH ROW WHEN (false) {REFUSE}",
        f"{ANEW} BEFORE UPDATE OF seq ON {TABLE} FOR EACH ROW {REFUSE}",
        f"{ANEW} AFTER UPDATE ON {TABLE} FOR EACH ROW {REFUSE}",
    ],
)
def test_a_trigger_that_is_not_always_there_is_missing(statement):
    meddle(statement)
    assert "audit_no_update" in audit_triggers.missing(connection)
    audit_triggers.install(connection)
    assert audit_triggers.missing(connection) == []


@pytest.mark.postgres
@pytest.mark.django_db
def test_a_function_that_refuses_nothing_is_missed_and_put_back():
    meddle(
        "CREATE OR REPLACE FUNCTION gatehouse_audit_append_only() RETURNS trigger"
        " LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
    )
    assert audit_triggers.missing(connection) == trigger_names()
    audit_triggers.install(connection)
    assert audit_triggers.missing(connection) == []


@pytest.mark.sqlite
def test_triggers_that_a_rebuilt_table_lost_come_back_with_migrate(transactional_db):
    """What Django does on SQLite for most changes of a column: a new table, and the old one dropped."""
    with connection.schema_editor() as editor:
        editor._remake_table(AuditEvent)  # type: ignore[attr-defined]
    assert audit_triggers.missing(connection) == trigger_names()
    call_command("migrate", verbosity=0)
    assert audit_triggers.missing(connection) == []


def test_migrate_puts_triggers_back(transactional_db):
    audit_triggers.remove(connection)
    call_command("migrate", verbosity=0)
    assert audit_triggers.missing(connection) == []


def test_readiness_and_doctor_say_what_is_missing(transactional_db, client, capsys):
    audit_triggers.remove(connection)
    try:
        checks.WATCH.forget()
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == ["triggers"]
        (found,) = (
            it for it in checks.Watch().findings(checks.FOR_DOCTOR) if it.name == "triggers"
        )
        assert found.state is State.FAILED
        assert found.details["missing"] == trigger_names()
    finally:
        audit_triggers.install(connection)
        checks.WATCH.forget()
    assert client.get("/readyz").status_code == 200
