"""Many rows into a table at once, on both databases, at little cost to the interpreter that the relay needs as well.

PostgreSQL gets one JSON document per statement and takes it apart itself. SQLite runs in our own process, and it hands out
each row of a RETURNING separately, giving up the interpreter lock each time; under load the relay would overtake it at every
row. So there what is new is asked for only if it was not everything, which is the case of a replay.
"""

# ruff: noqa: S608 - the names put into statements are those of our own models; values are parameters.

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from django.db import connection, models

from tenants.clock import from_unix_us

#: Rows are structs whose fields are the table's columns; times are microseconds since 1970, ids are UUIDs.
Row = Any
#: The largest BIGINT. A sum stays there: the money lines tell the truth, and none must be refused for the sake of a sum.
MAX_SUM: Final = 2**63 - 1
#: SQLite's own default; a build may allow more.
_SQLITE_VARIABLES: Final = 32_766


class Table:
    """The bulk door to the table of `model`. `sums`: columns that are added to the row that is there; without, it stays.

    No sum grows above `MAX_SUM`; a row must hold no more than that itself.
    """

    def __init__(
        self,
        model: type[models.Model],
        *,
        key: Sequence[str] = (),
        sums: Sequence[str] = (),
        renewed: Sequence[str] = (),
    ) -> None:
        self.name = model._meta.db_table
        self._fields = [field for field in model._meta.concrete_fields if not field.primary_key]
        self.columns = [str(field.column) for field in self._fields]
        #: Takes every column by name; a missing or unknown one is a TypeError.
        self.row = msgspec.defstruct(
            f"{model.__name__}Row",
            [(name, Any) for name in self.columns],
            rename={name: f"c{i}" for i, name in enumerate(self.columns)},
        )
        self._key, self._sums, self._renewed = key, sums, renewed
        self._columns_of = {
            kind: [i for i, field in enumerate(self._fields) if isinstance(field, kind)]
            for kind in (models.UUIDField, models.DateTimeField)
        }

    def by_position(self, *names: str) -> Callable[..., Row]:
        """Makes a row of exactly these columns, in this order, without their names. Raises ValueError if they are others."""
        if list(names) != self.columns:
            raise ValueError(f"{self.name} has the columns {', '.join(self.columns)}")
        return self.row

    def write(self, rows: Sequence[Row]) -> None:
        """Inserts `rows` in this order; what is there already stays, or grows by the sums."""
        if not rows:
            return
        if connection.vendor == "postgresql":
            with postgres_cursor() as cursor:
                cursor.execute(_postgres_insert(self), [_document(rows)])
        else:
            self._sqlite_insert(rows)

    def insert(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Inserts `rows` (no request id twice); gives those that were not there before."""
        if not rows:
            return rows
        if connection.vendor == "postgresql":
            with postgres_cursor() as cursor:
                cursor.execute(_postgres_insert_new(self), [_document(rows), len(rows)])
                count, ids = cursor.fetchone() or (0, None)
            new = None if count == len(rows) else set(ids or ())
        else:
            new = self._sqlite_insert_new(rows)
        return rows if new is None else [row for row in rows if row.request_id in new]

    def delete(self, month: str, ids: Sequence[UUID]) -> None:
        """Deletes the rows of these calls."""
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {self.name} WHERE {_among()}", [month, id_list(ids)])

    def present(self, month: str, ids: Sequence[UUID]) -> set[UUID]:
        """Those of these calls that have a row."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT request_id FROM {self.name} WHERE {_among()}", [month, id_list(ids)]
            )
            return {as_uuid(value) for (value,) in cursor.fetchall()}

    def _conflict(self, total: str) -> str:
        """What becomes of a row that is there. `total`: the new sum, of a column {0} that is called {1}."""
        if not self._sums:
            return "DO NOTHING"
        changes = [f"{name} = {total.format(f'{self.name}.{name}', name)}" for name in self._sums]
        changes += [f"{name} = excluded.{name}" for name in self._renewed]
        return f"({', '.join(self._key)}) DO UPDATE SET {', '.join(changes)}"

    # --- SQLite -----------------------------------------------------------------------------------------------------

    def _sqlite_insert(self, rows: Sequence[Row]) -> int:
        """How many rows were inserted or changed. Past Django's cursor, whose rewriting of so many marks costs more."""
        head = f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES "
        marks = f"({', '.join('?' * len(self.columns))})"
        # A sum too large for an integer becomes a float there, which is larger than the limit and so gives way to it.
        conflict = self._conflict(f"min({{0}} + excluded.{{1}}, {MAX_SUM})")
        at_once = _SQLITE_VARIABLES // len(self.columns)
        count = 0
        for start in range(0, len(rows), at_once):
            chunk = rows[start : start + at_once]
            statement = f"{head}{', '.join([marks] * len(chunk))} ON CONFLICT {conflict}"
            with connection.wrap_database_errors:
                count += connection.connection.execute(statement, self._flat(chunk)).rowcount
        return count

    def _sqlite_insert_new(self, rows: Sequence[Row]) -> set[UUID] | None:
        """The request ids that are new, None for all. A transaction on SQLite has no other writer beside it."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT coalesce(max(id), 0) FROM {self.name}")
            (last,) = cursor.fetchone()
            if self._sqlite_insert(rows) == len(rows):
                return None
            cursor.execute(f"SELECT request_id FROM {self.name} WHERE id > %s", [last])
            return {as_uuid(value) for (value,) in cursor.fetchall()}

    def _flat(self, rows: Iterable[Row]) -> list[Any]:
        """Column by column: what is done to a cell costs a third of what it does row by row."""
        columns: list[Sequence[Any]] = list(zip(*map(msgspec.structs.astuple, rows), strict=True))
        uuids, moments = self._columns_of.values()
        for i in uuids:
            columns[i] = [None if cell is None else _hex(cell.int) for cell in columns[i]]
        for i in moments:
            columns[i] = [_sqlite_moment(cell) for cell in columns[i]]
        return list(itertools.chain.from_iterable(zip(*columns, strict=True)))


@lru_cache
def _postgres_insert(table: Table) -> str:
    types, values = [], []
    for i, field in enumerate(table._fields):
        name = f"c{i}"
        if isinstance(field, models.DateTimeField):
            types.append(f"{name} bigint")
            values.append(f"'epoch'::timestamptz + r.{name} * interval '1 microsecond'")
        elif isinstance(field, models.BinaryField):
            types.append(f"{name} text")
            values.append(f"decode(r.{name}, 'base64')")
        else:
            types.append(f"{name} {field.db_type(connection)}")
            values.append(f"r.{name}")
    conflict = table._conflict(f"least({{0}}::numeric + excluded.{{1}}, {MAX_SUM})::bigint")
    return (
        f"INSERT INTO {table.name} ({', '.join(table.columns)}) SELECT {', '.join(values)}"
        f" FROM json_to_recordset(%s::json) AS r({', '.join(types)}) ON CONFLICT {conflict}"
    )


@lru_cache
def _postgres_insert_new(table: Table) -> str:
    return (
        f"WITH new AS ({_postgres_insert(table)} RETURNING request_id) SELECT count(*),"
        " CASE WHEN count(*) < %s THEN array_agg(request_id) END FROM new"
    )


@contextlib.contextmanager
def postgres_cursor() -> Iterator[psycopg.Cursor[Any]]:
    """A cursor that sends parameters beside the statement; Django's own would quote a whole document into its text."""
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        yield cursor


def _document(rows: Sequence[Row]) -> str:
    return msgspec.json.encode(rows).decode()


def _among() -> str:
    if connection.vendor == "postgresql":
        return "month = %s AND request_id = ANY(%s::uuid[])"
    return "month = %s AND request_id IN (SELECT value FROM json_each(%s))"


def id_list(ids: Iterable[UUID]) -> str:
    """Ids as one parameter: PostgreSQL's `%s::uuid[]`, SQLite's `json_each(%s)`."""
    if connection.vendor == "postgresql":
        return f"{{{','.join(value.hex for value in ids)}}}"
    return msgspec.json.encode([value.hex for value in ids]).decode()


def as_uuid(value: UUID | str) -> UUID:
    return value if isinstance(value, UUID) else UUID(hex=value)


@lru_cache(maxsize=4096)
def _hex(number: int) -> str:
    """Most ids of a batch have been there before."""
    return f"{number:032x}"


def _sqlite_moment(unix_us: int) -> str:
    """As Django writes it: UTC without a zone, and without a fraction if that is nought."""
    seconds, micros = divmod(unix_us, 1_000_000)
    return f"{_sqlite_second(seconds)}.{micros:06d}" if micros else _sqlite_second(seconds)


@lru_cache(maxsize=1024)
def _sqlite_second(seconds: int) -> str:
    return from_unix_us(seconds * 1_000_000).replace(tzinfo=None).isoformat(" ")
