"""What every view of the admin API is: strict about what comes in, never cached, and it knows who is there."""

import logging
from collections.abc import Mapping
from typing import Any, Final, NoReturn
from uuid import UUID, uuid5

from django.db import DatabaseError
from django.utils.cache import patch_vary_headers
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from gateway import context
from gateway.api.errors import ScopeMissing, SessionRequired
from gateway.api.once import Asker, OnceView
from gateway.api.permissions import Access, method_of
from gateway.api.principals import Principal
from gateway.api.reach import Reach
from tenants.actor import Actor
from tenants.audit import Entry, Target
from tenants.changes import note
from tenants.keyring import NO_TENANT
from tenants.models import AuditEvent, Session

logger = logging.getLogger(__name__)

NEVER_CACHED = "private, no-store"
#: In which whoever asks has an id, whatever they are.
_ASKERS: Final = UUID("5f0c2a52-6f0e-4d6c-9d9b-3d1f6f3f7a10")


class AdminView(OnceView):
    """The base of all. `access` comes from `urls.py`; a view that was given none is closed."""

    access: Mapping[str, Access] = {}
    metadata_class = None
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]  # noqa: RUF012 - Django's own attribute

    @property
    def reach(self) -> Reach:
        """Whose rows whoever is there may touch by this method. Every look-up of what can be a tenant's goes by it."""
        access = self.access[method_of(self.request)]
        found = access.reach_of(principal_in(self.request))
        if found is None:
            raise PermissionDenied
        return found

    def asker_of(self, request: Request) -> Asker | None:
        who = request.user
        if not isinstance(who, Principal):
            return None
        reach = "all" if self.reach.tenants is None else sorted(map(str, self.reach.tenants))
        rights = f"{who.role} {sorted(who.scopes or ())} {reach}"
        return Asker(NO_TENANT, uuid5(_ASKERS, who.id), rights)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers["Cache-Control"] = NEVER_CACHED
        patch_vary_headers(response, ["Authorization", "Cookie"])
        return response

    def permission_denied(
        self, request: Request, message: str | None = None, code: str | None = None
    ) -> NoReturn:
        """Somebody we know tried what their role does not allow: that is written down."""
        if not isinstance(request.user, Principal):
            raise NotAuthenticated
        match = request.resolver_match
        entry = Entry(
            actor_of(request),
            "access.refused",
            Target(
                "route",
                match.url_name or "" if match else "",
                f"{method_of(request)} {match.route if match else ''}",
            ),
            outcome=AuditEvent.Outcome.REFUSED,
            error_code=code or "forbidden",
            details={name: str(value) for name, value in self.kwargs.items()},
        )
        try:
            note(entry)
        except DatabaseError:
            # Nothing changed, so nothing is hidden; the refusal itself must still reach the caller.
            logger.exception("A refusal could not be written to the audit log.")
        raise ScopeMissing if code == "scope_missing" else PermissionDenied


def _circumstances(request: Request) -> dict[str, str]:
    return context.circumstances(request.META, request.request_id, "api")  # type: ignore[attr-defined]


def principal_in(request: Request) -> Principal:
    """Who is there."""
    if not isinstance(request.user, Principal):
        raise NotAuthenticated
    return request.user


def session_in(request: Request) -> Session:
    """The session that the request came with; its `user` is who is there. Raises `SessionRequired` for other credentials."""
    session = principal_in(request).session
    if session is None:
        raise SessionRequired
    return session


def actor_of(request: Request) -> Actor:
    """Who is there, as services want to know them."""
    who = principal_in(request)
    return Actor(
        type=who.type, id=who.id, label=who.label, method=who.method, **_circumstances(request)
    )


def visitor(request: Request) -> Actor:
    """Somebody who has not shown yet who they are. What they typed is not kept: it may be a password in the wrong field."""
    return Actor(
        type="visitor",
        id="anonymous",
        label="anonymous",
        method="password",
        **_circumstances(request),
    )
