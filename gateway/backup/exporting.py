"""Writing a backup: every table as it stood at one moment, a page of rows in memory at a time. Nobody waits for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final
from uuid import UUID

from django.db.models import Model, QuerySet

from gateway.backup import roots
from gateway.backup.lines import End, Writer
from gateway.backup.tables import BY_LABEL, TABLES, Part, Row, Table
from tenants import keyring
from tenants.models import RootSecret
from tenants.moments import one_moment

_PAGE: Final = 2_000
_HOUSE: Final = frozenset(part for part in Part if part is not Part.LOGS)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the backup is to hold: everything of the house, or what belongs to one tenant. Logs: calls and their money lines."""

    tenant_id: UUID | None = None
    with_logs: bool = False

    def tables(self) -> list[Table]:
        if self.tenant_id is not None:
            return [table for table in TABLES if table.of_tenant is not None]
        return [table for table in TABLES if self.with_logs or table.part in _HOUSE]

    def rows(self, table: Table) -> "QuerySet[Any]":
        rows: QuerySet[Any] = table.model._default_manager.all()
        if self.tenant_id is not None and table.of_tenant is not None:
            rows = rows.filter(table.of_tenant(self.tenant_id))
        return rows.order_by("pk")


def write(file: IO[bytes], wish: Wish, progress: Callable[[int], object]) -> End:
    """`progress` hears how many rows are written, after each page. Raises `SealingError` where the KEK is not the house's."""
    # Made here if nobody has called yet: what is read below must not write.
    key = keyring.KEYRING.root(keyring.PEPPER).key(roots.MAC_USE)
    writer = Writer(file, key)
    with one_moment():
        writer.head(_keks(wish), wish.tenant_id, wish.with_logs)
        neighbours = _Neighbours(writer) if wish.tenant_id is not None else None
        for table in wish.tables():
            for row in _rows(wish, table):
                if neighbours is not None:
                    neighbours.meet(table, row)
                writer.row(table, row)
                if writer.written.rows % _PAGE == 0:
                    progress(writer.written.rows)
        return writer.end()


def _rows(wish: Wish, table: Table) -> Iterator[Row]:
    names = list(table.columns)
    for found in wish.rows(table).values_list(*names).iterator(_PAGE):
        yield dict(zip(names, found, strict=True))


def _keks(wish: Wish) -> list[str]:
    wrapped = wish.rows(BY_LABEL[RootSecret._meta.label_lower]).values_list("wrapped", flat=True)
    return sorted({roots.wrapped_by(bytes(each)) for each in wrapped.iterator(_PAGE)})


@dataclass(slots=True)
class _Neighbours:
    """What rows of a tenant refer to and is the house's: mentioned by its name, once, before the row."""

    writer: Writer
    known: dict[str, set[UUID]] = field(default_factory=dict)

    def meet(self, table: Table, row: Row) -> None:
        for column, label in table.references.items():
            found = row[column]
            if found is not None and found not in self.known.setdefault(label, set()):
                self.known[label].add(found)
                self.writer.mention(BY_LABEL[label], found, _name(BY_LABEL[label].model, found))
        if table.has_id:
            self.known.setdefault(table.label, set()).add(row["id"])


def _name(model: type[Model], row_id: UUID) -> str:
    return str(model._default_manager.get(pk=row_id))
