"""Everything in the database of a test, to see whether anything changed."""

from typing import Any

from django.apps import apps
from django.db import connection

Contents = dict[str, list[tuple[Any, ...]]]


def contents(*without: str) -> Contents:
    """Every row of every table of our models, as the database has it, but of the tables `without`."""
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    found: Contents = {}
    with connection.cursor() as cursor:
        for table in sorted(tables - set(without)):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found[table] = sorted((_plain(row) for row in cursor.fetchall()), key=repr)
    return found


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(bytes(cell) if isinstance(cell, memoryview) else cell for cell in row)
