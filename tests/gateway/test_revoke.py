"""Revoked means revoked: on every worker, under load, for calls that run, and whatever is broken beside it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest

from tests.chaos.proxy import Proxy
from tests.chaos.stage import House, Key, chat, client, is_sqlite, opened, wires
from tests.chaos.streams import Stream, assert_charged
from tests.support import environment, services
from tests.support.server import Server, Yard

pytestmark = [pytest.mark.chaos, pytest.mark.data_plane]

#: Seconds in which a change is seen where the database is not in this process.
SEEN_WITHIN = 1.0
#: Seconds in which a running stream ends.
ENDS_WITHIN = 1.0


@pytest.fixture(scope="module")
def house(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two workers, no Redis."""
    with opened(yard, tmp_path_factory.mktemp("revoke")) as house:
        yield house


def ask(caller: httpx.Client, key: Key) -> int:
    """The status of one small call."""
    status = caller.get("/v1/models", headers=key.headers).status_code
    assert status in {200, 401, 503}
    return status


def seconds_until_refused(clients: list[httpx.Client], key: Key, limit: float) -> float:
    """How long after now the last worker still let the key in. Raises AssertionError past the limit."""
    began = time.monotonic()
    for caller in clients:
        while (status := ask(caller, key)) == 200:
            assert time.monotonic() - began < limit, "a worker still lets the key in"
            time.sleep(0.01)
        assert status == 401
    took = time.monotonic() - began
    assert [ask(each, key) for each in clients] == [401] * len(clients), "it came back"
    return took


def assert_refused_everywhere(house: House, clients: list[httpx.Client], key: Key) -> None:
    """SQLite: by the very next request of every worker. Else within a second."""
    if is_sqlite(house.server):
        assert [ask(each, key) for each in clients] == [401] * len(clients)
    else:
        seconds_until_refused(clients, key, SEEN_WITHIN)


Ending = Callable[[House, Key, str], object]
ENDINGS: dict[str, Ending] = {
    "revoked": lambda house, key, tenant: house.stage.revoke(key),
    "paused": lambda house, key, tenant: house.stage.patch(f"keys/{key.id}", is_active=False),
    "rotated without grace": lambda house, key, tenant: house.stage.rotate(key),
    "tenant suspended": lambda house, key, tenant: house.stage.patch(
        f"tenants/{tenant}", status="inactive"
    ),
    "deleted": lambda house, key, tenant: house.stage.http.delete(
        f"tenants/{tenant}/api-keys/{key.id}?permanent=true"
    ).raise_for_status(),
}


def a_tenant_with_a_key(house: House) -> tuple[str, Key]:
    tenant = house.stage.tenant(f"Tenant {time.monotonic_ns()}")
    return tenant, house.stage.key(tenant)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_key_that_ended_is_refused_by_every_worker(house: House, ending: str):
    tenant, key = a_tenant_with_a_key(house)
    with wires(house.server, key) as clients:
        ENDINGS[ending](house, key, tenant)
        assert_refused_everywhere(house, clients, key)


def test_what_was_paused_or_suspended_comes_back(house: House):
    tenant, key = a_tenant_with_a_key(house)
    with wires(house.server, key) as clients:
        for path, off, on in (
            (f"keys/{key.id}", {"is_active": False}, {"is_active": True}),
            (f"tenants/{tenant}", {"status": "inactive"}, {"status": "active"}),
        ):
            house.stage.patch(path, **off)
            assert_refused_everywhere(house, clients, key)
            house.stage.patch(path, **on)
            time.sleep(0 if is_sqlite(house.server) else SEEN_WITHIN)
            assert [ask(each, key) for each in clients] == [200, 200]


def test_an_expired_key_is_refused_from_its_moment_on(house: House):
    # On connections that are open already: to find one to every worker may take longer than this key lives.
    with wires(house.server, house.stage.key()) as clients:
        ends = datetime.now(UTC) + timedelta(seconds=2)
        key = house.stage.key(expires_at=ends.isoformat())
        assert [ask(each, key) for each in clients] == [200, 200]
        time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()))
        assert [ask(each, key) for each in clients] == [401, 401]


def test_a_rotated_key_works_on_until_its_grace_ends_and_what_runs_goes_on(house: House):
    old = house.stage.key()
    with wires(house.server, old) as clients:
        stream = Stream(house.server, old, "up/drip:50x0.06").wait_for(3)
        new = house.stage.rotate(old, grace=2)
        grace_ends = time.monotonic() + 2
        time.sleep(0 if is_sqlite(house.server) else SEEN_WITHIN)
        assert [ask(each, old) for each in clients] == [200, 200]
        assert [ask(each, new) for each in clients] == [200, 200]
        time.sleep(max(0.0, grace_ends - time.monotonic()) + 0.05)
        assert [ask(each, old) for each in clients] == [401, 401]
        assert [ask(each, new) for each in clients] == [200, 200]
    assert stream.wait() > grace_ends
    assert stream.is_whole


# --- under load -------------------------------------------------------------------------------------------------------


class Hammer:
    """Eight callers who never stop. `calls`: (began, status) of each, on the monotonic clock."""

    def __init__(self, server: Server, key: Key) -> None:
        self.calls: list[tuple[float, int]] = []
        self.faults: list[Exception] = []
        self._server = server
        self._key = key
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._strike, args=(n,), daemon=True) for n in range(8)
        ]

    def __enter__(self) -> "Hammer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, count: int, since: float) -> None:
        """Until so many calls that began after that moment have been answered."""
        deadline = time.monotonic() + 20
        while sum(began > since for began, _ in list(self.calls)) < count:
            assert time.monotonic() < deadline, f"{len(self.calls)} calls, faults: {self.faults}"
            time.sleep(0.01)

    def _strike(self, number: int) -> None:
        with client(self._server) as caller:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    if number % 2:
                        answer = caller.get("/v1/models", headers=self._key.headers)
                    else:
                        answer = caller.post(
                            "/v1/chat/completions", headers=self._key.headers, json=chat("up/ok")
                        )
                except httpx.TransportError as fault:
                    self.faults.append(fault)
                    return
                self.calls.append((began, answer.status_code))


@pytest.mark.parametrize("round_", range(2))
def test_no_call_that_began_after_a_revoke_was_answered_succeeds(house: House, round_: int):
    key = house.stage.key()
    allowed = 0.0 if is_sqlite(house.server) else SEEN_WITHIN
    with Hammer(house.server, key) as hammer:
        hammer.wait_for(50, 0.0)
        house.stage.revoke(key)
        answered = time.monotonic()
        hammer.wait_for(50, answered + allowed)
    assert hammer.faults == []
    assert {status for _, status in hammer.calls} == {200, 401}
    late = [began - answered for began, status in hammer.calls if status == 200]
    assert max(late) <= allowed, f"calls that began {max(late):.3f} s after the answer succeeded"


# --- calls that run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_running_stream_ends_within_a_second_and_pays_for_what_was_relayed(
    house: House, ending: str
):
    tenant, key = a_tenant_with_a_key(house)
    stream = Stream(house.server, key, "up/drip:200x0.05").wait_for(5)
    ENDINGS[ending](house, key, tenant)
    answered = time.monotonic()
    assert stream.wait() - answered < ENDS_WITHIN
    assert_ended_and_charged(house, stream)


def test_a_running_stream_ends_when_its_key_expires_even_if_that_was_decided_later(house: House):
    key = house.stage.key()
    stream = Stream(house.server, key, "up/drip:200x0.05").wait_for(5)
    ends = datetime.now(UTC) + timedelta(seconds=1.5)
    house.stage.patch(f"keys/{key.id}", expires_at=ends.isoformat())
    moment = time.monotonic() + (ends - datetime.now(UTC)).total_seconds()
    assert -0.1 < stream.wait() - moment < ENDS_WITHIN
    assert_ended_and_charged(house, stream)


def test_another_keys_revoke_leaves_a_stream_alone(house: House):
    key, other = house.stage.key(), house.stage.key()
    stream = Stream(house.server, key, "up/drip:30x0.05").wait_for(5)
    house.stage.revoke(other)
    stream.wait()
    assert stream.is_whole


def assert_ended_and_charged(house: House, stream: Stream) -> None:
    stream.assert_broken_off("invalid_api_key")
    request_id = assert_charged(house.server, stream, "invalid_api_key", "revoked")
    house.oracle.wait_closed(f"{request_id}-1")


def test_who_is_refused_in_the_middle_of_a_body_is_heard_again_on_the_same_connection(house: House):
    """Clients send head and body apart, so a key can end in between; what still comes of the body is not the next request's."""
    key = house.stage.key()
    body = json.dumps(chat("up/ok")).encode()
    asking = (
        "".join(f"{name}: {value}\r\n" for name, value in key.headers.items())
        + "host: gatehouse\r\n"
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{asking}content-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", house.server.port), timeout=10.0) as caller:
        caller.sendall(head.encode() + body[:5])
        time.sleep(SEEN_WITHIN / 2)  # read, looked up, and the rest of the body is waited for
        house.stage.revoke(key)
        time.sleep(SEEN_WITHIN)
        caller.sendall(body[5:])
        assert status_on(caller) == 401
        caller.sendall(f"GET /v1/models HTTP/1.1\r\n{asking}\r\n".encode())
        assert status_on(caller) == 401


def status_on(caller: socket.socket) -> int:
    """The next answer's status; the answer is read to its end."""
    answer = http.client.HTTPResponse(caller)
    answer.begin()
    answer.read()
    return answer.status


# --- Redis is a courtesy ----------------------------------------------------------------------------------------------


@pytest.fixture
def redis_proxy() -> Iterator[Proxy]:
    services.need_redis()
    where = urlsplit(environment.redis_url())
    with Proxy(where.hostname or "127.0.0.1", where.port or 6379) as proxy:
        yield proxy


@pytest.mark.redis
def test_a_redis_that_is_away_frozen_or_back_neither_fails_a_change_nor_delays_a_revoke(
    yard: Yard,
    tmp_path_factory: pytest.TempPathFactory,
    redis_proxy: Proxy,
    redis_space: services.RedisSpace,
):
    url = urlsplit(redis_space.url)._replace(netloc=f"127.0.0.1:{redis_proxy.port}").geturl()
    redis_proxy.cut()
    behind = services.RedisSpace(url, redis_space.prefix)
    with opened(yard, tmp_path_factory.mktemp("redis"), redis=behind) as house:
        revoke_in_time(house)
        redis_proxy.mend()
        time.sleep(2.5)  # workers try again every two seconds
        if not is_sqlite(house.server):
            assert subscribers(redis_space) == 2
        revoke_in_time(house)
        redis_proxy.freeze()
        revoke_in_time(house)
        redis_proxy.cut()
        revoke_in_time(house)


def revoke_in_time(house: House) -> None:
    key = house.stage.key()
    with wires(house.server, key) as clients:
        began = time.monotonic()
        house.stage.revoke(key)
        assert time.monotonic() - began < 1.0, "a change does not wait for Redis"
        assert_refused_everywhere(house, clients, key)


def subscribers(space: services.RedisSpace) -> int:
    with space.client() as client:
        return int(client.pubsub_numsub(f"{space.prefix}epoch")[0][1])
