"""Many rows into a table at once, on both databases, at little cost to the interpreter that the relay needs as well.

Rows come in blocks: what they have in common once, and the rest column by column, so that hardly anything is done row by row in
Python. PostgreSQL gets the blocks as one JSON document and takes them apart itself. SQLite runs in our own process, so what it
costs is ours. To compile a statement costs more than to carry it out, so they come in a few fixed sizes, which the driver keeps
compiled; and to bind the cells costs as much as to insert them, so what a block has in common is bound once for many rows. Each
statement gives up the interpreter lock once. Row by row (`executemany`, RETURNING) that would be once a row, and under load the
relay would overtake at every one; so what is new is asked for only if it was not everything, which is the case of a replay.
"""

# ruff: noqa: S608 - the names put into statements are those of our own models; values are parameters.

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from django.db import connection, models

from tenants.clock import from_unix_us

#: The largest BIGINT. A sum stays there: the money lines tell the truth, and none must be refused for the sake of a sum.
MAX_SUM: Final = 2**63 - 1
#: Rows of one SQLite statement: larger ones are no cheaper for each row, and take longer to bind.
_MOST_ROWS: Final = 64
#: Texts of seconds that are remembered.
_MOST_SECONDS: Final = 1024
#: Rows of a block from which on a statement of their own is cheaper than to repeat their common cells.
_FEWEST_ALIKE: Final = 8


@dataclass(slots=True, frozen=True)
class Block:
    """Rows that have some cells in common. Times are microseconds since 1970, ids UUIDs.

    `shared`: these cells, as the table's `shared` names them. `own`: a sequence of cells for each column of the table's `own`,
    all of one length, which is at least 1.
    """

    shared: Sequence[Any]
    own: Sequence[Sequence[Any]]

    @property
    def height(self) -> int:
        return len(self.own[0])


class Column(NamedTuple):
    """`is_document`: its cells are structs, which it keeps as compact JSON, or None, which is empty text."""

    field: "models.Field[Any, Any]"
    is_document: bool


class New(NamedTuple):
    """Rows that were not there before: how many, and unless they were all, those of which request ids."""

    number: int
    ids: set[UUID] | None = None


class Table:
    """The bulk door to the table of `model`, whose columns `shared` and `own` are, the primary key left out.

    `documents` are columns of structs. `sums`: columns that are added to the row that is there; without, it stays. No sum grows
    above `MAX_SUM`; a row must hold no more than that itself. Raises ValueError for other columns than the table has.
    """

    def __init__(
        self,
        model: type[models.Model],
        *,
        shared: Sequence[str] = (),
        own: Sequence[str],
        key: Sequence[str] = (),
        sums: Sequence[str] = (),
        renewed: Sequence[str] = (),
        documents: Sequence[str] = (),
    ) -> None:
        fields = {str(it.column): it for it in model._meta.concrete_fields if not it.primary_key}
        if {*shared, *own} != set(fields) or len(shared) + len(own) != len(fields):
            raise ValueError(f"{model.__name__} has the columns {', '.join(fields)}")
        self.name = model._meta.db_table
        self.columns = (*shared, *own)
        self.shared = [Column(fields[name], name in documents) for name in shared]
        self.own = [Column(fields[name], name in documents) for name in own]
        self._key, self._sums, self._renewed = key, sums, renewed
        self.document = _document_of(self)

    def add(self, blocks: Sequence[Block]) -> None:
        """Inserts rows in this order; what is there already grows by the sums."""
        if connection.vendor == "sqlite":
            self.sqlite_insert(blocks)
        else:
            with postgres_cursor() as cursor:
                cursor.execute(_postgres_insert(self), [self.document(blocks)])

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

    def conflict(self, total: str) -> str:
        """What becomes of a row that is there. `total`: the new sum, of a column {0} that is called {1}."""
        if not self._sums:
            return "DO NOTHING"
        changes = [f"{name} = {total.format(f'{self.name}.{name}', name)}" for name in self._sums]
        changes += [f"{name} = excluded.{name}" for name in self._renewed]
        return f"({', '.join(self._key)}) DO UPDATE SET {', '.join(changes)}"

    # --- SQLite -----------------------------------------------------------------------------------------------------

    def sqlite_insert(self, blocks: Sequence[Block]) -> int:
        """How many rows were inserted or changed. Past Django's cursor, whose rewriting of so many marks costs more."""
        width, start, count = len(self.own), 0, 0
        shared_of = _sqlite_shared(self.shared, blocks)
        own = _sqlite_own(self.own, blocks)
        #: Cells of rows that too few others are like.
        loose: list[Any] = []
        with connection.wrap_database_errors:
            for block, shared in zip(blocks, shared_of, strict=True):
                alike = start + width * (block.height - block.height % _FEWEST_ALIKE)
                end = start + width * block.height
                count += self._sqlite_rows(shared, own[start:alike], width)
                for at in range(alike, end, width):
                    loose += shared
                    loose += own[at : at + width]
                start = end
            return count + self._sqlite_rows((), loose, len(self.columns))

    def _sqlite_rows(self, shared: Sequence[Any], cells: list[Any], width: int) -> int:
        """Rows of `width` cells, in as few statements as there are sizes to take."""
        count = at = 0
        while at < len(cells):
            left = (len(cells) - at) // width
            height = min(_MOST_ROWS, 1 << (left.bit_length() - 1))
            statement = _sqlite_insert(self, height, len(shared))
            end = at + height * width
            count += connection.connection.execute(statement, [*shared, *cells[at:end]]).rowcount
            at = end
        return count


#: What is to be inserted into a table, if anything.
Part = tuple[Table, Sequence[Block]]


def insert(*parts: Part) -> list[New]:
    """Inserts rows of calls, but not those that are there already; of each part what was new. On PostgreSQL one statement does it
    all: to ask costs an interpreter more than to be answered.
    """
    if connection.vendor == "sqlite":
        return [_sqlite_insert_new(*part) for part in parts]
    filled = {table: blocks for table, blocks in parts if blocks}
    new = dict(zip(filled, _postgres_insert_new(filled), strict=True))
    return [new.get(table, New(0)) for table, _ in parts]


# --- SQLite -------------------------------------------------------------------------------------------------------------


def _sqlite_insert_new(table: Table, blocks: Sequence[Block]) -> New:
    """A transaction there has no other writer beside it, so what is new has the highest numbers."""
    if not blocks:
        return New(0)
    count = table.sqlite_insert(blocks)
    if count == _height(blocks):
        return New(count)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT request_id FROM {table.name} ORDER BY id DESC LIMIT %s", [count])
        return New(count, {as_uuid(value) for (value,) in cursor.fetchall()})


@lru_cache(maxsize=256)
def _sqlite_insert(table: Table, height: int, shared: int) -> str:
    """For so many rows. The first `shared` columns of all of them are bound once, before all others."""
    common = [f"?{i + 1}" for i in range(shared)]
    marks = f"({', '.join([*common, *'?' * (len(table.columns) - shared)])})"
    # A sum too large for an integer becomes a float there, which is larger than the limit and so gives way to it.
    conflict = table.conflict(f"min({{0}} + excluded.{{1}}, {MAX_SUM})")
    return (
        f"INSERT INTO {table.name} ({', '.join(table.columns)})"
        f" VALUES {', '.join([marks] * height)} ON CONFLICT {conflict}"
    )


def _height(blocks: Iterable[Block]) -> int:
    return sum(block.height for block in blocks)


def _sqlite_shared(columns: Sequence[Column], blocks: Sequence[Block]) -> list[tuple[Any, ...]]:
    """What each block has in common."""
    if not columns:
        return [()] * len(blocks)
    cells = zip(*[block.shared for block in blocks], strict=True)
    return list(zip(*map(_sqlite_cells, columns, cells), strict=True))


def _sqlite_own(columns: Sequence[Column], blocks: Sequence[Block]) -> list[Any]:
    """All other cells, row by row."""
    parts = zip(*[block.own for block in blocks], strict=True)
    cells = [list(itertools.chain.from_iterable(part)) for part in parts]
    by_row = zip(*map(_sqlite_cells, columns, cells), strict=True)
    return list(itertools.chain.from_iterable(by_row))


def _sqlite_cells(column: Column, cells: Sequence[Any]) -> Sequence[Any]:
    """A column as Django writes it there. What is done to all its cells in one call takes half the time."""
    field = column.field
    if column.is_document:
        lines = _json.encode_lines(cells).decode().removesuffix("\n").split("\n")
        return ["" if cell is None else line for cell, line in zip(cells, lines, strict=True)]
    if isinstance(field, models.DateTimeField):
        texts = map(str, cells)
        return [(_second[text[:-6]] + text[-6:]).removesuffix(".000000") for text in texts]
    if not isinstance(field, models.UUIDField):
        return cells
    if field.null:
        return [None if cell is None else cell.hex for cell in cells]
    return _json.encode(cells).decode()[2:-2].split('","')


_json: Final = msgspec.json.Encoder(uuid_format="hex")


class _Seconds(dict[str, str]):
    """Seconds since 1970 as the beginning of a moment's text: UTC without a zone."""

    def __missing__(self, seconds: str) -> str:
        if len(self) >= _MOST_SECONDS:
            self.clear()
        moment = from_unix_us(int(seconds) * 1_000_000).replace(tzinfo=None)
        text = self[seconds] = f"{moment.isoformat(' ')}."
        return text


_second = _Seconds()


# --- PostgreSQL ---------------------------------------------------------------------------------------------------------


def _document_of(table: Table) -> Callable[[Sequence[Block]], str]:
    """How blocks become JSON: an object for each block, and one for each of its rows in `own`."""
    names = [f"s{i}" for i in range(len(table.shared))]
    block_of = msgspec.defstruct("Block", [(name, Any) for name in (*names, "own")])
    row_of = msgspec.defstruct("Row", [(f"c{i}", Any) for i in range(len(table.own))])

    def document(blocks: Sequence[Block]) -> str:
        told = [block_of(*block.shared, list(map(row_of, *block.own))) for block in blocks]
        return msgspec.json.encode(told).decode()

    return document


@lru_cache
def _postgres_insert(table: Table) -> str:
    shared = [_postgres_cell(f"s{i}", "s", column) for i, column in enumerate(table.shared)]
    own = [_postgres_cell(f"c{i}", "r", column) for i, column in enumerate(table.own)]
    conflict = table.conflict(f"least({{0}}::numeric + excluded.{{1}}, {MAX_SUM})::bigint")
    return (
        f"INSERT INTO {table.name} ({', '.join(table.columns)})"
        f" SELECT {', '.join(cell.value for cell in (*shared, *own))}"
        f" FROM json_to_recordset(%s::json) AS s({', '.join([*(it.type for it in shared), 'own json'])})"
        f" CROSS JOIN LATERAL json_to_recordset(s.own) AS r({', '.join(it.type for it in own)})"
        f" ON CONFLICT {conflict}"
    )


def _postgres_insert_new(filled: dict[Table, Sequence[Block]]) -> list[New]:
    if not filled:
        return []
    documents = [table.document(blocks) for table, blocks in filled.items()]
    heights = [_height(blocks) for blocks in filled.values()]
    with postgres_cursor() as cursor:
        cursor.execute(_postgres_insert_all(tuple(filled)), documents + heights)
        row = cursor.fetchone() or ()
    counts, ids = row[::2], row[1::2]
    return [
        New(count, None if count == height else set(its_ids or ()))
        for count, its_ids, height in zip(counts, ids, heights, strict=True)
    ]


@lru_cache
def _postgres_insert_all(tables: tuple[Table, ...]) -> str:
    inserts = [
        f"{table.name}_new AS ({_postgres_insert(table)} RETURNING request_id)" for table in tables
    ]
    told = [
        f"(SELECT count(*) FROM {table.name}_new),"
        f" (SELECT CASE WHEN count(*) < %s THEN array_agg(request_id) END FROM {table.name}_new)"
        for table in tables
    ]
    return f"WITH {', '.join(inserts)} SELECT {', '.join(told)}"


class _Cell(NamedTuple):
    """A column of a document: how it is declared, and what becomes of it in the table."""

    type: str
    value: str


def _postgres_cell(name: str, of: str, column: Column) -> _Cell:
    cell, field = f"{of}.{name}", column.field
    if column.is_document:
        return _Cell(f"{name} json", f"coalesce({cell}::text, '')")
    if isinstance(field, models.DateTimeField):
        return _Cell(f"{name} bigint", f"'epoch'::timestamptz + {cell} * interval '1 microsecond'")
    if isinstance(field, models.BinaryField):
        return _Cell(f"{name} text", f"decode({cell}, 'base64')")
    return _Cell(f"{name} {field.db_type(connection)}", cell)


@contextlib.contextmanager
def postgres_cursor() -> Iterator[psycopg.Cursor[Any]]:
    """A cursor that sends parameters beside the statement; Django's own would quote a whole document into its text."""
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        yield cursor


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
