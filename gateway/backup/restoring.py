"""A whole backup into an empty database, exactly as it was: ids, sealed values, chains.

What cannot be opened here does not come as it was: a secret under a KEK that nobody has would only keep its owner from getting a
new one, and a chain whose key is lost could neither be checked nor gone on with.
"""

from collections import Counter
from collections.abc import Iterator

from gateway.backup.contents import Contents
from gateway.backup.putting import Put
from gateway.backup.tables import Part, Row, Table
from keys.models import APIKey
from tenants import keyring
from tenants.models import RootSecret, User


class Restoring:
    """`left_out`: rows that do not come, by table."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.left_out: Counter[str] = Counter()

    def rows(self) -> Iterator[Put]:
        """What is to be inserted, in order."""
        for line in self._contents.backup.lines():
            if self._comes(line.table, line.row):
                yield line.number, line.table, line.row
            else:
                self.left_out[line.table.label] += 1

    def _comes(self, table: Table, row: Row) -> bool:
        roots = self._contents.roots
        if table.model is RootSecret:
            return row["id"] not in roots.shut
        if table.part is Part.AUDIT:
            return roots.newest(keyring.AUDIT) is not None
        if table.peppered:
            return roots.newest(keyring.PEPPER) is not None
        return True


def warnings(contents: Contents) -> list[str]:
    """What whoever restores should know, each as a sentence."""
    told = []
    if contents.unreadable:
        told.append(contents.what_is_lost())
    if not contents.is_proven:
        keys = contents.counts[APIKey._meta.label_lower]
        told += [
            "Nothing vouches for this file: only its own digest was checked.",
            f"{keys} keys come without their secrets and open no door: rotate each to give it a new one.",
        ]
    if contents.roots.newest(keyring.AUDIT) is None and contents.audit_rows:
        told.append(
            f"{contents.audit_rows} audit rows stay in the backup: without their key the chains cannot be checked."
        )
    if not contents.counts[User._meta.label_lower]:
        told.append(
            "There is no operator in this backup: make one with `manage.py operator create`."
        )
    return told
