"""Too much of anything, from an upstream, is held back or cut off; the server does not grow with it."""

import resource
import socket
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tests.gateway.door import Door, eventually
from tests.gateway.wire import EVENT, MIB, chunked, leave, request_bytes, stream_head
from tests.support.server import Server

# Bytes are held back between two sockets.
pytestmark = [pytest.mark.data_plane, pytest.mark.sqlite]


def memory(pid: int, what: str) -> int:
    """Bytes: `VmRSS` now, `VmHWM` at most since `forget_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{what} is not in /proc/{pid}/status")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def worker_of(server: Server) -> int:
    (pid,) = server.worker_pids()
    return pid


def peak_growth(door: Door, before: int) -> int:
    return memory(worker_of(door.server), "VmHWM") - before


def test_a_slow_reader_holds_a_fast_endless_upstream_back(door: Door) -> None:
    """The upstream could send half a GiB; it is let to send what the sockets hold."""
    model = f"endless-{uuid4().hex}"
    block = chunked(EVENT * (64 * 1024 // len(EVENT)))
    pieces: list[bytes | float] = [stream_head(), *[block] * (512 * MIB // len(block))]
    door.oracle.on(model, lambda call: pieces)
    own, since = uuid4().hex, len(door.oracle.calls)
    worker = worker_of(door.server)
    forget_peak(worker)
    before = memory(worker, "VmRSS")
    caller = door.connect()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    caller.sendall(request_bytes(door.key.secret, f"oracle/{model}", own, stream=True))
    eventually(lambda: len(door.oracle.calls) > since)
    call = door.oracle.calls[since]
    read = 0
    for _ in range(20):
        read += len(caller.recv(16 * 1024))
        time.sleep(0.1)
    held_back_at = call.bytes_sent
    assert peak_growth(door, before) < 64 * MIB
    assert held_back_at < 64 * MIB
    assert read > 0
    caller.settimeout(5)
    while read < held_back_at:  # it goes on as soon as it is read
        read += len(caller.recv(1 * MIB))
    eventually(lambda: call.bytes_sent > held_back_at)
    leave(caller, rudely=False)
    assert door.row(own)["error_code"] == "client_gone"
    assert peak_growth(door, before) < 64 * MIB
    door.assert_nothing_left()


@pytest.mark.parametrize(
    ("script", "stream", "bound"),
    [
        ("endless-headers", False, 64),
        ("gzip-bomb:256MiB", True, 64),
        ("bomb:1GiB", True, 64),
        # A whole answer is held until it is whole, up to the 64 MiB that one may have.
        ("bomb:1GiB", False, 160),
    ],
)
def test_too_much_of_anything_does_not_grow_the_server(
    door: Door, script: str, stream: bool, bound: int
) -> None:
    worker = worker_of(door.server)
    forget_peak(worker)
    before = memory(worker, "VmRSS")
    door.chat(f"oracle/{script}", stream=stream)
    assert peak_growth(door, before) < bound * MIB


def test_a_stream_does_not_hold_what_it_was_asked(door: Door) -> None:
    """A conversation of a MiB is sent on and forgotten; a stream may stay for minutes."""
    model = f"long-{uuid4().hex}"
    door.oracle.on(model, lambda call: [stream_head(), chunked(EVENT), 60.0])
    question = "long " * (MIB // 5)
    worker = worker_of(door.server)

    def ask() -> socket.socket:
        caller = door.connect()
        caller.sendall(
            request_bytes(
                door.key.secret, f"oracle/{model}", uuid4().hex, stream=True, more=question
            )
        )
        read = b""
        while EVENT not in read:
            read += caller.recv(MIB)
        return caller

    callers = [ask() for _ in range(4)]
    before = memory(worker, "VmRSS")
    callers += [ask() for _ in range(16)]
    assert memory(worker, "VmRSS") - before < 6 * MIB
    for caller in callers:
        leave(caller, rudely=False)
    door.assert_nothing_left()


def test_the_kernels_table_of_open_files_need_not_grow_under_load(door: Door) -> None:
    """While it does, a process with threads stands still."""
    status = Path(f"/proc/{worker_of(door.server)}/status").read_text()
    (room,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("FDSize:")]
    assert room >= min(16_384, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
