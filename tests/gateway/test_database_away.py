"""The database goes away under a running gateway: the known go on for a while, and nobody is called unknown."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gateway import snapshot
from keys import tokens
from tests.chaos.proxy import Proxy
from tests.chaos.stage import House, Key, chat, is_sqlite, opened, wires
from tests.gateway.door import eventually
from tests.support import environment
from tests.support.server import Server, Yard

pytestmark = pytest.mark.chaos

STALE_SECONDS = 3.0
#: Seconds after its return in which everybody must be served again.
BACK_WITHIN = 5.0
#: Seconds in which the pool of connections says that there is none.
POOL_SECONDS = 2.0


@contextmanager
def without_its_file(server: Server) -> Iterator[None]:
    """The files of a SQLite database are elsewhere, and a folder keeps anybody from making new ones."""
    path = Path(urlsplit(server.database_url).path[1:])
    files = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    aside = [file.rename(file.with_name(f"aside-{file.name}")) for file in files]
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        for file, elsewhere in zip(files, aside, strict=True):
            elsewhere.rename(file)


@contextmanager
def while_it(broken: Callable[[], None], mend: Callable[[], None]) -> Iterator[None]:
    broken()
    try:
        yield
    finally:
        mend()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy | None]:
    """Between the gateway and PostgreSQL; None on SQLite."""
    if environment.database() == "sqlite":
        yield None
        return
    where = urlsplit(environment.postgres_url())
    with Proxy(where.hostname or "127.0.0.1", where.port or 5432) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def house(
    yard: Yard, tmp_path_factory: pytest.TempPathFactory, proxy: Proxy | None
) -> Iterator[House]:
    env = {"GATEHOUSE_AUTH_STALE_SECONDS": str(STALE_SECONDS)}
    through = None if proxy is None else proxy.port
    with opened(yard, tmp_path_factory.mktemp("away"), env=env, database_port=through) as house:
        yield house


class Callers:
    """A key that every worker knows, one that none has met, and one that nobody ever issued."""

    def __init__(self, house: House, clients: list[httpx.Client], known: Key) -> None:
        self.known = known
        self.met_by_nobody = house.stage.key()
        self.invented = Key("", tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode())
        self.statuses: list[int] = []
        self._clients = clients
        self._at_once = ThreadPoolExecutor(len(clients))

    def ask(self, key: Key) -> list[int]:
        """What every worker answers to a real call."""
        answers = list(self._at_once.map(partial(_call, key), self._clients))
        for answer in answers:
            assert answer.status_code in {200, 401} or is_honest(answer), answer.text
        statuses = [answer.status_code for answer in answers]
        self.statuses += statuses
        return statuses


def _call(key: Key, client: httpx.Client) -> httpx.Response:
    return client.post("/v1/chat/completions", headers=key.headers, json=chat("up/ok"))


def is_honest(answer: httpx.Response) -> bool:
    return (
        answer.status_code == 503
        and answer.json()["error"]["code"] == "not_ready"
        and "retry-after" in answer.headers
    )


def story(house: House, away: AbstractContextManager[None], at_once: float) -> None:
    """`away` takes the database and brings it back; `at_once`: seconds in which an unknown key has its 503."""
    known = house.stage.key()
    with wires(house.server, known) as clients:
        callers = Callers(house, clients, known)
        time.sleep(1.0)  # every change so far has been seen
        assert callers.ask(known) == [200, 200]
        with away:
            went = time.monotonic()
            assert callers.ask(known) == [200, 200], "what is known goes on"
            assert callers.ask(callers.invented) == [503, 503], (
                "not looked is not the same as not found"
            )
            assert time.monotonic() - went < at_once
            assert callers.ask(callers.met_by_nobody) == [503, 503]
            assert httpx.get(f"{house.server.url}/readyz", timeout=10).status_code == 503
            assert httpx.get(f"{house.server.url}/livez", timeout=10).status_code == 200
            time.sleep(max(0.0, went + STALE_SECONDS + 0.3 - time.monotonic()))
            assert callers.ask(known) == [503, 503], "but not for ever"
        assert 401 not in callers.statuses
        assert_back(house, callers)


def assert_back(house: House, callers: Callers) -> None:
    deadline = time.monotonic() + BACK_WITHIN
    while (
        callers.ask(callers.known) != [200, 200] or callers.ask(callers.met_by_nobody) != [200] * 2
    ):
        assert time.monotonic() < deadline, f"not back after {BACK_WITHIN} s"
        time.sleep(0.05)
    assert 401 not in callers.statuses
    assert callers.ask(callers.invented) == [401, 401]
    house.server.wait_ready(BACK_WITHIN)
    # And a change is seen again as it always was.
    house.stage.revoke(callers.known)
    time.sleep(0 if is_sqlite(house.server) else 1.0)
    assert callers.ask(callers.known) == [401, 401]
    assert_all_counted(house)


def assert_all_counted(house: House) -> None:
    """Calls that were made while no table could be written are in the tables now."""
    made = {call.attempt_id for call in house.oracle.made()}
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        rows = house.server.query("SELECT request_id, n FROM usage_attempt")
        if made <= {f"{str(request_id).replace('-', '')}-{n}" for request_id, n in rows}:
            return
        time.sleep(0.1)
    raise AssertionError("calls are missing in the tables")


@pytest.mark.sqlite
def test_without_its_file_the_gateway_goes_on_for_a_while_and_comes_back(house: House):
    story(house, without_its_file(house.server), at_once=0.5)


@pytest.mark.postgres
def test_cut_off_from_postgres_the_gateway_goes_on_for_a_while_and_comes_back(
    house: House, proxy: Proxy
):
    story(house, while_it(proxy.cut, proxy.mend), at_once=POOL_SECONDS + 0.5)


@pytest.mark.postgres
def test_a_postgres_that_hangs_is_no_answer_either(house: House, proxy: Proxy):
    story(house, while_it(proxy.freeze, proxy.mend), at_once=snapshot.LOOKUP_SECONDS + 0.5)


@pytest.mark.postgres
def test_a_worker_that_dies_meanwhile_takes_nobody_along(house: House, proxy: Proxy):
    server = house.server
    workers = set(server.worker_pids())
    with while_it(proxy.cut, proxy.mend):
        (survivor,) = workers - {server.kill_worker()}
        time.sleep(5)  # in which at least one replacement has tried and failed
        assert "The worker could not start." in server.log_text()
        assert survivor in server.worker_pids()
        assert httpx.get(f"{server.url}/livez", timeout=10, trust_env=False).status_code == 200
    server.wait_ready(15)
    assert survivor in server.worker_pids()
    # Somebody reads what the dead worker had written down, as soon as there are tables for it.
    eventually(lambda: len(server.journals()) <= len(server.worker_pids()), within=20)
