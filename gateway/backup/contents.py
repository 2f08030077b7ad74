"""A backup read through once, before anything is done with it: whether it is whole and makes sense, and what this machine can
open of it. Memory holds the ids of configuration, never the rows.
"""

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from gateway.backup import lines
from gateway.backup.lines import Backup, Line
from gateway.backup.roots import Roots
from gateway.backup.tables import TABLES, Row, Table
from tenants import keyring
from tenants.errors import Invalid
from tenants.models import AuditEvent, RootSecret
from tenants.sealing import Unreadable

#: Tables that others refer to.
_REFERRED_TO = frozenset(label for table in TABLES for label in table.references.values())


@dataclass(slots=True)
class Contents:
    """`sealed`: sealed values under roots that are shut, by table. `owners`: whose a row is, by table and id."""

    backup: Backup
    roots: Roots = field(default_factory=Roots)
    counts: Counter[str] = field(default_factory=Counter)
    sealed: Counter[str] = field(default_factory=Counter)
    owners: dict[str, dict[UUID, UUID | None]] = field(default_factory=dict)

    @property
    def unreadable(self) -> int:
        """Sealed values and wrapped secrets that nobody can open here."""
        return len(self.roots.shut) + self.sealed.total()

    @property
    def audit_rows(self) -> int:
        return self.counts[AuditEvent._meta.label_lower]

    @property
    def is_proven(self) -> bool:
        """Whether the master key vouches for the file."""
        return not self.roots.is_shut(keyring.PEPPER)

    def tenant_of(self, table: Table, row: Row) -> UUID | None:
        """Whose root its sealed values are under."""
        column = table.tenant
        found: UUID | None = row[column] if column else None
        if column in table.references and column != "tenant_id" and found is not None:
            return self.owners[table.references[column]].get(found)
        return found

    def what_is_lost(self) -> str:
        """The sentence for who has not the master key."""
        missing = [kek for kek in self.backup.head.keks if bytes.fromhex(kek) not in keyring.keks()]
        named = f" (KEK {', '.join(missing[:3])})" if missing else ""
        return (
            f"The master key of this backup is not here{named}:"
            f" {self.unreadable} sealed values cannot be opened."
        )


def read(backup: Backup) -> Contents:
    """Raises `Invalid`, which names the line, for anything that is wrong with the file."""
    contents = Contents(backup)
    for line in backup.lines():
        _look(contents, line)
    contents.counts = backup.end.tables
    _prove(contents)
    return contents


def _look(contents: Contents, line: Line) -> None:
    table, row = line.table, line.row
    if line.name:
        if contents.backup.head.tenant is None:
            raise lines.fault(
                line.number, "only a backup of one tenant mentions what is elsewhere."
            )
        contents.owners.setdefault(table.label, {})[row["id"]] = None
        return
    _check_references(contents, line)
    if table.label in _REFERRED_TO:
        known = contents.owners.setdefault(table.label, {})
        if row["id"] in known:
            raise lines.fault(line.number, f"{table.label}, id: stands there twice.")
        known[row["id"]] = contents.tenant_of(table, row)
    if table.model is RootSecret:
        _open(contents, line)
    elif table.sealed is not None and row[table.sealed.column]:
        shut = contents.roots.is_shut(keyring.TENANT, contents.tenant_of(table, row))
        contents.sealed[table.label] += shut


def _check_references(contents: Contents, line: Line) -> None:
    for column, label in line.table.references.items():
        found = line.row[column]
        if found is not None and found not in contents.owners.get(label, {}):
            raise lines.fault(
                line.number, f"{line.table.label}, {column}: names no {label} of the lines before."
            )


def _open(contents: Contents, line: Line) -> None:
    try:
        contents.roots.add(line.row)
    except Unreadable:
        raise lines.fault(
            line.number, f"{line.table.label}, wrapped: is not what the master key wrapped."
        ) from None


def _prove(contents: Contents) -> None:
    """Where the master key is at hand it must vouch for the file. A house without a key has no secret to wrap, and no backup."""
    key = contents.roots.mac_key()
    if key is None and not contents.roots.is_shut(keyring.PEPPER):
        raise Invalid.field("file", "there is no pepper in this backup, so nothing vouches for it.")
    if key is not None and not contents.backup.end.is_ours(key):
        raise Invalid.field(
            "file",
            "mac: the file is not as it was written; its digest was made anew by somebody else.",
        )
