"""People: operators, members, what they are invited by, and what they sign in with."""

from typing import Any

from gateway.api.bodies.common import moment
from tenants.clock import SYSTEM
from tenants.invitation_services import Invited, status_of
from tenants.models import Invitation, Membership, ServiceToken, Session, User
from tenants.people import kind_of, memberships_of
from tenants.service_tokens import Issued
from tenants.sign_in import SignedIn


def signed_in_body(signed_in: SignedIn) -> dict[str, Any]:
    return {
        "token": signed_in.token,
        "token_type": "Bearer",
        "expires_at": moment(signed_in.session.expires_at),
        "username": signed_in.user.username,
        "must_change_password": signed_in.user.must_change_password,
    }


def operator_body(user: User, password: str | None = None) -> dict[str, Any]:
    """`password` is there in the one answer that tells one which was made here."""
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
        **({} if password is None else {"password": password}),
    }


def oneself_body(session: Session) -> dict[str, Any]:
    return {
        **operator_body(session.user),
        "memberships": [
            {"tenant": str(tenant_id), "role": role}
            for tenant_id, role in memberships_of(session.user).items()
        ],
        "session": {"id": str(session.id), "expires_at": moment(session.expires_at)},
    }


def session_body(session: Session, current: Session | None) -> dict[str, Any]:
    """`door`: signed in to the admin API, or to the console. `current`: the one that this was asked with."""
    return {
        "id": str(session.id),
        "object": "session",
        "operator": str(session.user_id),
        "username": session.user.username,
        "door": "api" if session.cookie_hash is None else "console",
        "current": current is not None and current.pk == session.pk,
        "address": session.address or None,
        "user_agent": session.user_agent or None,
        "created_at": moment(session.created_at),
        "expires_at": moment(session.expires_at),
        "idle_ends_at": moment(session.idle_ends_at),
    }


def token_body(token: ServiceToken) -> dict[str, Any]:
    """Reads `token.created_by`: fetch it with the rows of a list."""
    maker = token.created_by
    return {
        "id": str(token.id),
        "object": "service_token",
        "name": token.name,
        "scopes": token.scopes,
        "prefix": token.prefix,
        "created_by": {"type": kind_of(maker), "id": str(maker.id), "label": maker.username},
        "created_at": moment(token.created_at),
        "expires_at": moment(token.expires_at),
        "last_used_at": moment(token.last_used_at),
        "revoked_at": moment(token.revoked_at),
    }


def issued_token_body(issued: Issued) -> dict[str, Any]:
    """With the one sight of the credential."""
    return {**token_body(issued.token), "token": issued.credential.reveal().decode()}


def member_body(place: Membership, password: str | None = None) -> dict[str, Any]:
    """Reads `place.user`: fetch it with the rows of a list. `password` as for operators."""
    return {
        "id": str(place.id),
        "object": "member",
        "tenant": str(place.tenant_id),
        "user": str(place.user_id),
        "username": place.user.username,
        "email": place.user.email or None,
        "role": place.role,
        "is_active": place.user.is_active,
        "last_login": moment(place.user.last_login),
        "created_at": moment(place.created_at),
        **({} if password is None else {"password": password}),
    }


def invitation_body(invitation: Invitation) -> dict[str, Any]:
    return {
        "id": str(invitation.id),
        "object": "invitation",
        "tenant": str(invitation.tenant_id),
        "role": invitation.role,
        "email": invitation.email or None,
        "max_uses": invitation.max_uses,
        "uses": invitation.uses,
        "status": status_of(invitation, SYSTEM.now()),
        "created_by": {
            "type": invitation.created_by_type,
            "id": invitation.created_by_id,
            "label": invitation.created_by_label,
        },
        "created_at": moment(invitation.created_at),
        "expires_at": moment(invitation.expires_at),
        "revoked_at": moment(invitation.revoked_at),
    }


def invited_body(invited: Invited) -> dict[str, Any]:
    """With the one sight of the secret."""
    return {**invitation_body(invited.invitation), "token": invited.secret.reveal().decode()}
