"""Rows out of another gateway's database, SQLite or PostgreSQL. Read only, bounded in rows and in time."""

# ruff: noqa: S608 - the names of tables stand in this package; values are parameters.

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from gateway.imports.files import MAX_ROWS, Row
from tenants.errors import Invalid

_CONNECT_SECONDS: Final = 10
_STATEMENT_MS: Final = 60_000
_READ_ONLY: Final = f"-c statement_timeout={_STATEMENT_MS} -c default_transaction_read_only=on"

Tables = dict[str, list[Row]]


def is_address(text: str) -> bool:
    return text.startswith(("sqlite://", "postgres://", "postgresql://"))


def read_tables(address: str, wanted: Sequence[str], what: str) -> Tables:
    """All rows of those of these tables that are there. Raises `Invalid`, never with the database's own words: an address has a
    password in it.
    """
    try:
        if address.startswith("sqlite://"):
            return _sqlite(address, wanted, what)
        return _postgres(address, wanted, what)
    except (sqlite3.Error, psycopg.Error, ValueError) as fault:
        raise Invalid.field(
            what, f"the database cannot be read ({type(fault).__name__})."
        ) from None


def _sqlite(address: str, wanted: Sequence[str], what: str) -> Tables:
    path = Path(address.removeprefix("sqlite://").removeprefix("/"))
    if not path.is_file():
        raise Invalid.field(what, f"there is no file {str(path)[:256]}.")
    # `sqlite:///name` is relative and `sqlite:////name` is not, as everywhere.
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_CONNECT_SECONDS)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        here = {row["name"] for row in found}
        return {
            name: _bounded(
                name,
                [
                    dict(row)
                    for row in connection.execute(
                        f'SELECT * FROM "{name}" ORDER BY rowid LIMIT {MAX_ROWS + 1}'
                    )
                ],
                what,
            )
            for name in wanted
            if name in here
        }


def _postgres(address: str, wanted: Sequence[str], what: str) -> Tables:
    with psycopg.connect(
        address, connect_timeout=_CONNECT_SECONDS, options=_READ_ONLY, row_factory=dict_row
    ) as connection:
        found = connection.execute(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = ANY (current_schemas(false)) AND table_name = ANY (%s)",
            [list(wanted)],
        )
        here = {row["table_name"] for row in found}
        return {
            name: _bounded(
                name,
                connection.execute(
                    f'SELECT * FROM "{name}" ORDER BY 1 LIMIT {MAX_ROWS + 1}'.encode()
                ).fetchall(),
                what,
            )
            for name in wanted
            if name in here
        }


def _bounded(name: str, rows: Sequence[Mapping[str, Any]], what: str) -> list[Row]:
    if len(rows) > MAX_ROWS:
        raise Invalid.field(what, f"the table {name} has more than {MAX_ROWS} rows.")
    return [Row(f"{name}, row {number}", row) for number, row in enumerate(rows, 1)]
