"""Root secrets by purpose, unwrapped with the KEK, and the keys derived from them."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Q

from tenants import sealing
from tenants.models import RootSecret
from tenants.sealing import KEY_BYTES, Place, Secret

_SALT_BYTES = 32
_CACHED_ROOTS = 10_000

TENANT = "tenant"
PEPPER = "pepper"
AUDIT = "audit"
SIGN_IN = "sign-in"
PLATFORM_PURPOSES = (PEPPER, AUDIT, SIGN_IN)

NO_TENANT = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Root:
    """An unwrapped root secret: what keys are derived from. `id`: its row's."""

    id: UUID
    version: int
    salt: bytes
    secret: Secret

    def key(self, purpose: str) -> Secret:
        return sealing.derive(self.secret, self.salt, purpose)


def keks() -> dict[bytes, Secret]:
    """Every KEK we were given, by its id."""
    return {sealing.kek_id(kek): kek for kek in settings.KEK}


def _label(purpose: str, tenant_id: UUID | None, version: int) -> str:
    return f"{purpose}/{tenant_id or NO_TENANT}/{version}"


def _make(purpose: str, tenant_id: UUID | None) -> RootSecret:
    """The row of a new root, whoever was first to insert it."""
    wrapped = sealing.wrap(
        settings.KEK[0],
        _label(purpose, tenant_id, 1),
        Secret(secrets.token_bytes(KEY_BYTES)),
    )
    RootSecret.objects.bulk_create(
        [
            RootSecret(
                purpose=purpose,
                tenant_id=tenant_id,
                salt=secrets.token_bytes(_SALT_BYTES),
                wrapped=wrapped,
            )
        ],
        ignore_conflicts=True,
    )
    return RootSecret.objects.filter(Q(tenant=tenant_id), purpose=purpose).latest("version")


def _newest(purpose: str, tenant_id: UUID | None) -> RootSecret | None:
    rows = RootSecret.objects.filter(Q(tenant=tenant_id), purpose=purpose)
    return rows.order_by("-version").first()


def unwrap(row: RootSecret) -> Root:
    """Raises `sealing.UnknownKey` when the row was wrapped by a KEK we do not have, `Unreadable` when it was changed."""
    label = _label(row.purpose, row.tenant_id, row.version)
    root = sealing.unwrap(keks(), label, bytes(row.wrapped))
    return Root(row.id, row.version, bytes(row.salt), root)


def once_committed(remember: Callable[[], None]) -> None:
    """Only what was committed is remembered: a root made in a transaction that rolls back is nobody's."""
    transaction.on_commit(remember)


class Keyring:
    """Roots by (purpose, tenant), read once. Bounded; `forget` is for the tests and for rotation."""

    def __init__(self) -> None:
        self._roots: OrderedDict[tuple[str, UUID | None], Root] = OrderedDict()
        self._lock = threading.Lock()

    def root(
        self,
        purpose: str,
        tenant_id: UUID | None = None,
        *,
        make: bool = True,
        certain: bool = False,
    ) -> Root:
        """The newest root of a purpose; if there is none yet it is made, or without `make` an `UnknownKey`. `certain`: what is
        remembered is compared with the tables first, for a restored backup may have brought other roots.
        """
        name = (purpose, tenant_id)
        remembered = self._remembered(name)
        if remembered is not None and not certain:
            return remembered
        row = _newest(purpose, tenant_id)
        if row is not None and remembered is not None and row.id == remembered.id:
            return remembered
        if row is None:
            if not make:
                raise sealing.UnknownKey("There is no such secret.")
            row = _make(purpose, tenant_id)
        root = unwrap(row)
        once_committed(lambda: self._remember(name, root))
        return root

    def _remembered(self, name: tuple[str, UUID | None]) -> Root | None:
        with self._lock:
            if name in self._roots:
                self._roots.move_to_end(name)
            return self._roots.get(name)

    def _remember(self, name: tuple[str, UUID | None], root: Root) -> None:
        with self._lock:
            self._roots[name] = root
            while len(self._roots) > _CACHED_ROOTS:
                self._roots.popitem(last=False)

    def forget(self) -> None:
        with self._lock:
            self._roots.clear()


KEYRING = Keyring()


def tenant_key(tenant_id: UUID | None, purpose: str) -> tuple[int, Secret]:
    """(version, key) for one purpose of a tenant; for shared things, of the platform's own root."""
    root = KEYRING.root(TENANT, tenant_id)
    return root.version, root.key(purpose)


def seal_for(tenant_id: UUID | None, purpose: str, place: Place, plaintext: bytes) -> bytes:
    """One sealed column value."""
    version, key = tenant_key(tenant_id, purpose)
    return sealing.seal(key, version, place, plaintext)


def unseal_for(tenant_id: UUID | None, purpose: str, place: Place, record: bytes) -> Secret:
    """The clear text, or a `SealingError`."""
    root = KEYRING.root(TENANT, tenant_id, make=False)
    if sealing.key_version_of(record) != root.version:
        raise sealing.UnknownKey("That version of the tenant's secret is not here.")
    return sealing.unseal(root.key(purpose), place, record)


def platform_key(purpose: str, use: str, *, certain: bool = False) -> Secret:
    return KEYRING.root(purpose, certain=certain).key(use)


def fault() -> str | None:
    """Why the keyring cannot be used, in a sentence, or None: every platform root is unwrapped afresh."""
    try:
        for purpose in PLATFORM_PURPOSES:
            row = _newest(purpose, None)
            if row is not None:
                unwrap(row)
    except sealing.SealingError:
        return "The KEK does not open this database's secrets. Is GATEHOUSE_KEK the one that it was made with?"
    except DatabaseError:
        return "The keyring could not be read from the database."
    return None
