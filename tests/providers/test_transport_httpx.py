"""What could go wrong only with a library between us and the socket."""

import asyncio

import pytest

from providers.transport import PoolLimits
from providers.types import FailureKind
from tests.providers.faultserver import OK, STREAM, FaultServer, Peer, answering, chunk
from tests.providers.upstreams import answer_to, opened, request_to, start, until, with_body

pytestmark = pytest.mark.asyncio(loop_factories=["httpx"])


async def test_nothing_of_the_environment_or_of_earlier_answers_goes_upstream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            heads.append(request[0])
            await peer.write(OK.replace(b"\r\n\r\n", b"\r\nset-cookie: a=b; path=/\r\n\r\n"))

    async with FaultServer(script) as server, opened() as transport:
        for _ in range(2):
            assert (await answer_to(transport, request_to(server))).body == b"ok"
    assert heads[0] == heads[1]
    assert b"cookie" not in heads[0].lower()


async def test_calls_given_up_at_any_moment_leave_no_place_taken() -> None:
    async def patient(peer: Peer) -> None:
        while await peer.request() is not None:
            await asyncio.sleep(0.001)
            await peer.write(OK)

    limits = PoolLimits(connections_per_pool=2, wait=5.0)
    async with FaultServer(patient) as server, opened(limits=limits) as transport:
        for step in range(120):
            calls = [start(transport, request_to(server))[0] for _ in range(4)]
            for _ in range(step % 30):
                await asyncio.sleep(0)
            for call in calls:
                call.abort()
        for _ in range(4):
            assert (await answer_to(transport, request_to(server))).body == b"ok"
        await until(lambda: transport.counts().calls == transport.counts().waiting == 0)
        assert transport.counts().connections <= 2


async def test_connections_that_all_ended_while_they_rested_cost_no_call() -> None:
    resting: list[Peer] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(OK)
        resting.append(peer)
        await answering(OK)(peer)

    async with FaultServer(script) as server, opened() as transport:
        for _, got in [start(transport, request_to(server)) for _ in range(5)]:
            await got.over()
        for peer in resting:
            peer.half_close()
        first, second = (start(transport, request_to(server))[1] for _ in range(2))
        assert (await first.over()).body == (await second.over()).body == b"ok"
        assert server.connections == 7


async def test_an_early_answer_ends_the_call_although_half_of_the_request_is_still_here() -> None:
    async def hasty(peer: Peer) -> None:
        await peer.request_head()
        await peer.write(STREAM + chunk(b"no"))
        await peer.write(b"0\r\n\r\n")
        await asyncio.sleep(30)

    async with FaultServer(hasty) as server, opened() as transport:
        got = await answer_to(transport, with_body(request_to(server), bytes(32 << 20)))
        assert (got.status, got.body, got.sent) == (200, b"no", 0)
        assert transport.counts().connections == 0


async def test_what_httpx_would_read_otherwise_is_refused_as_by_our_own_transport() -> None:
    # A folded header: h11 joins its lines, our reader has none of it.
    folded = b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok"
    async with FaultServer(answering(folded)) as server, opened() as transport:
        got = await answer_to(transport, request_to(server))
        assert got.failure is not None
        assert (got.failure.kind, got.status) == (FailureKind.PROTOCOL, 0)
