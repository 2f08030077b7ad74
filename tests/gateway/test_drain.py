"""A gateway that stops: who is being served is served, who comes is told, and everything is in the books when it is gone."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection

import httpx
import pytest

from tests.chaos.stage import Key, Stage, chat, client, wires
from tests.chaos.streams import Stream, assert_charged
from tests.support.oracle import Oracle
from tests.support.server import Server, Yard

pytestmark = pytest.mark.chaos

Gatehouse = Callable[..., Server]
PRE_DRAIN = 5.0
DRAIN = 3
ENV = {"GATEHOUSE_TIMEOUT_PRE_DRAIN": str(PRE_DRAIN), "GATEHOUSE_TIMEOUT_DRAIN": str(DRAIN)}


def staged(server: Server, yard: Yard, oracle: Oracle) -> Key:
    stage = Stage(server, yard.operator_password)
    stage.add_oracle(oracle.api)
    return stage.key()


def call(caller: httpx.Client, key: Key, model: str = "up/ok") -> httpx.Response:
    return caller.post("/v1/chat/completions", headers=key.headers, json=chat(model))


class Idle:
    """A connection that has had an answer and asks for nothing more."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=15)
        self._socket.sendall(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert b'{"status": "ok"}' in self._socket.recv(65536)

    def wait_closed(self) -> float:
        """Until the server closes it; when that was."""
        assert self._socket.recv(1) == b""
        self._socket.close()
        return time.monotonic()


def test_after_sigterm_streams_finish_newcomers_are_told_and_nothing_is_left(
    gatehouse: Gatehouse, yard: Yard, oracle: Oracle
):
    server = gatehouse(workers=2, env=ENV)
    key = staged(server, yard, oracle)
    idle = [Idle(server) for _ in range(6)]
    with wires(server, key) as kept:
        short = Stream(server, key, "up/drip:100x0.05").wait_for(3)
        long = Stream(server, key, "up/drip:400x0.05").wait_for(3)
        os.kill(server.master_pid, signal.SIGTERM)
        told = time.monotonic()
        time.sleep(0.5)
        assert_drains_but_answers(server, key, kept)
        assert time.monotonic() - told < PRE_DRAIN, "this machine is too slow for this test"
    closed = [each.wait_closed() - told for each in idle]
    assert all(PRE_DRAIN - 0.1 <= after < PRE_DRAIN + DRAIN for after in closed), closed
    with pytest.raises(httpx.ConnectError), client(server) as late:
        late.get("/livez")
    short.wait()
    assert short.is_whole
    assert PRE_DRAIN + DRAIN < long.wait() - told < PRE_DRAIN + DRAIN + 10
    long.assert_broken_off("not_ready")
    assert server.stop() == 0
    assert server.leftovers() == []
    assert_charged(server, long, "not_ready", "drained")
    rows = server.query(
        "SELECT usage_source, tokens_out FROM usage_requestlog WHERE correlation_id = %s",
        [short.id],
    )
    assert rows == [("provider", 100)]


def assert_drains_but_answers(server: Server, key: Key, kept: list[httpx.Client]) -> None:
    for _ in range(4):
        with client(server) as newcomer:
            ready = newcomer.get("/readyz")
            assert (ready.status_code, ready.json()["reasons"]) == (503, ["draining"])
        with client(server) as newcomer:
            assert newcomer.get("/livez").status_code == 200
    with client(server) as newcomer:
        answers = [call(newcomer, key), *(call(each, key) for each in kept)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [answer.headers.get("connection") for answer in answers] == ["close"] * 3


@pytest.mark.sqlite
def test_a_connection_whose_answer_promised_to_keep_it_is_kept_for_one_more(
    gatehouse: Gatehouse, yard: Yard, oracle: Oracle
):
    server = gatehouse(env=ENV)
    key = staged(server, yard, oracle)
    kept = HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {**key.headers, "content-type": "application/json"}
    kept.request(
        "POST", "/v1/chat/completions", json.dumps(chat("up/drip:20x0.05", stream=True)), headers
    )
    answer = kept.getresponse()
    assert (answer.status, answer.getheader("connection")) == (200, None)
    answer.readline()
    os.kill(server.master_pid, signal.SIGTERM)
    assert b"[DONE]" in answer.read()
    kept.request("POST", "/v1/chat/completions", json.dumps(chat("up/ok")), headers)
    last = kept.getresponse()
    assert (last.status, last.getheader("connection")) == (200, "close")
    last.read()
    kept.close()
    assert server.stop() == 0


@pytest.mark.sqlite
def test_a_reload_loses_no_call(gatehouse: Gatehouse, yard: Yard, oracle: Oracle):
    server = gatehouse(workers=2, env={**ENV, "GATEHOUSE_TIMEOUT_PRE_DRAIN": "0.5"})
    key = staged(server, yard, oracle)
    before = set(server.worker_pids())
    stream = Stream(server, key, "up/drip:50x0.05").wait_for(3)
    with Callers(server, key) as callers:
        time.sleep(0.3)
        os.kill(server.master_pid, signal.SIGHUP)
        wait_until(lambda: not before & set(server.worker_pids()), "the old workers are gone")
        time.sleep(0.3)
    stream.wait()
    assert stream.is_whole
    assert callers.faults == []
    assert set(callers.statuses) == {200}
    assert len(server.worker_pids()) == 2
    assert server.stop() == 0
    made = len(callers.statuses) + 1
    assert server.query("SELECT COUNT(*) FROM usage_requestlog") == [(made,)]
    assert len(oracle.made()) == made


class Callers:
    """Two that keep their connection and two that open one for every call."""

    def __init__(self, server: Server, key: Key) -> None:
        self.statuses: list[int] = []
        self.faults: list[Exception] = []
        self._server = server
        self._key = key
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._call_on, args=(n % 2 == 0,), daemon=True)
            for n in range(4)
        ]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _call_on(self, keeps: bool) -> None:
        caller = client(self._server)
        try:
            while not self._over.is_set():
                self.statuses.append(call(caller, self._key, "up/slow:0.02").status_code)
                if not keeps:
                    caller.close()
                    caller = client(self._server)
        except httpx.TransportError as fault:
            self.faults.append(fault)
        finally:
            caller.close()


def wait_until(condition: Callable[[], bool], what: str, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.05)


def test_sigint_ends_at_once_and_settles_everything(
    gatehouse: Gatehouse, yard: Yard, oracle: Oracle
):
    server = gatehouse(workers=2, env={"GATEHOUSE_TIMEOUT_PRE_DRAIN": "60"})
    key = staged(server, yard, oracle)
    streams = [Stream(server, key, "up/drip:400x0.05").wait_for(5) for _ in range(4)]
    os.kill(server.master_pid, signal.SIGINT)
    for stream in streams:
        stream.wait(5)
        stream.assert_broken_off("not_ready")
    assert server.stop(within=8) == 0
    assert server.leftovers() == []
    for stream in streams:
        assert_charged(server, stream, "not_ready", "drained")


@pytest.mark.sqlite
def test_workers_whose_master_was_killed_drain_as_well(
    gatehouse: Gatehouse, yard: Yard, oracle: Oracle
):
    server = gatehouse(env={"GATEHOUSE_TIMEOUT_DRAIN": "1"})
    key = staged(server, yard, oracle)
    (worker,) = server.worker_pids()
    stream = Stream(server, key, "up/drip:400x0.05").wait_for(5)
    os.kill(server.master_pid, signal.SIGKILL)
    stream.wait(10)
    stream.assert_broken_off("not_ready")
    wait_until(lambda: not is_running(worker), "the worker has ended")
    assert server.stop() == -signal.SIGKILL
    assert server.leftovers() == []
    assert_charged(server, stream, "not_ready", "drained")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
