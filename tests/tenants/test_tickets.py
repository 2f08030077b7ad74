"""What a form of the console carries: nobody can make one but us."""

from datetime import timedelta

import pytest
from django.core import signing
from pytest_django.fixtures import Settings

from tenants import tickets
from tenants.tickets import BadTicket, Errand

ERRAND = Errand("a session", "key.rotated", "a key", "a version")
LIFE = timedelta(minutes=5)

pytestmark = pytest.mark.django_db


def test_a_ticket_is_good_for_its_errand() -> None:
    assert tickets.nonce_of(tickets.issue(ERRAND), ERRAND, LIFE)


def test_a_ticket_that_was_signed_with_an_old_secret_key_is_none_of_ours(
    settings: Settings,
) -> None:
    old = "a secret key that somebody found" * 2
    settings.SECRET_KEY_FALLBACKS = [old]
    told = [ERRAND.session, ERRAND.action, ERRAND.object_id, ERRAND.version, "nonce"]
    forged = signing.dumps(told, key=old, salt="gatehouse.console.ticket")
    with pytest.raises(BadTicket):
        tickets.nonce_of(forged, ERRAND, LIFE)
