"""How far a key reaches that manages keys: which it sees, and what it can give. Read anew in the transaction of each change, so
that a key which ended or was narrowed a moment ago gives nothing any more.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from keys import grants
from keys.chain import BadCredential, Identity, load_identity
from keys.errors import BeyondGrant
from keys.grants import Grant
from keys.models import APIKey, default_scopes
from tenants import validation
from tenants.clock import from_unix_us
from tenants.errors import Invalid
from tenants.models import Project


class Warrant:
    """Of the credential that `value` looks up (keys/chain.py)."""

    def __init__(self, identity: Identity, value: bytes) -> None:
        self.tenant_id: UUID = identity.tenant_id
        self.project_id = identity.project_id
        self._value = value
        self._own: tuple[APIKey, Grant] | None = None

    @property
    def keys(self) -> Q:
        """Those that it sees: of its project, or of its whole tenant if it belongs to none."""
        mine = Q(tenant_id=self.tenant_id)
        return mine if self.project_id is None else mine & Q(project_id=self.project_id)

    @property
    def projects(self) -> Q:
        """Those that it sees: its own, or all of its tenant if it belongs to none."""
        mine = Q(tenant_id=self.tenant_id)
        return mine if self.project_id is None else mine & Q(pk=self.project_id)

    def own(self) -> tuple[APIKey, Grant]:
        """The key as it is when the change begins, and what it grants: a change of itself is judged by what it was.

        Raises `BadCredential`: it opens nothing any more.
        """
        if self._own is None:
            self._own = self._loaded()
        return self._own

    def _loaded(self) -> tuple[APIKey, Grant]:
        identity = load_identity(self._value)
        if identity is None or identity.project_id != self.project_id:
            raise BadCredential
        key = APIKey.objects.get(pk=identity.key_id)
        # A secret in its grace ends before its key does, and must not outlive itself by what it makes.
        ends = None if identity.valid_until is None else from_unix_us(identity.valid_until)
        return key, grant_of(key, ends)

    def cut(self, values: dict[str, Any], *, is_new: bool = False) -> None:
        """Take from the values of a key what this one does not have. A new key has every limit of its maker."""
        own, grant = self.own()
        if is_new:
            self._fill(values, own)
        for field in grants.CUT:
            if field in values:
                ours = grant.until if field == "expires_at" else getattr(own, field)
                values[field] = _something(field, grants.cut(field, values[field], ours))

    def _fill(self, values: dict[str, Any], own: APIKey) -> None:
        """What was not asked for is as its maker has it."""
        for field in grants.CUT:
            values.setdefault(field, default_scopes() if field == "scopes" else None)
        for field, ours in (("project", own.project), ("account", own.account)):
            values[field] = values.get(field) or ours

    def check(self, key: APIKey) -> None:
        """Raises `BeyondGrant` if the key, as it would be, may do anything that this one may not."""
        _, grant = self.own()
        if fields := grants.beyond(grant_of(key, key.expires_at), grant):
            raise BeyondGrant(fields)

    def judge(self, project: Project | None) -> None:
        """Raises `BeyondGrant`: for a key of a project, whose limits it is not to get rid of; and where the end of a project
        would set a key of it free to do more than this one may.
        """
        _, grant = self.own()
        if self.project_id is not None:
            raise BeyondGrant(["project"])
        if project is None:
            return
        for key in APIKey.objects.filter(project=project, revoked_at__isnull=True).iterator():
            if fields := grants.beyond(grant_of(key, key.expires_at), grant):
                raise BeyondGrant(fields)


def grant_of(key: APIKey, until: datetime | None) -> Grant:
    """What a key's own fields say; those of its tenant bind all of its keys alike."""
    return Grant(
        scopes=frozenset(key.scopes),
        models=None if key.allowed_models is None else tuple(key.allowed_models),
        capabilities=(
            None if key.allowed_capabilities is None else frozenset(key.allowed_capabilities)
        ),
        networks=grants.networks(key.allowed_addresses),
        most=grants.most_of(key.limit_set),
        until=until,
        account=key.account_id,
        project=key.project_id,
        is_watched=key.log_content,
    )


def _something(field: str, value: Any) -> Any:
    """Raises `Invalid` where nothing is in common, or more than a key can hold."""
    if isinstance(value, list) and not 0 < len(value) <= validation.MAX_LISTED:
        has = "nothing in common with" if not value else "too many parts in common with"
        raise Invalid.field(field, f"has {has} what your own key may.")
    return value
