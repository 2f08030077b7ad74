"""The whole server as a process: it starts, answers, loses a worker, ends, and leaves nothing behind."""

import time
from collections.abc import Callable

import httpx
import pytest

from tests.support.server import Server, ServerFailed

Gatehouse = Callable[..., Server]


def test_a_seeded_server_is_ready_and_ends_cleanly(gatehouse: Gatehouse):
    server = gatehouse()
    assert httpx.get(f"{server.url}/livez", trust_env=False).status_code == 200
    assert server.query("SELECT slug FROM tenants_tenant WHERE slug = %s", ["default"]) == [
        ("default",)
    ]
    assert server.stop() == 0
    assert server.leftovers() == []


def replacement(server: Server) -> int:
    """Kill a worker and wait for the one in its place, which is then only just starting."""
    before = set(server.worker_pids())
    server.kill_worker()
    deadline = time.monotonic() + 20
    while not (fresh := set(server.worker_pids()) - before):
        assert time.monotonic() < deadline, "no worker came in the place of the killed one"
        time.sleep(0.005)
    return fresh.pop()


@pytest.mark.sqlite
def test_a_killed_worker_is_replaced(gatehouse: Gatehouse):
    server = gatehouse(workers=2)
    fresh = replacement(server)
    server.wait_ready()
    time.sleep(1)  # the next test is about ending while a worker starts
    assert fresh in server.worker_pids()
    assert len(server.worker_pids()) == 2


@pytest.mark.sqlite
def test_a_worker_that_is_only_just_starting_ends_in_time_too(gatehouse: Gatehouse):
    server = gatehouse(workers=2)
    replacement(server)
    assert server.stop(within=15) == 0


@pytest.mark.sqlite
def test_a_server_killed_whole_starts_again_on_its_port(gatehouse: Gatehouse):
    server = gatehouse()
    port = server.port
    server.kill()
    server.start()
    assert server.port == port


@pytest.mark.sqlite
def test_what_was_started_wrongly_says_why(gatehouse: Gatehouse):
    server = gatehouse(serve=False, env={"GATEHOUSE_KEK": "00"})
    with pytest.raises(ServerFailed, match="GATEHOUSE_KEK"):
        server.start()


@pytest.mark.sqlite
def test_a_command_that_fails_shows_its_errors(gatehouse: Gatehouse):
    server = gatehouse(serve=False)
    with pytest.raises(ServerFailed, match="no-such-command"):
        server.run("no-such-command")
