"""Tenants, operators and their sessions."""

from typing import Any

from gateway.api.bodies.common import limits, moment
from tenants.models import Session, Tenant
from tenants.sign_in import SignedIn


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
        "object": "operator",
        "username": user.username,
        "email": user.email or None,
        "role": user.role,
        "is_active": user.is_active,
        "must_change_password": user.must_change_password,
        "last_login": moment(user.last_login),
        "created_at": moment(user.created_at),
        "session": {"id": str(session.id), "expires_at": moment(session.expires_at)},
    }
