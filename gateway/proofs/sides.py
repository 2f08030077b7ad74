"""Tenants that pry into each other: each with one of everything, made through the admin API."""

import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from uuid import uuid4

from gateway.proofs.doors import Name
from gateway.proofs.prying import Side

_LETTERS: Final = string.ascii_letters + string.digits
_SHOWN: Final = 6
SCOPES: Final = ("inference", "usage", "projects", "mcp", "keys")
#: Nobody's. One is enough: all have one form.
NOBODY: Final = str(uuid4())


class Admin(Protocol):
    """The admin API as an operator of the house; answers a success as JSON, and raises for anything else."""

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any: ...


#: Makes a call with a key and a model, under an id and a trace of the caller's; the log's own id of it.
Caller = Callable[[str, str, str, str], str]


def furnished(admin: Admin, call: Caller, base_url: str, label: str) -> Side:
    """A tenant, and one of everything that can be a tenant's."""
    made = _things(admin, base_url, label)
    side = Side(label, {kind: thing["id"] for kind, thing in made.items()})
    for kind, thing in made.items():
        side.names.append(Name(kind, thing["id"], NOBODY, True))
    for kind, own in (
        *(("tenant", "slug"), ("project", "name"), ("user", "username"), ("provider", "name")),
        *(("key", "team"), ("store", "store_id"), ("store", "name"), ("member", "username")),
    ):
        side.names.append(_text(kind if own != "team" else "team", made[kind][own]))
    model = f"model-{secrets.token_hex(6)}"
    target = {"provider": made["provider"]["id"], "upstream_model": "prove"}
    admin("POST", "models", {"id": model, "tenant": made["tenant"]["id"], "targets": [target]})
    correlation, trace = f"call-{secrets.token_hex(8)}", secrets.token_hex(16)
    call_id = call(made["key"]["key"], model, correlation, trace)
    prefix = made["key"]["key_prefix"]
    nobodys = prefix[:-_SHOWN] + "".join(secrets.choice(_LETTERS) for _ in range(_SHOWN))
    side.names += [
        _text("model", model),
        _text("call", correlation),
        Name("call", call_id, NOBODY, True),
        Name("trace", trace, secrets.token_hex(16), False),
        Name("key", prefix, nobodys, False),
    ]
    return side


def _things(admin: Admin, base_url: str, label: str) -> dict[str, dict[str, Any]]:
    """What has an id, by its kind, as it was answered."""

    def named(kind: str) -> str:
        return f"{kind}-{secrets.token_hex(6)}"

    slug = named("tenant")
    tenant = admin("POST", "tenants", {"name": label, "slug": slug, "rate_limit_rpm": None})
    mine = {"tenant": tenant["id"]}
    project = admin("POST", "projects", {**mine, "name": named("project")})
    user = admin("POST", "users", {**mine, "username": named("user")})
    admin("POST", f"users/{user['id']}/top-up", {"amount_usd": "5"})
    upstream = {"base_url": base_url, "api_key": f"sk-{secrets.token_hex(16)}"}
    kind = "openai-compatible"
    provider = admin(
        "POST", "providers", {**mine, "name": named("provider"), "kind": kind, **upstream}
    )
    admin("PUT", f"tenants/{tenant['id']}/provider-config", {"provider": kind, **upstream})
    keys = f"tenants/{tenant['id']}/api-keys"
    key = admin("POST", keys, {"name": named("key"), "team": named("team"), "scopes": SCOPES})
    inner = admin(
        "POST",
        keys,
        {"name": named("key"), "project": project["id"], "account": user["id"], "scopes": SCOPES},
    )
    made = {"tenant": tenant, "project": project, "user": user, "provider": provider, "key": key}
    return {**made, "inner": inner, **_of_people(admin, tenant["id"], named)}


def _of_people(admin: Admin, tenant: str, named: Callable[[str], str]) -> dict[str, dict[str, Any]]:
    """A store, somebody who signs in, and an invitation for somebody else."""
    store = {"tenant": tenant, "store_id": named("store"), "name": named("store")}
    person = {"username": named("member"), "password": secrets.token_urlsafe(24)}
    return {
        "store": admin("POST", "stores", {**store, "api_key": secrets.token_hex(16)}),
        "member": admin("POST", f"tenants/{tenant}/members", person),
        "invitation": admin("POST", "invitations", {"tenant": tenant}),
    }


def signed_in(admin: Admin, side: Side, role: str) -> str:
    """The token of a new person of that side, who has that role there, by an invitation."""
    invited = admin("POST", "invitations", {"tenant": side.own["tenant"], "role": role})
    person = {"username": f"pries-{secrets.token_hex(6)}", "password": secrets.token_urlsafe(24)}
    admin("POST", "auth/accept-invitation", {**person, "token": invited["token"]})
    return str(admin("POST", "auth/login", person)["token"])


def bare(admin: Admin) -> Side:
    """A tenant that has nothing but keys."""
    label = f"bare-{secrets.token_hex(6)}"
    tenant = admin("POST", "tenants", {"name": label, "slug": label, "rate_limit_rpm": None})
    return Side(label, {"tenant": tenant["id"]})


def key_of(admin: Admin, side: Side) -> str:
    """A new key of it, with every scope."""
    path = f"tenants/{side.own['tenant']}/api-keys"
    return str(admin("POST", path, {"name": "pries", "scopes": SCOPES})["key"])


def _text(kind: str, name: str) -> Name:
    front, _, end = name.rpartition("-")
    return Name(kind, name, f"{front}-{secrets.token_hex(len(end) // 2)}", False)
