"""Attempts to sign in, counted by the address that they come from, and by the name that they are for.

An address may make so many in a minute; what is more is not looked at, right or wrong. A name locks nobody out: the answers for
one that many wrong passwords were tried for come later, by two seconds at most, and to everybody, so that the wait tells nothing.

What was typed as a name is not kept, for people type passwords into the wrong field: a keyed digest is, for a quarter of an hour.
"""

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tenants import keyring
from tenants.actor import Actor
from tenants.clock import SYSTEM
from tenants.errors import ServiceError
from tenants.models import SignInTry

API: Final = "api"
CONSOLE: Final = "console"
#: Attempts that one address may make in the time that they are held against it, by door; wrong ones by both doors together.
MOST: Final = {API: 5, CONSOLE: 30}
WRONG_TRIES: Final = 5
HELD_AGAINST: Final = timedelta(minutes=1)
#: How long wrong tries for a name are remembered; how many cost nothing; what the next costs, and at most (seconds).
REMEMBERED: Final = timedelta(minutes=15)
FREE_TRIES: Final = 3
_FIRST_WAIT: Final = 0.25
LONGEST_WAIT: Final = 2.0
#: Of a name whoever has guessed for long; the wait has long been the longest.
_COUNTED: Final = 16


class TooManyTries(ServiceError):
    """So many came from one address that nothing from there is looked at for a while, right or wrong."""

    code = "rate_limit_exceeded"

    def __init__(self) -> None:
        super().__init__("Too many attempts to sign in. Wait a minute, then try again.")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One that may go on. `wait`: seconds by which its answer is to be late."""

    row: SignInTry
    wait: float

    def failed(self) -> None:
        self._ended(good=False)

    def succeeded(self) -> None:
        self._ended(good=True)

    def _ended(self, *, good: bool) -> None:
        SignInTry.objects.filter(pk=self.row.pk).update(good=good)


def begin(actor: Actor, door: str, name: str) -> Attempt:
    """Before anything is looked at. Raises `TooManyTries`.

    It is written down first and counted then, so that many at once do not all find that they are the first.
    """
    now = SYSTEM.now()
    SignInTry.objects.filter(tried_at__lt=now - REMEMBERED).delete()
    digest = _digest(name)
    row = SignInTry(door=door, address=actor.address[:64], name_digest=digest, tried_at=now)
    wait = _wait_for(digest)
    row.save(force_insert=True)
    if actor.address and _is_too_much(row):
        row.delete()
        raise TooManyTries
    return Attempt(row, wait)


def _digest(name: str) -> bytes:
    key = keyring.platform_key(keyring.SIGN_IN, "names-of-tries").reveal()
    return hmac.digest(key, name.casefold().encode(errors="surrogatepass"), "sha256")


def _is_too_much(row: SignInTry) -> bool:
    """Whether enough came before it. What is still being looked at counts as wrong."""
    before = (
        SignInTry.objects.filter(address=row.address, tried_at__gt=row.tried_at - HELD_AGAINST)
        .exclude(pk=row.pk)
        .values_list("door", "good")[: MOST[API] + MOST[CONSOLE]]
    )
    found = list(before)
    wrong = sum(not good for _, good in found)
    by_this_door = sum(door == row.door for door, _ in found)
    return wrong >= WRONG_TRIES or by_this_door >= MOST[row.door]


def _wait_for(name_digest: bytes) -> float:
    wrong = SignInTry.objects.filter(name_digest=name_digest, good=False)[:_COUNTED].count()
    if wrong < FREE_TRIES:
        return 0.0
    return min(LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (wrong - FREE_TRIES))
