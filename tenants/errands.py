"""Who is at a page of the console, what their role allows, and how a form of theirs is carried out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn, TypeVar

from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tenants import changes, tickets
from tenants.actor import Actor
from tenants.audit import Entry, Target
from tenants.console_forms import HouseForm
from tenants.errors import Conflict, ServiceError, Unavailable
from tenants.models import AuditEvent, Session, User
from tenants.sessions import SessionStore
from tenants.tickets import BadTicket, Errand, Outdated, Spent

logger = logging.getLogger(__name__)

TICKET_FIELD = "ticket"

T = TypeVar("T")


# --- who is there -----------------------------------------------------------------------------------------------------


def session_in(request: HttpRequest) -> Session:
    """The session that the request came with. Raises `PermissionDenied` where there is none."""
    store = request.session
    if not isinstance(store, SessionStore) or store.operator is None or store.row is None:
        raise PermissionDenied
    return store.row


def role_of(request: HttpRequest) -> str:
    """Empty for nobody."""
    return request.user.role if isinstance(request.user, User) else ""


def actor_of(request: HttpRequest) -> Actor:
    """The signed-in operator, as services want to know them."""
    user = session_in(request).user
    visitor: Actor = request.visitor  # type: ignore[attr-defined]
    operator = visitor.named(type="operator", id=str(user.id), label=user.username)
    return replace(operator, method="session")


def refuse(request: HttpRequest) -> NoReturn:
    """Somebody we know tried what their role does not allow: that is written down. Raises `PermissionDenied`."""
    match = request.resolver_match
    target = Target("route", match.view_name if match else "", f"{request.method} {request.path}")
    _note_refusal(request, "access.refused", target, "forbidden")
    raise PermissionDenied


def require(request: HttpRequest, allowed: frozenset[str]) -> None:
    """Raises `PermissionDenied` for everybody whose role is not among them."""
    if role_of(request) not in allowed:
        refuse(request)


def _note_refusal(request: HttpRequest, action: str, target: Target, code: str) -> None:
    entry = Entry(
        actor_of(request),
        action,
        target,
        outcome=AuditEvent.Outcome.REFUSED,
        error_code=code,
    )
    try:
        changes.note(entry)
    except DatabaseError:
        # Nothing changed, so nothing is hidden; the refusal itself must still reach the operator.
        logger.exception("A refusal could not be written to the audit log.")


# --- carrying out a form ----------------------------------------------------------------------------------------------


def show_refusal(form: HouseForm, refusal: ServiceError) -> int:
    """What a service said, beside the fields it spoke of. Returns the status to answer with."""
    for field, sentence in refusal.fields.items():
        form.add_error(field if field in form.fields else None, sentence)
    if not refusal.fields:
        form.add_error(None, refusal.message)
    if isinstance(refusal, Conflict):
        return 409
    return 503 if isinstance(refusal, Unavailable) else 400


def carry_out(
    request: HttpRequest,
    errand: Callable[[], Errand],
    life: timedelta,
    act: Callable[[Actor], T],
    place_of: Callable[[T], str],
) -> T:
    """Do what a form stands for: once, by whom it was drawn for, and for the version that they saw.

    `errand` says what the form must stand for as things are now; it is asked when nobody else can change them any more.
    Raises `Spent`, `Outdated`, `BadTicket`, and whatever `act` refuses; then nothing was done and the form may be sent again.
    """
    actor = actor_of(request)
    text = request.POST.get(TICKET_FIELD, "")
    try:
        with changes.in_turn():
            nonce = tickets.nonce_of(text, errand(), life)
            spent = tickets.spend(nonce)
            try:
                result = act(actor)
            except ServiceError as fault:
                # The transaction goes on: the row that tells of the refusal stands in it.
                spent.delete()
                refusal: ServiceError | None = fault
            else:
                refusal = None
                tickets.note_place(spent, place_of(result))
    except (Spent, Outdated, BadTicket) as fault:
        wanted = errand()
        target = Target("form", wanted.object_id or "new", request.path)
        _note_refusal(request, wanted.action, target, fault.code)
        raise
    if refusal is not None:
        raise refusal
    return result


def already_done(request: HttpRequest, spent: Spent) -> HttpResponse:
    """The same form once more: by a double click, a reload, or the way back."""
    context = {"title": "Already done", "place": spent.place, "sentence": spent.message}
    return render(request, "console/already_done.html", context, status=409)
