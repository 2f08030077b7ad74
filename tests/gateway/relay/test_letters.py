"""A letterhead is written once for many calls, and a clear credential is not kept for longer than it is used."""

import pytest

from gateway.relay.letters import IDLE_SECONDS, Letters
from providers.errors import CredentialUnreadable
from providers.routing import Serving
from providers.types import Timeouts
from tests.gateway.relay.edge import UPSTREAM_KEY, Edge, known, route, upstream

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def target() -> Serving:
    return Serving(upstream(), "up-m")


def test_the_next_call_has_the_same_letterhead() -> None:
    letters, serving = Letters(Timeouts()), target()
    first = letters.letter(serving, "chat", (), 0.0)
    assert UPSTREAM_KEY in first.head.encoded
    assert letters.letter(serving, "chat", (), 59.0) is first
    assert letters.letter(serving, "embedding", (), 59.0) is not first
    assert letters.letter(serving, "chat", ((b"accept", b"a/b"),), 59.0) is not first
    # A provider that was changed is another target, however alike.
    assert letters.letter(target(), "chat", (), 59.0) is not first


def test_what_nobody_uses_is_forgotten() -> None:
    letters, often, seldom = Letters(Timeouts()), target(), target()
    letters.letter(seldom, "chat", (), 0.0)
    for second in range(int(IDLE_SECONDS)):
        letters.letter(often, "chat", (), float(second))
    letters.sweep(IDLE_SECONDS)
    assert len(letters) == 1
    letters.sweep(2 * IDLE_SECONDS)
    assert len(letters) == 0


def test_there_are_never_many() -> None:
    letters = Letters(Timeouts())
    for _ in range(1_010):
        letters.letter(target(), "chat", (), 0.0)
    assert len(letters) == 1_000


def test_a_credential_that_does_not_open_is_none_the_next_time_either() -> None:
    there = upstream()
    object.__setattr__(there, "key", (2, there.key[1] if there.key else None))
    letters, serving = Letters(Timeouts()), Serving(there, "m")
    for _ in range(2):
        with pytest.raises(CredentialUnreadable):
            letters.letter(serving, "chat", (), 0.0)
    assert len(letters) == 0


def test_a_letterhead_shows_nothing_of_itself() -> None:
    letter = Letters(Timeouts()).letter(target(), "chat", (), 0.0)
    assert UPSTREAM_KEY.decode() not in f"{letter!r} {letter.head!r}"


def test_each_try_has_its_own_id_on_the_same_letterhead() -> None:
    edge = Edge(found=known(route("m")), slots=1)
    edge.call(CHAT)
    (sent,) = edge.requests
    assert sent.attempt_id == f"{edge.intent.request_id.hex}-1"
    edge.house.letters.letter(edge.found.shared.find("m").targets[0], "chat", (), 0.0)
    assert len(edge.house.letters) == 1
