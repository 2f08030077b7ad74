"""From a request's headers to who calls: one credential, an authenticator that knows its form, an `Identity`.

The relay looks identities up by a value that an authenticator makes of the credential; what it finds was loaded by
`load_identity`. Everything else about a caller was decided before the request came.
"""

import hashlib
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from keys import tokens
from keys.models import APIKey, ImportedKey, KeySecret
from keys.tokens import Kind
from tenants.clock import SYSTEM, to_unix_us
from tenants.limits import NO_LIMITS, LimitSet
from tenants.models import Tenant
from tenants.sealing import Secret

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
RawHeaders = Iterable[tuple[bytes, bytes]]

_MAX_CREDENTIAL: Final = 8192
#: Keys of which a worker knows the fingerprint without working it out.
_MOST_REMEMBERED: Final = 20_000
#: Headers that may carry a credential, as OpenAI, Anthropic, Azure and Gemini clients send them.
_PLAIN_HEADERS: Final = frozenset((b"x-api-key", b"api-key", b"x-goog-api-key"))


class CredentialError(Exception):
    """No identity can come of what was sent.

    CredentialError
    ├── MissingCredential     none at all
    └── BadCredential         malformed, of another kind, unknown, or two different ones: never said which
    """


class MissingCredential(CredentialError):
    pass


class BadCredential(CredentialError):
    pass


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls and what they may. Immutable; made from the database, never by a request.

    `valid_until` and `ends_at` are microseconds since 1970 or None: past the first no new call begins, past the second
    (the key's own expiry) running ones end as well.
    """

    tenant_id: UUID
    tenant: str
    key_id: UUID
    key_prefix: str
    team: str
    project_id: UUID | None
    project: str
    account_id: UUID | None
    account: str
    scopes: frozenset[str]
    allowed_models: tuple[tuple[str, ...], ...]
    allowed_capabilities: frozenset[str] | None
    allowed_networks: tuple[tuple[Network, ...], ...]
    key_limits: LimitSet
    project_limits: LimitSet
    account_limits: LimitSet
    tenant_limits: LimitSet
    log_content: bool
    valid_until: int | None
    ends_at: int | None

    @property
    def rights(self) -> str:
        """What the key itself may do, as a text that is the same for the same; a rotation changes none of it."""
        capabilities = (
            None if self.allowed_capabilities is None else sorted(self.allowed_capabilities)
        )
        own = (sorted(self.scopes), self.project_id, self.account_id, self.allowed_models)
        return repr((*own, capabilities, self.allowed_networks, self.key_limits, self.ends_at))

    def may_use_model(self, name: str) -> bool:
        """Every list that is set (the key's, the tenant's) must name the model or a prefix of it."""
        return all(_matches(name, patterns) for patterns in self.allowed_models)

    def may_use_capability(self, capability: str) -> bool:
        return self.allowed_capabilities is None or capability in self.allowed_capabilities

    def may_call_from(self, address: str) -> bool:
        """Every list that is set must contain the caller's address; an address we cannot read is in none."""
        if not self.allowed_networks:
            return True
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped  # as a socket for both families names an IPv4 caller
        return all(any(ip in network for network in networks) for networks in self.allowed_networks)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    )


# --- from headers to a look-up value ----------------------------------------------------------------------------------


class Authenticator(Protocol):
    """Knows one form of credential. A new form is a new authenticator in the chain, and no route changes."""

    def recognises(self, text: str) -> bool:
        """Whether this credential is for this authenticator, good or bad: the first that says yes decides."""

    def lookup_value(self, text: str) -> bytes:
        """The value its identity is found under. Raises `BadCredential`."""


class _Remembering:
    """What came of the latest credentials is remembered, under a quicker keyed hash of the text, never under the text itself: a
    key that was used is not to be found in this process's memory.
    """

    def __init__(self, pepper: Secret) -> None:
        self._pepper = pepper
        self._hash_key = os.urandom(32)
        self._remembered: dict[bytes, bytes] = {}

    def lookup_value(self, text: str) -> bytes:
        name = hashlib.blake2b(text.encode(), digest_size=32, key=self._hash_key).digest()
        known = self._remembered.get(name)
        if known is not None:
            return known
        value = self._worked_out(text)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[name] = value
        return value

    def _worked_out(self, text: str) -> bytes:
        raise NotImplementedError


class TenantKeyAuthenticator(_Remembering):
    """`gwk_` keys: form and checksum before any look-up, then the HMAC under the pepper."""

    def recognises(self, text: str) -> bool:
        return tokens.has_known_prefix(text)

    def _worked_out(self, text: str) -> bytes:
        if not tokens.is_well_formed(text, Kind.TENANT_KEY):
            raise BadCredential
        return tokens.fingerprint(self._pepper, text)


class ImportedKeyAuthenticator(_Remembering):
    """Keys of another gateway, of which we were told the SHA-256. Nothing but a look-up tells one from nonsense; the snapshot
    makes none while no such key is in the house.
    """

    def recognises(self, text: str) -> bool:
        return tokens.could_be_imported(text)

    def _worked_out(self, text: str) -> bytes:
        return tokens.imported_fingerprint(self._pepper, hashlib.sha256(text.encode()).digest())


class Chain:
    """Authenticators in order."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self._authenticators = tuple(authenticators)

    def lookup_value(self, headers: RawHeaders) -> bytes:
        """What the caller's identity is found under. Raises `MissingCredential`, `BadCredential`."""
        text = read_credential(headers)
        for authenticator in self._authenticators:
            if authenticator.recognises(text):
                return authenticator.lookup_value(text)
        raise BadCredential


def read_credential(headers: RawHeaders) -> str:
    """The one credential of a request; the same one in two headers is one. Names must be lower case."""
    found: str | None = None
    for name, value in headers:
        if name == b"authorization":
            text = _bearer(value)
        elif name in _PLAIN_HEADERS:
            text = _text(value)
        else:
            continue
        if found is not None and text != found:
            raise BadCredential
        found = text
    if found is None:
        raise MissingCredential
    return found


def _bearer(value: bytes) -> str:
    scheme, _, rest = value.partition(b" ")
    if scheme.lower() != b"bearer":
        raise BadCredential
    return _text(rest)


def _text(value: bytes) -> str:
    stripped = value.strip()
    if not stripped or len(stripped) > _MAX_CREDENTIAL or not stripped.isascii():
        raise BadCredential
    return stripped.decode("ascii")


# --- from the database to an identity ---------------------------------------------------------------------------------


def load_identity(fingerprint: bytes) -> Identity | None:
    """Who this secret stands for now, or None: unknown, superseded, revoked, paused, expired, or of somebody suspended."""
    secret = (
        KeySecret.objects.select_related("key__tenant", "key__project", "key__account")
        .filter(fingerprint=fingerprint)
        .first()
    )
    return None if secret is None else _identity(secret, SYSTEM.now())


def identity_of(key: APIKey) -> tuple[Identity, bool]:
    """As whom a key calls by its current secret, and whether it opens the door now; `key` may be one that nobody ever stored."""
    current = None if key._state.adding else key.secrets.filter(not_after__isnull=True).first()
    secret = current or KeySecret()
    secret.key = key
    return _described(secret), _identity(secret, SYSTEM.now()) is not None


def _ends(secret: KeySecret) -> list[datetime]:
    return [end for end in (secret.not_after, secret.key.expires_at) if end is not None]


def any_imported() -> bool:
    """Whether any credential of another gateway was ever taken over."""
    return ImportedKey.objects.exists()


def _identity(secret: KeySecret, now: datetime) -> Identity | None:
    key, account = secret.key, secret.key.account
    if key.revoked_at is not None or not key.is_active or any(it <= now for it in _ends(secret)):
        return None
    if key.tenant.status != Tenant.Status.ACTIVE:
        return None
    if account is not None and (not account.is_active or account.deleted_at is not None):
        return None
    return _described(secret)


def _described(secret: KeySecret) -> Identity:
    key, tenant = secret.key, secret.key.tenant
    account, project, ends = key.account, key.project, _ends(secret)
    return Identity(
        tenant_id=tenant.id,
        tenant=tenant.slug,
        key_id=key.id,
        key_prefix=secret.prefix,
        team=key.team,
        project_id=project.id if project else None,
        project=project.name if project else "",
        account_id=account.id if account else None,
        account=account.username if account else "",
        scopes=frozenset(key.scopes),
        allowed_models=tuple(
            tuple(names)
            for names in (tenant.allowed_models, key.allowed_models)
            if names is not None
        ),
        allowed_capabilities=(
            None if key.allowed_capabilities is None else frozenset(key.allowed_capabilities)
        ),
        allowed_networks=tuple(
            tuple(ipaddress.ip_network(text) for text in texts)
            for texts in (tenant.allowed_addresses, key.allowed_addresses)
            if texts is not None
        ),
        key_limits=key.limit_set,
        project_limits=project.limit_set if project else NO_LIMITS,
        account_limits=account.limit_set if account else NO_LIMITS,
        tenant_limits=tenant.limit_set,
        log_content=key.log_content and tenant.content_logging,
        valid_until=to_unix_us(min(ends)) if ends else None,
        ends_at=to_unix_us(key.expires_at) if key.expires_at else None,
    )
