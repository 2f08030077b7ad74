"""Calls behind Django's views, where the express edge is switched off: they take none of what Django's other work needs."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.gateway.door import Door, eventually, opened
from tests.gateway.wire import request_bytes
from tests.support.server import Yard

STREAMS = 60


@pytest.fixture(scope="module")
def behind_django(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    env = {"GATEHOUSE_EXPRESS": "off"}
    with opened(yard, tmp_path_factory.mktemp("views"), env) as door:
        yield door


def threads_of(door: Door) -> int:
    (worker,) = door.server.worker_pids()
    return len(list(Path(f"/proc/{worker}/task").iterdir()))


def running(door: Door) -> int:
    return int(door.admin.detail()["reports"]["relay"]["calls_running"])


@pytest.mark.sqlite
def test_streams_take_neither_seats_nor_threads_from_the_rest(behind_django: Door) -> None:
    """Far more of them than Django has seats: each would hold one for as long as it runs."""
    door = behind_django
    assert door.chat("oracle/ok").status_code == 200
    running(door)
    before = threads_of(door)
    with ExitStack() as stack:
        for _ in range(STREAMS):
            caller: socket.socket = stack.enter_context(door.connect())
            caller.sendall(
                request_bytes(door.key.secret, "oracle/drip:2000x0.05", uuid4().hex, stream=True)
            )
        eventually(lambda: running(door) == STREAMS, within=30.0)
        assert door.client.get("/v1/key", headers=door.key.bearer).status_code == 200
        assert door.admin.call("GET", "keys")["data"]
        assert door.chat("oracle/ok").status_code == 200
        assert threads_of(door) < before + STREAMS / 2
    door.assert_nothing_left()
