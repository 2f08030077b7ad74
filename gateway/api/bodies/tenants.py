"""Tenants with what they group by."""

from typing import Any

from gateway.api.bodies.common import limits, moment, usd
from tenants.models import Account, Project, Tenant
from usage.balance_services import Standing


def tenant_body(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": str(tenant.id),
        "object": "tenant",
        "name": tenant.name,
        "slug": tenant.slug,
        "status": tenant.status,
        **limits(tenant),
        "allowed_models": tenant.allowed_models,
        "allowed_addresses": tenant.allowed_addresses,
        "content_logging": tenant.content_logging,
        "content_retention_days": tenant.content_retention_days,
        # A tenant's own issuer of tokens comes later; until then none opens anything.
        "oidc_issuer": None,
        "oidc_audience": None,
        "oidc_default_scopes": None,
        "created_at": moment(tenant.created_at),
    }


def project_body(project: Project) -> dict[str, Any]:
    return {
        "id": str(project.id),
        "object": "project",
        "tenant": str(project.tenant_id),
        "name": project.name,
        **limits(project),
        "created_at": moment(project.created_at),
    }


def account_body(account: Account, standing: Standing) -> dict[str, Any]:
    """`balance_usd` is what was paid in and not used; of that `held_usd` is set aside for calls in flight."""
    return {
        "id": str(account.id),
        "object": "user",
        "tenant": str(account.tenant_id),
        "username": account.username,
        "email": account.email or None,
        "organization": account.organization or None,
        "balance_usd": usd(standing.balance),
        "held_usd": usd(standing.held),
        **limits(account),
        "is_active": account.is_active,
        "deleted_at": moment(account.deleted_at),
        "created_at": moment(account.created_at),
    }
