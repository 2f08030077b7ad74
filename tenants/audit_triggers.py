"""Triggers that let the audit table grow and nothing else, on both databases.

On SQLite a third trigger is needed: `INSERT OR REPLACE` deletes without firing DELETE triggers unless `recursive_triggers`
is on, which any connection may leave off. A later migration that rebuilds the table drops SQLite's triggers silently, so
they are put back after every migrate, and `missing` lets readiness and `doctor` say when they are not there, or empty.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db.backends.base.base import BaseDatabaseWrapper

_TABLE = "tenants_auditevent"
_DELETION = "audit_no_delete"
_REFUSAL = "The audit log is append-only."

_SQLITE = {
    "audit_no_update": f"BEFORE UPDATE ON {_TABLE} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    "audit_no_delete": f"BEFORE DELETE ON {_TABLE} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    "audit_no_replace": (
        f"BEFORE INSERT ON {_TABLE} WHEN EXISTS (SELECT 1 FROM {_TABLE} WHERE id = NEW.id"
        # A statement may name the hidden row number too, and would then replace the row that has it.
        f" OR rowid = NEW.rowid OR (scope = NEW.scope AND seq = NEW.seq)) BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    ),
}

_POSTGRES_BODY = f" BEGIN RAISE EXCEPTION '{_REFUSAL}'; END "
_POSTGRES_FUNCTION = (
    "CREATE OR REPLACE FUNCTION gatehouse_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS"
    f" $${_POSTGRES_BODY}$$"
)
_POSTGRES = {
    "audit_no_update": f"BEFORE UPDATE ON {_TABLE} FOR EACH ROW",
    "audit_no_delete": f"BEFORE DELETE ON {_TABLE} FOR EACH ROW",
    "audit_no_truncate": f"BEFORE TRUNCATE ON {_TABLE} FOR EACH STATEMENT",
}


def install(connection: BaseDatabaseWrapper) -> None:
    """Put back what is missing or was changed. Does nothing while the table itself is not there yet."""
    if _TABLE not in connection.introspection.table_names():
        return
    absent = missing(connection)
    with connection.cursor() as cursor:
        if absent and connection.vendor == "postgresql":
            cursor.execute(_POSTGRES_FUNCTION)
        for name in absent:
            if connection.vendor == "sqlite":
                cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
                cursor.execute(_sqlite_statement(name))
                continue
            cursor.execute(f"DROP TRIGGER IF EXISTS {name} ON {_TABLE}")
            cursor.execute(
                f"CREATE TRIGGER {name} {_POSTGRES[name]} EXECUTE FUNCTION gatehouse_audit_append_only()"
            )
            # ALWAYS: a session that plays replica does not get past it either.
            cursor.execute(f"ALTER TABLE {_TABLE} ENABLE ALWAYS TRIGGER {name}")


def _sqlite_statement(name: str) -> str:
    return f"CREATE TRIGGER {name} {_SQLITE[name]}"


def remove(connection: BaseDatabaseWrapper) -> None:
    """Take the triggers away. The product never calls this; emptying a test database does."""
    with connection.cursor() as cursor:
        for name in _expected(connection):
            on_table = "" if connection.vendor == "sqlite" else f" ON {_TABLE}"
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}{on_table}")


@contextmanager
def deletion_allowed(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """For what is pruned (tenants/audit_prune.py), within one transaction: whatever ends it, the trigger is there afterwards, and
    no other connection ever sees the table without. Raises RuntimeError outside of a transaction.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("The trigger is lifted inside the transaction of what is pruned.")
    is_sqlite = connection.vendor == "sqlite"
    alter = f"ALTER TABLE {_TABLE}"
    lift = f"DROP TRIGGER {_DELETION}" if is_sqlite else f"{alter} DISABLE TRIGGER {_DELETION}"
    put_back = (
        _sqlite_statement(_DELETION) if is_sqlite else f"{alter} ENABLE ALWAYS TRIGGER {_DELETION}"
    )
    with connection.cursor() as cursor:
        cursor.execute(lift)
        # No `finally`: what fails in here rolls back, and then the trigger was never lifted.
        yield
        cursor.execute(put_back)
    if missing(connection):
        raise RuntimeError("The triggers of the audit log are not what they should be.")


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    """Names of the triggers that should be there, enabled and as we make them, and are not."""
    find = _present_on_sqlite if connection.vendor == "sqlite" else _present_on_postgres
    return sorted(set(_expected(connection)) - find(connection))


def _present_on_sqlite(connection: BaseDatabaseWrapper) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{_TABLE}'"
        )
        return {
            name
            for name, statement in cursor.fetchall()
            if name in _SQLITE and statement == _sqlite_statement(name)
        }


def _present_on_postgres(connection: BaseDatabaseWrapper) -> set[str]:
    """The definition is compared without its table: how that is spelled depends on the search path."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.tgname, pg_get_triggerdef(t.oid, true) FROM pg_trigger t"
            " JOIN pg_proc p ON p.oid = t.tgfoid"
            f" WHERE NOT t.tgisinternal AND t.tgenabled = 'A' AND t.tgrelid = to_regclass('{_TABLE}')"
            " AND p.prosrc = %s",
            [_POSTGRES_BODY],
        )
        return {
            name
            for name, definition in cursor.fetchall()
            if name in _POSTGRES and _shape(definition) == _shape(_POSTGRES[name])
        }


def _shape(definition: str) -> tuple[str, str]:
    """Event and level of a trigger: what stands before ` ON ` and between the table and `EXECUTE`."""
    before, _, after = definition.partition(" ON ")
    event = before[before.index("BEFORE") :] if "BEFORE" in before else before
    return event, after.partition(" ")[2].partition(" EXECUTE ")[0]


def _expected(connection: BaseDatabaseWrapper) -> dict[str, str]:
    return _SQLITE if connection.vendor == "sqlite" else _POSTGRES
