"""Answers to who guesses at a name come late, from a real server."""

import secrets
import time

import httpx
import pytest

from tenants.tries import FREE_TRIES, LONGEST_WAIT
from tests.gateway.door import Door
from tests.support.addresses import new_address

# How late an answer comes is for no database to say.
pytestmark = pytest.mark.sqlite


def _seconds(door: Door, username: str) -> float:
    """How long a wrong password takes, from somewhere else each time."""
    way = httpx.HTTPTransport(local_address=new_address())
    body = {"username": username, "password": "wrong"}
    with httpx.Client(base_url=door.server.url, transport=way, timeout=30) as client:
        began = time.monotonic()
        answer = client.post("/v1/admin/auth/login", json=body)
    assert answer.status_code == 401, answer.text
    return time.monotonic() - began


def test_who_guesses_at_a_name_waits_and_who_guesses_at_another_does_not(door: Door):
    name, other = (f"nobody-{secrets.token_hex(4)}" for _ in range(2))
    for _ in range(FREE_TRIES + 3):
        _seconds(door, name)
    assert _seconds(door, name) >= LONGEST_WAIT
    assert door.admin.call("GET", "auth/me")["username"]
    assert min(_seconds(door, other) for _ in range(FREE_TRIES)) < LONGEST_WAIT
