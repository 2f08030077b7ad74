"""Tenants with what they group by, operators and their sessions."""

from typing import Any

from gateway.api.bodies.common import limits, moment, usd
from tenants.models import Account, Project, Session, Tenant
from tenants.sign_in import SignedIn, kind_of, memberships_of
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


def signed_in_body(signed_in: SignedIn) -> dict[str, Any]:
    return {
        "token": signed_in.token,
        "token_type": "Bearer",
        "expires_at": moment(signed_in.session.expires_at),
        "username": signed_in.user.username,
        "must_change_password": signed_in.user.must_change_password,
    }


def operator_body(session: Session) -> dict[str, Any]:
    user = session.user
    return {
        "id": str(user.id),
        "object": kind_of(user),
        "username": user.username,
        "email": user.email or None,
        "role": user.role or None,
        "is_active": user.is_active,
        "must_change_password": user.must_change_password,
        "last_login": moment(user.last_login),
        "created_at": moment(user.created_at),
        "memberships": [
            {"tenant": str(tenant_id), "role": role}
            for tenant_id, role in memberships_of(user).items()
        ],
        "session": {"id": str(session.id), "expires_at": moment(session.expires_at)},
    }
