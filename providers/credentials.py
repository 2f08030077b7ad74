"""Sealed credentials: where they stand, how they are written, how they are opened."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from django.db.models import Exists, OuterRef, QuerySet

from providers.errors import CredentialUnreadable
from providers.models import Credential, Provider
from tenants import keyring
from tenants.clock import SYSTEM
from tenants.sealing import Place, SealingError, Secret

PURPOSE: Final = "provider-credential"


@dataclass(frozen=True, slots=True)
class SealedCredential:
    """A credential as the relay carries it: still sealed, with what is needed to open it."""

    id: UUID
    version: int
    tenant_id: UUID | None
    binding: str
    sealed: bytes

    def place(self) -> Place:
        return Place(
            table="providers_credential",
            field="sealed",
            tenant=self.tenant_id or keyring.NO_TENANT,
            row=self.id,
            version=self.version,
            binding=self.binding,
        )


def binding_of(kind: str, origin: str) -> str:
    """What a credential is good for: this kind of provider at this origin, and nowhere else."""
    return f"{kind} {origin}"


def sealed(row: Credential, provider: Provider) -> SealedCredential:
    return SealedCredential(row.id, row.version, provider.tenant_id, row.binding, bytes(row.sealed))


def open_sealed(credential: SealedCredential) -> Secret:
    """The clear credential. Raises `CredentialUnreadable`, whatever the reason; there is no other one to fall back to."""
    try:
        return keyring.unseal_for(
            credential.tenant_id, PURPOSE, credential.place(), credential.sealed
        )
    except SealingError:
        raise CredentialUnreadable from None


def current(provider: Provider) -> Credential | None:
    return provider.credentials.filter(retired_at__isnull=True).first()


def is_set() -> Exists:
    """Of a provider: whether it has a credential, and nothing more of it."""
    return Exists(Credential.objects.filter(provider=OuterRef("pk"), retired_at__isnull=True))


def marked(providers: "QuerySet[Provider]") -> "QuerySet[Provider]":
    """The same with `has_api_key` on each."""
    return providers.annotate(has_api_key=is_set())


def replace(provider: Provider, origin: str, api_key: Secret) -> Credential:
    """Seal a new credential, retire the one before it."""
    retire(provider)
    newest = provider.credentials.order_by("-version").first()
    row = Credential(
        id=uuid4(),
        provider=provider,
        version=newest.version + 1 if newest else 1,
        binding=binding_of(provider.kind, origin),
    )
    carried = SealedCredential(row.id, row.version, provider.tenant_id, row.binding, b"")
    row.sealed = keyring.seal_for(provider.tenant_id, PURPOSE, carried.place(), api_key.reveal())
    row.save(force_insert=True)
    return row


def retire(provider: Provider) -> None:
    """End the current credential. Its ciphertext goes: what nobody may use, nobody needs to keep."""
    provider.credentials.filter(retired_at__isnull=True).update(retired_at=SYSTEM.now(), sealed=b"")
