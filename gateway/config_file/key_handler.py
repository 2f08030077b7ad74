"""Keys, as a configuration file sees them: given with their secret or made here, owned by the file from then on."""

import hmac
from collections.abc import Collection, Sequence
from typing import Any, Final

from gateway.config_file import shape
from gateway.config_file.handlers import Handler
from gateway.config_file.shape import Entry
from keys import services as keys
from keys.models import APIKey
from tenants.actor import Actor
from tenants.errors import Invalid
from tenants.models import Account, Project, Tenant
from tenants.sealing import Secret

_BELONGINGS: Final[dict[str, tuple[Any, str]]] = {
    "project": (Project, "name"),
    "account": (Account, "username"),
}


class KeyHandler(Handler):
    sort = shape.KEY
    model = APIKey
    touches = keys.KIND
    fixed = frozenset({"team"})

    def __init__(self) -> None:
        #: Keys that were made here, with the one sight of their credentials: (tenant, name, credential).
        self.made: list[tuple[str, str, Secret]] = []

    def rows(self, tenant: Tenant | None, names: Collection[str] | None = None) -> Sequence[Any]:
        found = APIKey.objects.filter(tenant=tenant).order_by("created_at", "id")
        if names is not None:
            found = found.filter(name__in=names)
        return list(found.select_related("project", "account").prefetch_related("secrets"))

    def find(self, rows: Sequence[Any], entry: Entry) -> Any | None:
        """Names of keys are not unique. The file's own key comes first, be it revoked; then the oldest that works."""
        named = [row for row in rows if row.name == entry.name]
        own = [row for row in named if row.source == APIKey.Source.CONFIG]
        works = [row for row in named if row.revoked_at is None]
        own.sort(key=lambda row: row.revoked_at is not None)
        return next(iter([*own, *works]), None)

    def _fields(self) -> list[str]:
        return [field for field in super()._fields() if field != "made"]

    def _value(self, row: Any, field: str) -> Any:
        if field in _BELONGINGS:
            owner = getattr(row, field)
            return getattr(owner, _BELONGINGS[field][1]) if owner else None
        return getattr(row, field)

    def is_same(self, field: str, was: Any, now: Any) -> bool:
        if field in _BELONGINGS and isinstance(was, str) and isinstance(now, str):
            return was.casefold() == now.casefold()
        return super().is_same(field, was, now)

    def parts(self, row: Any) -> list[Any]:
        return list(row.secrets.all())

    def preference(self, row: Any) -> int:
        return int(row.source != APIKey.Source.CONFIG)

    def is_gone(self, row: Any) -> bool:
        return row.revoked_at is not None

    def has_secret(self, row: Any, secret: Secret | None) -> bool:
        if secret is None:
            return False
        current = [it for it in row.secrets.all() if it.not_after is None]
        wanted = keys.fingerprint_of(secret)
        return any(hmac.compare_digest(bytes(it.fingerprint), wanted) for it in current)

    def create(self, actor: Actor, tenant: Tenant | None, entry: Entry) -> Any:
        assert tenant is not None  # noqa: S101 - it stands inside a tenant
        if entry.secret is None and not entry.is_made:
            raise Invalid.field(
                "secret", "must be given for a new key, or `made: true` in its place."
            )
        fields = _with_ids(tenant, entry.given)
        is_active = fields.pop("is_active", True)
        issued = keys.issue_key(
            actor=actor, tenant_id=tenant.id, source=APIKey.Source.CONFIG.value, **fields
        )
        if entry.secret is not None:
            keys.hand_to_file(actor=actor, key_id=issued.key.id, credential=entry.secret)
        if not is_active:
            keys.update_key(actor=actor, key_id=issued.key.id, is_active=False)
        if entry.is_made:
            self.made.append((tenant.slug, issued.key.name, issued.credential))
        return issued.key

    def update(self, actor: Actor, row: Any, fields: dict[str, Any], entry: Entry) -> None:
        is_foreign = row.source != APIKey.Source.CONFIG
        is_replaced = fields.pop(self.sort.hides, None) is not None
        if is_foreign or is_replaced:
            credential = entry.secret if is_replaced else None
            keys.hand_to_file(actor=actor, key_id=row.id, credential=credential)
        if fields:
            keys.update_key(actor=actor, key_id=row.id, **_with_ids(row.tenant, fields))

    def remove(self, actor: Actor, row: Any) -> None:
        keys.delete_key(actor=actor, key_id=row.id)


def _with_ids(tenant: Tenant, fields: dict[str, Any]) -> dict[str, Any]:
    """Project and account by name, as a file has them, become the ids that the service takes."""
    fields = dict(fields)
    for field, (model, label) in _BELONGINGS.items():
        name = fields.get(field)
        if name is None:
            continue
        if not isinstance(name, str):
            raise Invalid.field(field, f"must be the name of a {field} of this tenant, or null.")
        found = model.objects.filter(tenant=tenant, **{f"{label}__iexact": name}).first()
        if found is None:
            raise Invalid.field(field, f"is no {field} of this tenant.")
        fields[field] = str(found.id)
    return fields
