"""A call that is over is gone at once, with its body and its answer: nobody waits for the garbage collector."""

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.edge.call import WireCall
from gateway.relay import endpoints
from gateway.relay.asking import asked
from gateway.snapshot import UNKNOWN
from providers.types import FailureKind, UpstreamFailure
from tests.gateway.relay.edge import KEY, Edge, known, route, upstream

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
GOOD = json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode()
JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]
PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'


def nothing(*_: object) -> None: ...


class House:
    """What a call meets of a worker: an upstream that has its request at once, and limits without threads."""

    def __init__(self, found: Any) -> None:
        edge = Edge(found=found)
        self.receivers: list[Any] = []
        handle = SimpleNamespace(is_sent=True, abort=nothing, resume=nothing, pause=nothing)

        def send(request: Any, receiver: Any) -> Any:
            self.receivers.append(receiver)
            return handle

        self.relay: Any = SimpleNamespace(
            house=edge.house,
            live=set(),
            loop=SimpleNamespace(time=lambda: 0.0, call_later=nothing),
            watch=SimpleNamespace(look=nothing),
            snapshot=SimpleNamespace(find=lambda fingerprint: found),
            leases=edge.leases,
            journal=SimpleNamespace(append=nothing),
            upstreams=SimpleNamespace(of=lambda upstream: SimpleNamespace(send=send)),
        )
        self.line: Any = SimpleNamespace(
            is_blocked=False, write=nothing, answered=nothing, abort=nothing, fail=nothing
        )

    def call(self, **more: Any) -> WireCall:
        body = json.dumps({**CHAT, **more}).encode()
        call = WireCall(self.relay, self.line, False, len(body), None)
        call.came_with(body)
        found = endpoints.find("POST", "/v1/chat/completions")
        assert found is not None
        bearer = [(b"authorization", b"Bearer " + KEY.encode()), *JSON]
        call.tell(call.exchange.begin, asked(self.relay.house.chain, *found, bearer), "")
        return call


def answered(house: House) -> WireCall:
    call = house.call()
    house.receivers.pop().upstream_answer(200, JSON, GOOD)
    return call


def streamed(house: House) -> WireCall:
    call = house.call(stream=True)
    receiver = house.receivers.pop()
    receiver.upstream_head(200, EVENTS)
    receiver.upstream_bytes(PIECE)
    receiver.upstream_bytes(b"data: [DONE]\n\n")
    return call


def failed(house: House) -> WireCall:
    call = house.call()
    house.receivers.pop().upstream_failed(UpstreamFailure(FailureKind.CLOSED, nothing_sent=False))
    return call


def refused(house: House) -> WireCall:
    return house.call(model="another")


def left(house: House) -> WireCall:
    call = house.call(stream=True)
    house.receivers.pop().upstream_head(200, EVENTS)
    call.gone()
    return call


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("end", [answered, streamed, failed, refused, left])
def test_a_call_that_is_over_is_gone(end: Callable[[House], WireCall]) -> None:
    house = House(known())
    call = weakref.ref(end(house))
    assert call() is None
    assert not house.relay.live


def test_so_is_that_of_a_caller_whom_nobody_knows() -> None:
    house = House(UNKNOWN)
    call = weakref.ref(refused(house))
    assert call() is None


def test_so_is_one_that_was_read_on_to_its_usage() -> None:
    house = House(known(route("m", replace(upstream(), drains=True))))
    call = house.call(stream=True)
    receiver = house.receivers.pop()
    receiver.upstream_head(200, EVENTS)
    call.gone()
    assert call.is_unheard
    receiver.upstream_bytes(PIECE)
    receiver.upstream_bytes(b"data: [DONE]\n\n")
    gone = weakref.ref(call)
    del call, receiver
    assert gone() is None
