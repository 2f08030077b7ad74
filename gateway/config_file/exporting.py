"""What is configured now, as a configuration file: no secret in it, and nothing to do if it is applied here."""

from typing import Any, Final

import yaml

from gateway.config_file.differences import handlers
from gateway.config_file.handlers import Handler, shown
from gateway.config_file.shape import VERSION
from gateway.config_file.yaml_text import MAX_BYTES
from keys.models import APIKey
from tenants.errors import Conflict
from tenants.models import Tenant

_MOST_KEYS: Final = 20_000
#: Section of a tenant → kind. Sections that hold nothing are left out.
_INNER: Final = {
    "projects": "project",
    "accounts": "account",
    "providers": "provider",
    "models": "model",
    "keys": "key",
}


class _Plain(yaml.SafeDumper):
    """No anchors: whoever reads it should not have to look elsewhere. Quotes wherever a reader could take a text for a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = text.replace("-", "").replace("_", "").isalpha() and text.isascii()
    style = (
        None
        if is_plain and len(text) > 3 and text.lower() not in ("true", "false", "null")
        else '"'
    )
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _quoted)


def text() -> str:
    """Raises `Conflict` when there is more than one file can hold."""
    if APIKey.objects.filter(revoked_at=None).count() > _MOST_KEYS:
        raise Conflict("There are too many keys for one configuration file.", code="too_large")
    written = yaml.dump(document(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    if len(written.encode()) > MAX_BYTES:
        raise Conflict("There is more than one configuration file may hold.", code="too_large")
    return written


def document() -> dict[str, Any]:
    by_kind = handlers()
    found: dict[str, Any] = {"version": VERSION}
    for section, kind in (("providers", "provider"), ("models", "model")):
        if entries := _entries(by_kind[kind], None):
            found[section] = entries
    found["tenants"] = [
        {**_entry(by_kind["tenant"], tenant), **_inside(by_kind, tenant)}
        for tenant in Tenant.objects.order_by("slug")
    ]
    return found


def _inside(by_kind: dict[str, Handler], tenant: Tenant) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for section, kind in _INNER.items():
        if entries := _entries(by_kind[kind], tenant):
            found[section] = entries
    for row in by_kind["provider_config"].rows(tenant):
        found["provider_config"] = _entry(by_kind["provider_config"], row)
    return found


def _entries(handler: Handler, tenant: Tenant | None) -> list[dict[str, Any]]:
    """By name, and of those of one name the one that a file would mean."""
    named: dict[str, Any] = {}
    for row in sorted(handler.rows(tenant), key=handler.preference):
        if not handler.is_gone(row):
            named.setdefault(handler.folded(handler.name_of(row)), row)
    return [_entry(handler, named[name]) for name in sorted(named)]


def _entry(handler: Handler, row: Any) -> dict[str, Any]:
    """Its name, and what is not as it is in a new one of its sort."""
    usual = handler.state(handler.model())
    state = handler.state(row)
    name = handler.sort.named_by
    said = {
        field: shown(value)
        for field, value in state.items()
        if field != name and value != usual[field]
    }
    return {name: state[name], **said}
