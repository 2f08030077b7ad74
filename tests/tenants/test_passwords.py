"""Passwords are hashed and checked before anything is locked, and still the right ones are changed."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from django.contrib.auth import hashers
from django.db import connection

from tenants import operator_services, sign_in
from tenants.actor import system_actor
from tenants.models import User
from tenants.sign_in import BadCredentials
from tests.cast import PASSWORD

HERE = system_actor("story")
NEW_PASSWORD = "a lamp, a wall, a heron"


@dataclass
class Hashing:
    """What happens whenever a password is hashed or checked."""

    times: int = 0
    in_a_transaction: int = 0
    then: Callable[[], object] = bool


@pytest.fixture
def hashing(cheap_passwords: None, monkeypatch: pytest.MonkeyPatch) -> Hashing:
    seen = Hashing()

    encode = hashers.MD5PasswordHasher.encode

    def watched(self: hashers.MD5PasswordHasher, password: str, salt: str) -> str:
        seen.times += 1
        seen.in_a_transaction += connection.in_atomic_block
        seen.then()
        return encode(self, password, salt)

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", watched)
    return seen


def changed(user: User, password: str = NEW_PASSWORD) -> None:
    sign_in.change_password(actor=HERE, user=user, current=PASSWORD, new=password, keep=None)


@pytest.mark.django_db(transaction=True)
def test_nothing_is_locked_while_a_password_is_hashed(hashing: Hashing) -> None:
    user = operator_services.create_operator(actor=HERE, username="somebody", password=PASSWORD)
    changed(user)
    operator_services.reset_password(actor=HERE, username="somebody", password=PASSWORD)
    assert hashing.times >= 4
    assert hashing.in_a_transaction == 0
    user.refresh_from_db()
    assert user.check_password(PASSWORD)


@pytest.mark.django_db
def test_a_password_that_changes_while_it_is_checked_is_not_changed_again(
    operator: User, hashing: Hashing
) -> None:
    other = hashers.make_password("of somebody faster")
    hashing.then = lambda: User.objects.filter(pk=operator.pk).update(password=other)
    with pytest.raises(BadCredentials):
        changed(operator)
    operator.refresh_from_db()
    assert operator.password == other


@pytest.mark.django_db
def test_a_wrong_password_costs_one_hash(operator: User, hashing: Hashing) -> None:
    with pytest.raises(BadCredentials):
        sign_in.change_password(
            actor=HERE, user=operator, current="wrong", new=NEW_PASSWORD, keep=None
        )
    assert hashing.times == 1
