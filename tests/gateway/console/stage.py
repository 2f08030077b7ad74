"""Things that stand on the console's stage, one of each kind, and every page about them."""

import re
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from django.urls import URLPattern, URLResolver

from gateway import console
from keys.services import issue_key
from tenants.account_services import create_account
from tenants.actor import Actor
from tenants.models import Tenant
from tenants.project_services import create_project

#: Where a stranger may be.
OPEN = {"sign-in", "login", "sign-out", "logout", "password", "theme"}


@dataclass(frozen=True)
class Stage:
    """The ids of one thing of each kind, by the slug of its pages."""

    tenants: UUID
    projects: UUID
    accounts: UUID
    keys: UUID

    def of(self, slug: str) -> Any:
        return getattr(self, slug, UUID(int=7))


def furnished(actor: Actor, tenant: Tenant, name: str = "thing") -> Stage:
    project = create_project(actor=actor, tenant_id=tenant.id, name=name)
    account = create_account(
        actor=actor, tenant_id=tenant.id, username=name, organization=name, email="a@b.example"
    )
    issued = issue_key(
        actor=actor,
        tenant_id=tenant.id,
        name=name,
        project=str(project.id),
        account=str(account.id),
        allowed_models=["demo/*"],
    )
    return Stage(tenant.id, project.id, account.id, issued.key.id)


def routes() -> list[tuple[str, str]]:
    """(name, path below the console with `<…>` for what varies) of every page there is, from the URLconf itself."""
    found: list[tuple[str, str]] = []
    _collect("", console.site.get_urls(), found)
    return found


def _collect(before: str, patterns: Any, found: list[tuple[str, str]]) -> None:
    for each in patterns:
        if isinstance(each, URLResolver):
            _collect(before + str(each.pattern), each.url_patterns, found)
        elif each.name:
            found.append((str(each.name), before + str(cast(URLPattern, each).pattern)))


def path_of(route: str, stage: Stage) -> str:
    """The page about what stands on the stage."""
    slug = route.partition("/")[0]
    filled = re.sub(r"<[^>]+>", str(stage.of(slug)), route)
    owned = filled.endswith("/new/") and not filled.startswith("tenants/")
    return f"{filled}?tenant=acme" if owned else filled
