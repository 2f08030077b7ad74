"""Rows into tables, many at once; a row that the database does not take is named by its line."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby, islice
from typing import Final

from django.db import DataError, IntegrityError, transaction

from gateway.backup import lines
from gateway.backup.tables import Row, Table

_BATCH: Final = 500

#: A row with the line that it comes from.
Put = tuple[int, Table, Row]


def put_all(rows: Iterable[Put], progress: Callable[[int], object]) -> "Counter[str]":
    """Insert them in order; how many, by table. Raises `Invalid`. One transaction around it is the caller's."""
    counts: Counter[str] = Counter()
    pending = iter(rows)
    while batch := list(islice(pending, _BATCH)):
        # Only what stands together: the order is that of references.
        for _, together in groupby(batch, key=lambda put: put[1].label):
            rows_of_one = list(together)
            table = rows_of_one[0][1]
            _put(table, rows_of_one)
            counts[table.label] += len(rows_of_one)
        progress(counts.total())
    return counts


def _put(table: Table, rows: list[Put]) -> None:
    try:
        with transaction.atomic():
            _insert(table, rows)
    except (IntegrityError, DataError):
        for row in rows:
            _put_alone(table, row)


def _put_alone(table: Table, row: Put) -> None:
    try:
        with transaction.atomic():
            _insert(table, [row])
    except (IntegrityError, DataError) as refusal:
        reason = "is there already, or breaks a rule of its table"
        raise lines.fault(row[0], f"{table.label}: the row {reason}.") from refusal


def _insert(table: Table, rows: list[Put]) -> None:
    made = [table.model(**row, **table.fixed) for _, _, row in rows]
    table.model._default_manager.bulk_create(made)
