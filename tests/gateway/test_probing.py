"""How providers are, and how busy: asked by one worker for all, told by the admin API, `/health/detail` and the console."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.probing import Prober
from providers import health, services
from providers.models import ProviderHealth
from tenants import changes
from tests.gateway.door import PROMPT, Door, eventually, opened
from tests.providers.test_discovery import Upstream
from tests.support.server import Yard

PLANTED = "sk-planted-in-the-probe-0123"


@pytest.fixture
def upstream(settings) -> Iterator[Upstream]:
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def watched(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Two workers that ask twice a second."""
    env = {"GATEHOUSE_PROBE_SECONDS": "0.5"}
    with opened(yard, tmp_path_factory.mktemp("probing"), env, workers=2) as door:
        yield door


def seen(door: Door, provider_id: str) -> dict:
    return dict(door.admin.call("GET", f"providers/{provider_id}")["health"])


def becomes(door: Door, provider_id: str, state: str) -> dict:
    return eventually(
        lambda: found if (found := seen(door, provider_id))["state"] == state else {}, 20
    )


# What an answer means


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (200, b'{"data": [{"id": "m"}]}', "up"),
        (200, b"<html>", "degraded"),
        (404, b"no list here", "degraded"),
        (429, b"slowly", "degraded"),
        (401, b"who?", "down"),
        (403, b"not you", "down"),
        (500, b"oh", "down"),
        (503, b"later", "down"),
    ],
)
def test_every_answer_is_told_as_what_it_is(api, upstream, status, body, state):
    fields = {"name": "u", "kind": "openai-compatible", "base_url": upstream.url}
    made = api.post("providers", {**fields, "api_key": PLANTED}).json()
    path = f"providers/{made['id']}"
    assert made["health"] == {
        "state": "unknown",
        "checked_at": None,
        "latency_ms": None,
        "last_error": None,
        "in_flight": 0,
        "max_slots": None,
    }
    upstream.status, upstream.body = status, body + PLANTED.encode() * (state != "up")
    epoch = changes.epoch()
    assert api.post(f"{path}/test").json()["status"] == status
    shown = api.get(path).json()["health"]
    assert api.get("providers").json()["data"][0]["health"] == shown
    assert (shown["state"], changes.epoch()) == (state, epoch)
    assert shown["checked_at"]
    assert shown["latency_ms"] >= 0
    assert (shown["last_error"] is None) is (state == "up")
    assert PLANTED not in json.dumps(shown)
    api.patch(path, {"is_active": False, "max_concurrency": 7})
    shown = api.get(path).json()["health"]
    assert (shown["state"], shown["max_slots"]) == ("off", 7)


def test_what_cannot_even_be_asked_is_down_and_says_why(db, staging, upstream, settings):
    provider = services.create_provider(
        actor=staging, name="u", kind="openai-compatible", base_url=upstream.url, api_key=PLANTED
    )
    provider.credentials.update(sealed=b"changed")
    settings.ALLOWED_UPSTREAMS = []
    Prober(1.0).look()
    found = health.health_of([provider])[provider.id]
    assert (found.state, found.status) == ("down", None)
    assert "not public" in (found.last_error or "") or "base_url" in (found.last_error or "")
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]
    Prober(0.0).look()
    assert "cannot be read" in (health.health_of([provider])[provider.id].last_error or "")
    assert upstream.requests == []


def test_only_what_is_on_is_asked_and_what_is_deleted_meanwhile_leaves_nothing(
    db, staging, upstream
):
    fields = {"actor": staging, "kind": "openai-compatible", "base_url": upstream.url}
    services.create_provider(name="off", is_active=False, **fields)
    Prober(1.0).look()
    assert upstream.requests == []
    gone = services.create_provider(name="gone", **fields)
    reply = health.asking(gone)()
    services.delete_provider(actor=staging, provider_id=gone.id)
    health.record(gone.id, reply)
    assert not ProviderHealth.objects.exists()


def test_it_is_asked_once_in_its_interval(db, staging, upstream):
    services.create_provider(
        actor=staging, name="u", kind="openai-compatible", base_url=upstream.url
    )
    first, second = Prober(60.0), Prober(60.0)
    for prober in (first, second, first):
        prober.look()
    assert len(upstream.requests) == 1
    assert (first.rounds, second.rounds) == (1, 0)


# On a real server


def test_a_provider_that_goes_away_is_down_and_is_up_again_when_it_is_back(
    watched: Door, upstream: Upstream
) -> None:
    provider = watched.new_provider(upstream.url, PLANTED)
    assert becomes(watched, provider, "up")["last_error"] is None
    calls = len(watched.oracle.made())
    upstream.status, upstream.body = 503, b"gone"
    down = becomes(watched, provider, "down")
    assert "503" in down["last_error"]
    told = {it["id"]: it for it in watched.admin.detail()["providers"]}
    assert (told[provider]["state"], told[watched.provider_id]["state"]) == ("down", "up")
    assert told[watched.provider_id]["name"] == "oracle"
    upstream.status, upstream.body = 200, b'{"data": []}'
    assert becomes(watched, provider, "up")["checked_at"] > down["checked_at"]
    assert len(watched.oracle.made()) == calls


def test_calls_in_flight_are_counted_over_all_workers_beside_their_limit(watched: Door) -> None:
    provider = watched.new_provider(watched.oracle.api, watched.upstream_key, max_concurrency=50)
    name = watched.new_model("long-calls", provider, "drip:400x0.05")
    body = {"model": name, "messages": PROMPT, "stream": True}
    before = seen(watched, provider)
    assert (before["in_flight"], before["max_slots"]) == (0, 50)
    with ExitStack() as running:
        for _ in range(4):
            stream = watched.client.stream(
                "POST", "/v1/chat/completions", json=body, headers=watched.key.bearer
            )
            assert running.enter_context(stream).status_code == 200
        eventually(lambda: seen(watched, provider)["in_flight"] == 4)
        assert seen(watched, watched.provider_id)["in_flight"] == 0
    eventually(lambda: seen(watched, provider)["in_flight"] == 0)


def test_one_worker_asks_for_all(watched: Door, upstream: Upstream) -> None:
    provider = watched.new_provider(upstream.url, PLANTED)
    becomes(watched, provider, "up")
    began, before = time.monotonic(), len(upstream.requests)
    time.sleep(3)
    asked = len(upstream.requests) - before
    assert 1 <= asked <= (time.monotonic() - began) / 0.5 + 1
    assert {told["authorization"] for _, told in upstream.requests} == {f"Bearer {PLANTED}"}


@pytest.mark.sqlite
def test_nobody_is_asked_where_that_is_switched_off(
    yard: Yard, tmp_path: Path, upstream: Upstream
) -> None:
    with opened(yard, tmp_path, {"GATEHOUSE_PROBE_SECONDS": "0"}) as door:
        provider = door.new_provider(upstream.url, PLANTED)
        time.sleep(1.0)
        assert seen(door, provider)["state"] == "unknown"
        assert "probing" not in door.admin.detail()["reports"]
    assert upstream.requests == []
