"""The root secrets of a backup: which of them this machine's KEKs open, and what was sealed under them."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from gateway.backup.tables import Row, Sealed
from tenants import keyring, sealing
from tenants.keyring import Root
from tenants.models import RootSecret
from tenants.sealing import SealingError, Secret

#: What the MAC of a backup is made with, under the pepper's root.
MAC_USE: Final = "backup"


@dataclass(slots=True)
class Roots:
    """`shut`: ids of those that no KEK here opens."""

    shut: set[UUID] = field(default_factory=set)
    total: int = 0
    _open: dict[tuple[str, UUID | None, int], Root] = field(default_factory=dict)
    _newest: Counter[tuple[str, UUID | None]] = field(default_factory=Counter)
    _shut_owners: set[tuple[str, UUID | None]] = field(default_factory=set)

    def add(self, row: Row) -> None:
        """Raises `sealing.Unreadable` for one that names a KEK that is here, and is not what that KEK wrapped."""
        self.total += 1
        owner = (row["purpose"], row["tenant_id"])
        self._newest[owner] = max(self._newest[owner], row["version"])
        try:
            self._open[*owner, row["version"]] = keyring.unwrap(RootSecret(**row))
        except sealing.UnknownKey:
            self.shut.add(row["id"])
            self._shut_owners.add(owner)

    def newest(self, purpose: str, tenant_id: UUID | None = None) -> Root | None:
        """The one in use; None if it is not in the backup, or shut."""
        owner = (purpose, tenant_id)
        return self._open.get((*owner, self._newest[owner]))

    def is_shut(self, purpose: str, tenant_id: UUID | None = None) -> bool:
        return (purpose, tenant_id) in self._shut_owners

    def opened(self, sealed: Sealed, row: Row, tenant_id: UUID | None) -> Secret | None:
        """The clear value, or None if it does not open."""
        root = self.newest(keyring.TENANT, tenant_id)
        if root is None:
            return None
        try:
            place = sealed.place(row, tenant_id)
            return sealing.unseal(root.key(sealed.purpose), place, row[sealed.column])
        except SealingError:
            return None

    def mac_key(self) -> Secret | None:
        pepper = self.newest(keyring.PEPPER)
        return None if pepper is None else pepper.key(MAC_USE)

    def has_pepper_of_this_house(self) -> bool:
        """Whether what opened a door there opens one here. Raises nothing: a house whose pepper is shut has no doors."""
        theirs = self.newest(keyring.PEPPER)
        try:
            ours = keyring.KEYRING.root(keyring.PEPPER, make=False)
        except SealingError:
            return False
        return theirs is not None and ours.secret == theirs.secret and ours.salt == theirs.salt


def wrapped_by(wrapped: bytes) -> str:
    """The id of the KEK that wrapped a root, in hex."""
    return sealing.kek_id_of(wrapped).hex()
