"""From an empty folder to a gateway that answers, and from any later state to an up-to-date one: what `quickstart` does.

The first run makes an operator, a tenant, a key and the `demo` provider; every run applies pending migrations (after copying
an SQLite file) and adds the providers that are newly found in the environment. Nothing that exists is changed or shown.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from gateway import first_run
from gateway.checks import pending_migrations
from gateway.first_run import Found
from keys.models import APIKey
from keys.services import issue_key
from providers import discovery
from providers.models import Provider
from providers.services import create_provider
from tenants import keyring, operator_services
from tenants.actor import Actor, system_actor
from tenants.clock import SYSTEM
from tenants.errors import ServiceError, Unavailable
from tenants.models import AuditEvent, Tenant, User
from tenants.passwords import generated_password
from tenants.services import DEFAULT_SLUG, ensure_tenant

OPERATOR: Final = "admin"
KEY_NAME: Final = "first"
DEMO: Final = "demo"
_BACKUPS: Final = 3
_COPY_PAGES: Final = 1_000

#: Hears what is being done, in sentences.
Tell = Callable[[str], object]


@dataclass(slots=True)
class Prepared:
    """What a run came to. `password` and `api_key` are null unless they were made by this very run."""

    tenant: Tenant
    username: str
    password: str | None = None
    api_key: str | None = None
    models: int = 0
    providers: list[str] = field(default_factory=list)


def prepare(tell: Tell) -> Prepared:
    """Everything before serving. One run at a time on one folder. Raises `ServiceError`, `DatabaseError`."""
    actor = system_actor("quickstart")
    with _alone():
        migrate(tell)
        _refuse_foreign_secrets()
        tenant, _ = ensure_tenant(actor=actor, name="Default", slug=DEFAULT_SLUG)
        prepared = Prepared(tenant, OPERATOR)
        _ensure_operator(actor, prepared)
        _ensure_key(actor, prepared)
        _ensure_providers(actor, prepared, tell)
    return prepared


@contextmanager
def _alone() -> Iterator[None]:
    """Two runs at once would both find nothing and make everything twice; the second waits."""
    settings.VAR.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(settings.VAR / "quickstart.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# --- the database -----------------------------------------------------------------------------------------------------


def migrate(tell: Tell) -> None:
    """Apply what is pending; an SQLite file that holds something is copied first."""
    pending = pending_migrations()
    if pending:
        copy = back_up()
        if copy is not None:
            tell(f"Copied the database to {copy}.")
        tell(f"Applying {len(pending)} migrations.")
        call_command("migrate", interactive=False, verbosity=0)
    _make_private()


def back_up() -> Path | None:
    """A consistent copy of an SQLite database under `var/backups`, the newest three kept. Null when there is nothing to copy."""
    if connection.vendor != "sqlite" or not connection.introspection.table_names():
        return None
    folder = settings.VAR / "backups"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path: Path = folder / f"gatehouse-{SYSTEM.now():%Y%m%dT%H%M%S%f}.sqlite3"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    source = Path(str(connection.settings_dict["NAME"]))
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as original,
        closing(sqlite3.connect(path)) as copy,
    ):
        original.backup(copy, pages=_COPY_PAGES)
    for old in sorted(folder.glob("gatehouse-*.sqlite3"))[:-_BACKUPS]:
        old.unlink()
    return path


def _make_private() -> None:
    """SQLite makes its file by the process's umask; what everybody's data is in, its owner alone reads."""
    if connection.vendor != "sqlite":
        return
    for suffix in ("", "-wal", "-shm"):
        path = Path(f"{connection.settings_dict['NAME']}{suffix}")
        if path.is_file():
            path.chmod(0o600)


def _refuse_foreign_secrets() -> None:
    """A database without the secrets it was made with: going on would only add what the right ones could not open."""
    fault = keyring.fault()
    if fault is not None:
        raise Unavailable(f"{fault} Put back the {first_run.FILE_NAME} that belongs to it.")


# --- operator and key -------------------------------------------------------------------------------------------------


def _ensure_operator(actor: Actor, prepared: Prepared) -> None:
    """Only while there is no operator at all: one that was renamed or disabled is not made again."""
    first = User.objects.exclude(role="").order_by("created_at").first()
    if first is not None:
        prepared.username = first.username
        return
    prepared.password = generated_password()
    operator_services.create_operator(
        actor=actor,
        username=OPERATOR,
        password=prepared.password,
        role=User.Role.OWNER.value,
        must_change_password=True,
    )


def _ensure_key(actor: Actor, prepared: Prepared) -> None:
    """Only for a tenant that never had a key: a revoked one stays the last word."""
    if APIKey.objects.filter(tenant=prepared.tenant).exists():
        return
    issued = issue_key(actor=actor, tenant_id=prepared.tenant.id, name=KEY_NAME)
    prepared.api_key = issued.credential.reveal().decode()


# --- providers --------------------------------------------------------------------------------------------------------


def _ensure_providers(actor: Actor, prepared: Prepared, tell: Tell) -> None:
    found: Mapping[str, Found] = settings.FIRST_RUN_PROVIDERS
    for kind, values in {DEMO: Found(None, ""), **found}.items():
        try:
            _ensure_provider(actor, prepared, kind, values, tell)
        except ServiceError as refusal:
            tell(f"{kind}: {refusal.message}")
    for variable in settings.FIRST_RUN_UNUSED:
        tell(f"{variable} was seen and is not used yet: this release does not speak that dialect.")


def _ensure_provider(
    actor: Actor, prepared: Prepared, kind: str, values: Found, tell: Tell
) -> None:
    """Made if there is none of that name; its models are asked for until it has some."""
    provider = Provider.objects.filter(tenant=None, name=kind).first()
    if provider is None:
        if _was_removed(kind):
            return
        fields: dict[str, Any] = {"name": kind, "kind": kind}
        if values.base_url:
            fields["base_url"] = values.base_url
        if values.api_key:
            fields["api_key"] = values.api_key.reveal().decode()
        provider = create_provider(actor=actor, **fields)
        prepared.providers.append(provider.name)
    elif provider.targets.exists() or not provider.is_active:
        return
    imported = discovery.import_models(actor=actor, provider_id=provider.id)
    prepared.models += len(imported.added)
    label = f"{kind} (a demonstration, not a model)" if kind == DEMO else kind
    tell(f"{label}: {len(imported.added)} models added.")
    if imported.offline:
        tell(
            f"{kind} did not answer, so these are the built-in list's;"
            f" `manage.py model import --provider {kind}` adds the rest later."
        )


def _was_removed(name: str) -> bool:
    """Somebody deleted it on purpose; the environment still having its key is no reason to bring it back."""
    removed = AuditEvent.objects.filter(
        action="provider.deleted", target_label=name, outcome=AuditEvent.Outcome.OK
    )
    return removed.exists()
