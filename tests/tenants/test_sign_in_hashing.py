"""A sign-in hashes for a while; a connection to the database is not for that."""

import pytest
from django.db import connection

from tenants import sign_in
from tenants.actor import system_actor
from tenants.sign_in import BadCredentials


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_held_while_a_password_is_hashed(monkeypatch: pytest.MonkeyPatch):
    held: list[bool] = []
    monkeypatch.setattr(
        sign_in, "make_password", lambda password: held.append(connection.connection is not None)
    )
    with pytest.raises(BadCredentials):
        sign_in.sign_in(actor=system_actor("test"), username="nobody", password="wrong")
    assert held == [False]
