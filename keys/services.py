"""What can be done to keys. Limits and spend hang on the key, never on its secret, so no rotation can widen or reset them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Q

from keys import tokens
from keys.chain import Chain, ImportedKeyAuthenticator, TenantKeyAuthenticator
from keys.errors import KeyRevoked, ManagedByConfig
from keys.models import APIKey, KeySecret
from keys.warrants import Warrant
from tenants import keyring, validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import Change, change
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound
from tenants.limit_rules import LIMIT_RULES
from tenants.models import Account, Project, Tenant
from tenants.sealing import Secret
from tenants.services import locked_tenant
from tenants.validation import Rule

KIND = "api_key"
MAX_GRACE_SECONDS: Final = 604_800
SCOPES: Final = ("inference", "usage", "projects", "mcp", "keys")
CAPABILITIES: Final = [
    "chat",
    "completion",
    "embedding",
    "image",
    "speech",
    "transcription",
    "moderation",
    "rerank",
]
#: What `status_of` says.
STATUSES: Final = ("active", "paused", "expired", "revoked")
_MAX_SUPERSEDED: Final = 10
_PEPPER_USE: Final = "key-fingerprint"


def _scopes(field: str, value: object) -> list[str]:
    scopes = validation.some_of(SCOPES, nullable=False)(field, value)
    return [scope for scope in SCOPES if scope in scopes]


EDIT_RULES: Final[dict[str, Rule]] = {
    "name": validation.name,
    "project": lambda field, value: value,
    "account": lambda field, value: value,
    "is_active": validation.flag,
    "scopes": _scopes,
    "allowed_models": validation.model_patterns,
    "allowed_capabilities": validation.some_of(CAPABILITIES, nullable=True),
    "allowed_addresses": validation.networks,
    "log_content": validation.flag,
    "expires_at": validation.moment,
    **LIMIT_RULES,
}
ISSUE_RULES: Final[dict[str, Rule]] = {
    **{name: rule for name, rule in EDIT_RULES.items() if name != "is_active"},
    "team": validation.team,
}


@dataclass(frozen=True, slots=True)
class Issued:
    """A key with the one sight of its credential."""

    key: APIKey
    credential: Secret
    previous_secret_expires_at: datetime | None = None


def pepper() -> tuple[int, Secret]:
    """(version, pepper) that credentials are fingerprinted with."""
    root = keyring.KEYRING.root(keyring.PEPPER)
    return root.version, root.key(_PEPPER_USE)


def chain() -> Chain:
    """Every form of credential that this installation takes from callers."""
    _, pepper_key = pepper()
    return Chain([TenantKeyAuthenticator(pepper_key), ImportedKeyAuthenticator(pepper_key)])


def find_key(reference: str | UUID, tenant: Tenant | None = None) -> APIKey:
    """By id, or by the visible prefix of its current secret if that is unambiguous."""
    keys = APIKey.objects.select_related("tenant")
    if tenant is not None:
        keys = keys.filter(tenant=tenant)
    text = str(reference)
    try:
        found = list(keys.filter(id=UUID(text)))
    except ValueError:
        named = keys.filter(secrets__prefix=text).distinct()
        found = list(named[:2]) if validation.storable(text) else []
    if len(found) > 1:
        raise Conflict("More than one key begins like that; name it by its id.")
    if not found:
        raise NotFound(f"There is no key {str(reference)[:64]!r}.")
    return found[0]


def status_of(key: APIKey, now: datetime) -> str:
    """`revoked`, `expired`, `paused` or `active`, the strongest that is true."""
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    return "active" if key.is_active else "paused"


def target_of(key: APIKey) -> Target:
    return Target(KIND, str(key.id), key.name)


def issue_key(
    *,
    actor: Actor,
    tenant_id: UUID,
    name: object,
    source: str = "admin",
    warrant: Warrant | None = None,
    **fields: Any,
) -> Issued:
    """A new key of a tenant. The credential in the answer is the only copy there will ever be.

    With a `warrant` the key gets what its maker has in common with what was asked for, and no more.
    """
    with change(actor, "key.issued", Target(KIND, "new", str(name)[:64]), tenant_id) as it:
        tenant = locked_tenant(tenant_id)
        values = validation.checked({"name": name, **fields}, ISSUE_RULES)
        _resolve_belongings(tenant.id, values)
        if warrant is not None:
            warrant.cut(values, is_new=True)
        key = APIKey(
            tenant=tenant,
            source=source,
            created_by_type=actor.type,
            created_by_id=actor.id,
            created_by_label=actor.label,
            **values,
        )
        if warrant is not None:
            warrant.check(key)
        key.save(force_insert=True)
        credential = _add_secret(key)
        it.aim(target_of(key))
        it.detail(
            **{
                name: str(value) if hasattr(value, "pk") else value
                for name, value in values.items()
            }
        )
        it.touch(KIND, key.id, tenant.id)
    return Issued(key, credential)


def _resolve_belongings(tenant_id: UUID, values: dict[str, Any]) -> None:
    """Replace the ids of project and account by the rows; those of other tenants do not exist here."""
    for name, kind in (("project", Project), ("account", Account)):
        reference = values.get(name)
        if reference is None:
            continue
        try:
            row = kind.objects.filter(tenant_id=tenant_id, id=UUID(str(reference))).first()
        except ValueError:
            row = None
        if row is None or getattr(row, "deleted_at", None) is not None:
            raise Invalid.field(name, f"is no {name} of this tenant.")
        values[name] = row


def _add_secret(key: APIKey, given: Secret | None = None) -> Secret:
    version, pepper_key = pepper()
    credential = given or tokens.generate(tokens.Kind.TENANT_KEY)
    KeySecret.objects.create(
        key=key,
        fingerprint=tokens.fingerprint(pepper_key, credential.reveal().decode()),
        pepper_version=version,
        prefix=tokens.shown_part(credential),
    )
    return credential


def fingerprint_of(credential: Secret) -> bytes:
    """What a credential is looked up by in this installation."""
    return tokens.fingerprint(pepper()[1], credential.reveal().decode())


def refuse_unfit(credential: Secret, key: APIKey | None) -> None:
    """A credential that was not made here must have the form of ours, and open no door yet but perhaps that of `key`."""
    text = credential.reveal().decode(errors="replace")
    if not tokens.is_well_formed(text, tokens.Kind.TENANT_KEY):
        raise Invalid.field("secret", "must be a key in our form: gwk_, 49 characters, checksum.")
    holder = KeySecret.objects.filter(fingerprint=fingerprint_of(credential)).first()
    if holder is not None and (key is None or holder.key_id != key.id):
        raise Invalid.field("secret", "is the secret of another key already.")


def _locked(key_id: UUID, it: Change, warrant: Warrant | None) -> APIKey:
    """The key, if whoever asks can see it: all of them, or those that their warrant covers."""
    key = (
        APIKey.objects.select_for_update(of=("self",))
        .select_related("tenant", "project", "account")
        .filter(Q() if warrant is None else warrant.keys, pk=key_id)
        .first()
    )
    if warrant is not None:
        warrant.own()
    if key is None:
        raise NotFound
    it.aim(target_of(key), key.tenant_id)
    return key


def _refuse_revoked(key: APIKey) -> None:
    if key.revoked_at is not None:
        raise KeyRevoked(key.revoked_at)


#: Whether the configuration file is at work, which alone may change the keys that it owns.
_by_file: ContextVar[bool] = ContextVar("by_file", default=False)


@contextmanager
def by_file() -> Iterator[None]:
    """What is changed inside, the configuration file changes."""
    before = _by_file.set(True)
    try:
        yield
    finally:
        _by_file.reset(before)


def _refuse_config(key: APIKey) -> None:
    if key.source == APIKey.Source.CONFIG and not _by_file.get():
        raise ManagedByConfig


def _home(warrant: Warrant | None) -> UUID | None:
    """Whose chain has the row of a refusal before the key was found."""
    return None if warrant is None else warrant.tenant_id


def update_key(
    *, actor: Actor, key_id: UUID, warrant: Warrant | None = None, **fields: Any
) -> APIKey:
    """Change fields of a key; absent ones stay, null clears. `is_active: false` pauses it, and rotation keeps it paused.

    With a `warrant` a field gets what was asked for as far as the changing key has it itself, and all of the key must lie within.
    """
    action = {"True": "key.resumed", "False": "key.paused"}.get(
        str(fields.get("is_active")), "key.updated"
    )
    with change(actor, action, Target(KIND, str(key_id)), _home(warrant)) as it:
        key = _locked(key_id, it, warrant)
        _refuse_revoked(key)
        _refuse_config(key)
        if not fields:
            raise Invalid("Nothing to change was given.")
        values = validation.checked(fields, EDIT_RULES)
        _resolve_belongings(key.tenant_id, values)
        if warrant is not None:
            warrant.cut(values)
        for name, value in values.items():
            it.detail(**{name: {"from": _plain(getattr(key, name)), "to": _plain(value)}})
            setattr(key, name, value)
        if warrant is not None:
            warrant.check(key)
        key.save()
        it.touch(KIND, key.id, key.tenant_id)
    return key


def _plain(value: Any) -> Any:
    return str(value) if hasattr(value, "pk") or isinstance(value, datetime) else value


def rotate_key(
    *,
    actor: Actor,
    key_id: UUID,
    grace_period_seconds: object = 0,
    warrant: Warrant | None = None,
) -> Issued:
    """A new secret on the same key. The old one works on for the grace period (0 to 7 days), then not.

    Of two rotations at once the second replaces the secret of the first: one current secret in the end, always. With a `warrant`
    the key must lie within it: whoever rotates gets hold of the key.
    """
    with change(actor, "key.rotated", Target(KIND, str(key_id)), _home(warrant)) as it:
        key = _locked(key_id, it, warrant)
        _refuse_revoked(key)
        _refuse_config(key)
        if warrant is not None:
            warrant.check(key)
        grace = _grace(grace_period_seconds)
        now = SYSTEM.now()
        ends = now + timedelta(seconds=grace)
        # A secret that is in its grace already keeps its earlier end.
        key.secrets.filter(not_after__isnull=True).update(not_after=ends)
        key.secrets.filter(not_after__lte=now).delete()
        if key.secrets.count() >= _MAX_SUPERSEDED:
            raise Conflict("Too many old secrets of this key still work; rotate it without grace.")
        credential = _add_secret(key)
        it.detail(grace_period_seconds=grace)
        it.touch(KIND, key.id, key.tenant_id)
    return Issued(key, credential, ends if grace else None)


def hand_to_file(*, actor: Actor, key_id: UUID, credential: Secret | None = None) -> APIKey:
    """From here on the configuration file owns this key. With a credential that one opens the door, and no earlier one does."""
    with change(actor, "key.imported", Target(KIND, str(key_id))) as it:
        key = _locked(key_id, it, None)
        _refuse_revoked(key)
        it.detail(source={"from": key.source, "to": APIKey.Source.CONFIG.value})
        key.source = APIKey.Source.CONFIG
        key.save(update_fields=["source"])
        if credential is not None:
            refuse_unfit(credential, key)
            key.secrets.all().delete()
            _add_secret(key, credential)
            it.detail(credential="replaced")
        it.touch(KIND, key.id, key.tenant_id)
    return key


def _grace(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_GRACE_SECONDS:
        raise Invalid.field(
            "grace_period_seconds", f"must be an integer from 0 to {MAX_GRACE_SECONDS}."
        )
    return value


def revoke_key(
    *, actor: Actor, key_id: UUID, reason: object = "", warrant: Warrant | None = None
) -> APIKey:
    """End a key for good. Raises `KeyRevoked` when it was revoked before."""
    with change(actor, "key.revoked", Target(KIND, str(key_id)), _home(warrant)) as it:
        key = _locked(key_id, it, warrant)
        _refuse_revoked(key)
        key.revoked_at = SYSTEM.now()
        key.revoked_by_type, key.revoked_by_id, key.revoked_by_label = (
            actor.type,
            actor.id,
            actor.label,
        )
        key.revoked_reason = validation.optional_text("reason", reason)
        key.save()
        it.detail(reason=key.revoked_reason)
        it.touch(KIND, key.id, key.tenant_id)
    return key


def delete_key(*, actor: Actor, key_id: UUID) -> None:
    """Remove the row of a key for good; its logs, ledger and audit keep their copies of its name."""
    with change(actor, "key.deleted", Target(KIND, str(key_id))) as it:
        key = _locked(key_id, it, None)
        _refuse_config(key)
        it.touch(KIND, key.id, key.tenant_id)
        key.delete()


def current_prefix(key: APIKey) -> str:
    """The visible part of the newest secret."""
    secret = next((s for s in key.secrets.all() if s.not_after is None), None)
    return secret.prefix if secret else ""


def previous_secret_expires_at(key: APIKey, now: datetime) -> datetime | None:
    """When the last of the superseded secrets stops opening the door; None if none does any more."""
    ends = [s.not_after for s in key.secrets.all() if s.not_after is not None and s.not_after > now]
    return max(ends, default=None)
