"""What a form of the console carries: for whom, for what and for which version of a thing it was drawn; good for one time.

A ticket is signed and stored nowhere, so that looking at a page changes nothing. It is spent in the transaction of the change
that it stands for: of any number of submissions at once one gets through, by the unique nonce.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.core import signing
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from tenants import keyring
from tenants.clock import SYSTEM
from tenants.errors import Conflict
from tenants.models import SpentTicket

#: A page that asks before something drastic is drawn anew when it is older.
CONFIRM_LIFE: Final = timedelta(minutes=5)
#: As long as a session can last.
FORM_LIFE: Final = timedelta(hours=8)
#: Longer than any ticket lives.
_REMEMBERED: Final = timedelta(days=2)
_SWEPT_AT_ONCE: Final = 100
_SALT: Final = "gatehouse.console.ticket"


class BadTicket(Conflict):
    """Not one of ours, for something else, or of another session."""

    code = "bad_ticket"

    def __init__(self) -> None:
        super().__init__("This form was not drawn for this. Nothing was done.")


class Outdated(Conflict):
    """Too old, or the thing has changed since."""

    code = "stale"

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message or "This was changed while the page was open. Nothing was done; look again."
        )


class Spent(Conflict):
    """The same form was carried out before; `place` is where that is to be seen."""

    code = "already_done"

    def __init__(self, place: str) -> None:
        super().__init__("This form was sent before and carried out then. Nothing was done again.")
        self.place = place


@dataclass(frozen=True, slots=True)
class Errand:
    """What a form is for: `session` (its id), `action` (`key.rotated`), the thing's id (empty for a new one), its version."""

    session: str
    action: str
    object_id: str = ""
    version: str = ""


def _key() -> str:
    return keyring.platform_key(keyring.SIGN_IN, "console-ticket").reveal().hex()


def issue(errand: Errand) -> str:
    nonce = secrets.token_urlsafe(18)
    told = [errand.session, errand.action, errand.object_id, errand.version, nonce]
    return signing.dumps(told, key=_key(), salt=_SALT)


def _read(text: str, life: timedelta | None = None) -> Any:
    """Raises `BadSignature`. Our key alone counts: Django would take those that SECRET_KEY once was as well."""
    return signing.loads(text, key=_key(), salt=_SALT, max_age=life, fallback_keys=[])


def nonce_of(text: str, errand: Errand, life: timedelta) -> str:
    """The nonce of a good ticket. Raises `BadTicket`, and `Outdated` for one that is too old or of another version."""
    try:
        told = _read(text)
        session, action, object_id, version, nonce = told
    except (signing.BadSignature, ValueError, TypeError):
        raise BadTicket from None
    if (session, action, object_id) != (errand.session, errand.action, errand.object_id):
        raise BadTicket
    _refuse_spent(nonce)
    if version != errand.version:
        raise Outdated
    try:
        _read(text, life)
    except signing.SignatureExpired:
        raise Outdated("This page was open for too long. Nothing was done; look again.") from None
    return str(nonce)


def _refuse_spent(nonce: str) -> None:
    """Before anything else is said: what was carried out has changed the version too."""
    spent = SpentTicket.objects.filter(nonce=nonce).first()
    if spent is not None:
        raise Spent(spent.place)


def over(now: datetime) -> "QuerySet[SpentTicket]":
    """Those that no form can be sent with any more."""
    return SpentTicket.objects.filter(created_at__lt=now - _REMEMBERED)


def spend(nonce: str) -> SpentTicket:
    """To be called inside the transaction of the change. Raises `Spent` when somebody was faster."""
    swept = list(over(SYSTEM.now()).values_list("pk", flat=True)[:_SWEPT_AT_ONCE])
    SpentTicket.objects.filter(pk__in=swept).delete()
    try:
        with transaction.atomic():
            return SpentTicket.objects.create(nonce=nonce)
    except IntegrityError:
        raise Spent("") from None


def note_place(spent: SpentTicket, place: str) -> None:
    """Where what was done is to be seen: who sends the form again is led there."""
    spent.place = place
    spent.save(update_fields=["place"])
