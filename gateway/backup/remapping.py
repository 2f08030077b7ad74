"""Configuration of a backup into a house that has things of its own: every row gets a new id, references follow, and what has the
name of something that is here is either a reason to refuse or stays as it is here.

Sealed values are opened with the master key and sealed anew, for they are bound to their ids. People, the audit log, logs and
sums stay in the backup: they are the other house's. Of the money comes what new books begin with (money.py).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

from gateway.backup.contents import Contents
from gateway.backup.lines import Line
from gateway.backup.money import Money, Moved
from gateway.backup.putting import Put
from gateway.backup.tables import BY_LABEL, Part, Row, Table
from keys.models import APIKey, KeySecret
from providers.models import Provider
from tenants import keyring
from tenants.actor import Actor
from tenants.models import Tenant

#: Conflicts and remarks that are named; the others are counted.
NAMED: Final = 50
Ids = dict[str, dict[UUID, UUID]]


@dataclass(slots=True)
class Conflict:
    """A row of the backup, and that something here has its name already."""

    table: str
    name: str


@dataclass(slots=True)
class _Names:
    """Names that are taken here, read once for each table."""

    _taken: dict[str, list[dict[tuple[Any, ...], UUID]]] = field(default_factory=dict)

    def holder(self, table: Table, row: Row) -> UUID | None:
        """Who here has a name of this row's."""
        for name, taken in zip(table.names, self._of(table), strict=True):
            key = name.of(row)
            if key is not None and key in taken:
                return taken[key]
        return None

    def _of(self, table: Table) -> list[dict[tuple[Any, ...], UUID]]:
        if table.label not in self._taken:
            columns = {"id", *(c for name in table.names for c in name.columns)}
            columns |= {name.when for name in table.names if name.when}
            rows = list(table.model._default_manager.values(*sorted(columns)))
            self._taken[table.label] = [
                {key: row["id"] for row in rows if (key := name.of(row)) is not None}
                for name in table.names
            ]
        return self._taken[table.label]


@dataclass(slots=True)
class Remapping:
    """What comes of each row. `is_rehearsal`: nothing is sealed, for that could make a secret.

    `existing`: rows that stay as they are here, by table. `left_out`: rows that do not come. `without_credential`: names of
    what has a credential that cannot be opened. `touched`: what workers must read anew.
    """

    contents: Contents
    actor: Actor
    is_rehearsal: bool = False
    new: Counter[str] = field(default_factory=Counter)
    existing: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    conflicts: list[Conflict] = field(default_factory=list)
    conflict_counts: Counter[str] = field(default_factory=Counter)
    without_credential: list[str] = field(default_factory=list)
    silent_keys: int = 0
    unlinked: int = 0
    touched: list[tuple[str, UUID, UUID | None]] = field(default_factory=list)
    _ids: Ids = field(default_factory=dict)
    _kept: dict[str, set[UUID]] = field(default_factory=dict)
    _names: _Names = field(default_factory=_Names)
    _provider_names: dict[UUID, str] = field(default_factory=dict)
    _keys_that_open: set[UUID] = field(default_factory=set)

    @property
    def conflict_count(self) -> int:
        return self.conflict_counts.total()

    def rows(self) -> Iterator[Put]:
        """What is to be inserted, in order."""
        money = Money()
        number = 0
        is_our_pepper = self.contents.roots.has_pepper_of_this_house()
        for line in self.contents.backup.lines():
            number = line.number
            if line.name:
                self._find(line)
            elif line.table.part is Part.BOOKS:
                money.count(line.table, line.row)
            elif line.table.part is Part.CONFIGURATION:
                yield from self._configured(line, is_our_pepper)
            else:
                self.left_out[line.table.label] += 1
        for table, row in money.rows(Moved(self._ids, self._kept), self.actor):
            self.new[table.label] += 1
            yield number, table, row

    def _tenant_ids(self) -> dict[UUID, UUID]:
        return self._ids.get(Tenant._meta.label_lower, {})

    def _find(self, line: Line) -> None:
        """Something that is the house's: the same one, else the one of that name."""
        shared: Any = line.table.model._default_manager.filter(tenant=None)
        found = shared.filter(pk=line.row["id"], name=line.name).first()
        found = found or shared.filter(name=line.name).first()
        if found is not None:
            self._ids.setdefault(line.table.label, {})[line.row["id"]] = found.pk
            self.touched.append((line.table.kind, found.pk, None))

    def _configured(self, line: Line, is_our_pepper: bool) -> Iterator[Put]:
        table = line.table
        row = self._moved(table, line.row)
        if row is None:
            self.unlinked += 1
            self.left_out[table.label] += 1
        elif self._stays(table, line.row):
            self._keep(table, line.row, None)
        elif (holder := self._names.holder(table, row)) is not None:
            self._note_conflict(table, row)
            self._keep(table, line.row, holder)
        elif self._fits(table, line.row, row, is_our_pepper):
            self._settle(table, line.row, row)
            yield line.number, table, row
        else:
            self.left_out[table.label] += 1

    def _moved(self, table: Table, old: Row) -> Row | None:
        """The row with the ids of here; None if what it cannot do without is not here."""
        row = {**old, "id": uuid4()} if table.has_id else dict(old)
        for column, label in table.references.items():
            if old[column] is None:
                continue
            row[column] = self._ids.get(label, {}).get(old[column])
            if row[column] is None and old[column] not in self._kept.get(label, set()):
                if not table.columns[column].null:
                    return None
                self.unlinked += 1
        return row

    def _stays(self, table: Table, old: Row) -> bool:
        """A part of something that stays as it is here."""
        if not table.part_of or (table.unless and old[table.unless] is not None):
            return False
        return old[table.part_of] in self._kept.get(table.references[table.part_of], set())

    def _keep(self, table: Table, old: Row, holder: UUID | None) -> None:
        self.existing[table.label] += 1
        if table.has_id:
            self._kept.setdefault(table.label, set()).add(old["id"])
        if holder is not None:
            self._ids.setdefault(table.label, {})[old["id"]] = holder

    def _note_conflict(self, table: Table, row: Row) -> None:
        self.conflict_counts[table.label] += 1
        if len(self.conflicts) < NAMED:
            told = row.get("slug") or row.get("name") or row.get("username") or row["id"]
            self.conflicts.append(Conflict(table.label, str(told)))

    def _settle(self, table: Table, old: Row, row: Row) -> None:
        self.new[table.label] += 1
        if table.has_id:
            self._ids.setdefault(table.label, {})[old["id"]] = row["id"]
        if table.model is Provider:
            self._provider_names[row["id"]] = row["name"]
        if table.kind:
            owner = row["id"] if table.model is Tenant else row["tenant_id"]
            self.touched.append((table.kind, row["id"], owner))

    # --- what is bound to its place ---

    def _fits(self, table: Table, old: Row, row: Row, is_our_pepper: bool) -> bool:
        """Make the row one of this house, where that takes more than ids. False if it cannot be."""
        if table.model is APIKey:
            # No configuration file of this house knows of it.
            if row["source"] == APIKey.Source.CONFIG:
                row["source"] = APIKey.Source.IMPORT
            self.silent_keys += 1
        if table.model is KeySecret:
            return self._opens(old, row, is_our_pepper)
        if table.sealed is not None and old[table.sealed.column]:
            return self._sealed_anew(table, old, row)
        return True

    def _opens(self, old: Row, row: Row, is_our_pepper: bool) -> bool:
        if not is_our_pepper or KeySecret.objects.filter(fingerprint=row["fingerprint"]).exists():
            return False
        if old["key_id"] not in self._keys_that_open:
            self._keys_that_open.add(old["key_id"])
            self.silent_keys -= 1
        return True

    def _sealed_anew(self, table: Table, old: Row, row: Row) -> bool:
        sealed = table.sealed
        assert sealed is not None  # noqa: S101 - asked for by the caller
        clear = self.contents.roots.opened(sealed, old, self.contents.tenant_of(table, old))
        if clear is None:
            return self._without(table, row, sealed.column)
        if not self.is_rehearsal:
            owner = self._owner(table, old)
            row[sealed.column] = keyring.seal_for(
                owner, sealed.purpose, sealed.place(row, owner), clear.reveal()
            )
        return True

    def _without(self, table: Table, row: Row, column: str) -> bool:
        """The row without its sealed value; false if it is nothing else."""
        owner: UUID = row["provider_id"] if "provider_id" in row else row["id"]
        provider = self._provider_names.get(owner)
        self.without_credential.append(str(provider or row.get("name", "")))
        row[column] = None
        return table.columns[column].null

    def _owner(self, table: Table, old: Row) -> UUID | None:
        theirs = self.contents.tenant_of(table, old)
        return None if theirs is None else self._tenant_ids()[theirs]

    def warnings(self) -> list[str]:
        """What whoever imports should know, each as a sentence."""
        told = []
        if self.contents.unreadable:
            told.append(self.contents.what_is_lost())
        if not self.contents.is_proven:
            told.append("Nothing vouches for this file: only its own digest was checked.")
        if self.without_credential:
            names = ", ".join(self.without_credential[:NAMED])
            told.append(f"Without their credential, to be given anew: {names}.")
        if self.silent_keys:
            told.append(
                f"{self.silent_keys} keys come without their secrets, which belong to the other house,"
                " and open no door: rotate each to give it a new one."
            )
        if self.unlinked:
            told.append(f"{self.unlinked} references to things that are not here are left empty.")
        people = sum(
            count for label, count in self.left_out.items() if BY_LABEL[label].part is Part.PEOPLE
        )
        if people:
            told.append("Operators and members do not come along: they belong to the other house.")
        return told
