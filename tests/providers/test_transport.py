"""Calls that go as they should, and the pools of connections behind them."""

import asyncio
from dataclasses import replace

import pytest

from providers.transport import Call, PoolLimits
from providers.types import FailureKind, Headers, Timeouts
from tenants.outbound import Address
from tests.providers.faultserver import OK, STREAM, FaultServer, Peer, Recorder, answering, chunk
from tests.providers.upstreams import (
    answer_from,
    answer_to,
    find_loopback,
    opened,
    request_to,
    sent_to,
    start,
    until,
    with_body,
    with_letterhead,
)

pytestmark = pytest.mark.asyncio
#: What only our own transport promises: no turn of the loop between `send` and the bytes, and which connection is next.
native_only = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


async def test_a_request_arrives_whole_and_its_answer_comes_back() -> None:
    seen: list[tuple[bytes, bytes] | None] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.write(
            b"HTTP/1.1 201 Created\r\nX-Request-ID: a\r\nRetry-After: 1\r\nx-dull: 1\r\nretry-after: 2\r\n"
            b"content-length: 5\r\n\r\nhello"
        )
        await peer.until_closed()

    async with FaultServer(script) as server:
        got = await answer_from(server)
        assert seen == [
            (
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: upstream.test:%d\r\n"
                b"content-type: application/json\r\nauthorization: Bearer sk-x\r\n"
                b"accept-encoding: identity\r\nx-request-id: 0af3-1\r\ncontent-length: 13\r\n\r\n"
                % server.port,
                b'{"model":"m"}',
            )
        ]
    assert got.status == 201
    assert got.headers == [
        (b"x-request-id", b"a"),
        (b"retry-after", b"1"),
        (b"retry-after", b"2"),
        (b"content-length", b"5"),
    ]
    assert (got.body, got.sent, got.calls) == (b"hello", 1, ["head", "end"])


@pytest.mark.parametrize(
    ("pieces", "is_whole"),
    [
        ((OK,), True),
        ((OK[:9], OK[9:]), True),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), True),
        ((STREAM + chunk(b"ok") + b"0\r\n\r\n",), True),
        ((OK[:-1], OK[-1:]), False),
        ((STREAM + chunk(b"ok"), b"0\r\n\r\n"), False),
    ],
)
async def test_an_answer_that_is_whole_before_any_of_it_was_told_is_told_at_once(
    pieces: tuple[bytes, ...], is_whole: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.write(piece)
            await asyncio.sleep(0.05)
        await peer.until_closed()

    class Counting(Recorder):
        def upstream_answer(self, status: int, headers: Headers, body: bytes) -> None:
            assert transport.counts().idle == 1, "its connection can be used by now"
            super().upstream_answer(status, headers, body)

    async with FaultServer(script) as server, opened() as transport:
        got = Counting()
        sent_to(got, transport, request_to(server))
        await got.over()
        assert (got.is_whole, got.status in (200, 204), got.calls) == (
            is_whole,
            True,
            ["head", "end"],
        )
        assert transport.counts().idle == 1


async def test_chunks_are_passed_on_as_they_come_without_their_framing() -> None:
    next_chunk = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(STREAM + chunk(b"data: 1\n\n"))
        await next_chunk.wait()
        await peer.write(
            chunk(b"data: 2\n\n") + chunk(b"data: 3\n\n") + b"0\r\nretry-after: 1\r\n\r\n"
        )
        await peer.until_closed()

    async with FaultServer(script) as server, opened() as transport:
        _, got = start(transport, request_to(server))
        await until(lambda: got.body == b"data: 1\n\n")
        next_chunk.set()
        await got.over()
        assert got.body == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
        assert got.pieces == 2
        assert [name for name, _ in got.headers] == [b"transfer-encoding"]
        assert transport.counts().idle == 1


async def test_an_answer_may_come_byte_by_byte() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for byte in STREAM + chunk(b"abc") + chunk(b"de") + b"0\r\n\r\n":
            await peer.write(bytes([byte]))
            await asyncio.sleep(0)
        await peer.until_closed()

    async with FaultServer(script) as server:
        got = await answer_from(server)
    assert (got.status, got.body, got.calls) == (200, b"abcde", ["head", "end"])


async def test_a_body_may_end_with_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(b"HTTP/1.1 200 OK\r\n\r\nto the end")
        await peer.close()

    async with FaultServer(script) as server:
        got = await answer_from(server)
    assert (got.body, got.calls) == (b"to the end", ["head", "end"])


async def test_interim_answers_are_skipped_and_redirects_are_answers() -> None:
    moved = b"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    interim = b"HTTP/1.1 100 Continue\r\nx-a: 1\r\n\r\nHTTP/1.1 103 Hints\r\nretry-after: 1\r\n\r\n"
    async with FaultServer(answering(interim + moved)) as server:
        got = await answer_from(server)
        assert server.connections == 1
    assert got.status == 307
    assert got.headers == [(b"content-length", b"0")]


async def test_large_bodies_go_both_ways() -> None:
    async def echo(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            body = request[1]
            await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    body = bytes(range(256)) * 4096 * 8
    async with FaultServer(echo) as server, opened() as transport:
        for size in (0, 1, 65_536, 65_537, len(body)):
            got = await answer_to(transport, with_body(request_to(server), body[:size]))
            assert got.body == body[:size]
            assert got.sent == 1
        assert server.connections == 1


@pytest.mark.parametrize("close_header", [b"", b"connection: close\r\n"])
async def test_a_connection_is_kept_unless_the_upstream_objects(close_header: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n%bcontent-length: 2\r\n\r\nok" % close_header
    async with FaultServer(answering(answer)) as server, opened() as transport:
        for _ in range(5):
            got = await answer_to(transport, request_to(server))
            assert (got.body, got.sent) == (b"ok", 1)
        assert server.connections == (5 if close_header else 1)


@native_only
async def test_a_connection_at_hand_is_written_to_at_once() -> None:
    async with FaultServer(answering(OK)) as server, opened() as transport:
        for count in (0, 1):
            _, got = start(transport, request_to(server))
            assert got.sent == count
            await got.over()


async def test_names_are_resolved_for_new_connections_only() -> None:
    asked = []

    async def resolve(host: str, port: int) -> list[Address]:
        asked.append(host)
        return await find_loopback(host, port)

    async with FaultServer(answering(OK)) as server, opened(resolve=resolve) as transport:
        for _ in range(3):
            call, got = start(transport, request_to(server))
            await got.over()
        assert asked == ["upstream.test"]
        assert call.timings.connect == 0


async def test_a_new_connection_says_what_it_cost() -> None:
    async def slow(host: str, port: int) -> list[Address]:
        await asyncio.sleep(0.05)
        return await find_loopback(host, port)

    async with FaultServer(answering(OK)) as server, opened(resolve=slow) as transport:
        call, got = start(transport, request_to(server))
        await got.over()
        assert 0.04 < call.timings.dns < 1
        assert 0 < call.timings.connect < 1
        assert call.timings.tls == call.timings.pool_wait == 0


async def test_calls_that_start_together_share_one_look_up() -> None:
    asked = []

    async def resolve(host: str, port: int) -> list[Address]:
        asked.append(host)
        await asyncio.sleep(0.02)
        return await find_loopback(host, port)

    async with FaultServer(answering(OK)) as server, opened(resolve=resolve) as transport:
        calls = [start(transport, request_to(server))[1] for _ in range(20)]
        for got in calls:
            assert (await got.over()).body == b"ok"
        assert (len(asked), server.connections) == (1, 20)


@native_only
async def test_the_connection_used_last_is_used_next() -> None:
    order: list[int] = []

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            order.append(peer.number)
            await asyncio.sleep(0.01 * peer.number)
            await peer.write(OK)

    async with FaultServer(script) as server, opened() as transport:
        first, second = (start(transport, request_to(server))[1] for _ in range(2))
        await first.over()
        await second.over()
        await answer_to(transport, request_to(server))
        await answer_to(transport, request_to(server))
        assert order[2:] == [2, 2]


async def test_connections_are_not_shared_between_pool_keys() -> None:
    async with FaultServer(answering(OK)) as server, opened() as transport:
        for key in ("credential:1", "credential:2", "credential:1"):
            await answer_to(transport, with_letterhead(request_to(server), pool_key=key))
        assert server.connections == 2
        assert transport.counts().pools == 2


async def test_a_connection_that_the_upstream_closed_in_between_is_not_used() -> None:
    async def one_answer(peer: Peer) -> None:
        await peer.request()
        await peer.write(OK)  # says nothing about closing

    async with FaultServer(one_answer) as server, opened() as transport:
        for count in range(1, 6):
            got = await answer_to(transport, request_to(server))
            assert (got.body, server.connections) == (b"ok", count)
            await until(lambda: transport.counts().connections == 0)


async def test_a_close_that_the_loop_has_not_seen_yet_is_seen_before_writing() -> None:
    closing: list[Peer] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(OK)
        closing.append(peer)
        await peer.until_closed()

    async with FaultServer(script) as server, opened() as transport:
        await answer_to(transport, request_to(server))
        assert transport.counts().idle == 1
        # The FIN arrives in the kernel within this turn of the loop, which cannot tell the transport before `send`.
        closing[0].half_close()
        _, got = start(transport, request_to(server))
        assert (await got.over()).body == b"ok"
        assert server.connections == 2


async def test_bytes_that_nobody_asked_for_end_an_idle_connection() -> None:
    async def chatty(peer: Peer) -> None:
        await peer.request()
        await peer.write(OK)
        await asyncio.sleep(0.02)
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
        await peer.until_closed()

    async with FaultServer(chatty) as server, opened() as transport:
        await answer_to(transport, request_to(server))
        await until(lambda: transport.counts().connections == 0)
        assert (await answer_to(transport, request_to(server))).body == b"ok"


async def test_idle_connections_expire() -> None:
    limits = PoolLimits(idle=0.3)
    async with FaultServer(answering(OK)) as server, opened(limits=limits) as transport:
        await answer_to(transport, request_to(server))
        assert transport.counts().idle == 1
        await until(lambda: transport.counts().pools == 0)
        assert transport.counts().connections == 0


async def test_a_connection_is_left_before_the_upstream_said_it_would_leave() -> None:
    brief = OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=1, max=5\r\n\r\n")
    async with FaultServer(answering(brief)) as server, opened() as transport:
        await answer_to(transport, request_to(server))
        assert transport.counts().connections == 0


async def test_an_old_connection_takes_no_new_call() -> None:
    limits = PoolLimits(age=0.05)
    async with FaultServer(answering(OK)) as server, opened(limits=limits) as transport:
        await answer_to(transport, request_to(server))
        await asyncio.sleep(0.06)
        await answer_to(transport, request_to(server))
        assert server.connections == 2


async def test_only_so_many_idle_connections_are_kept() -> None:
    limits = PoolLimits(idle_per_pool=2)
    async with FaultServer(answering(OK)) as server, opened(limits=limits) as transport:
        for got in [start(transport, request_to(server))[1] for _ in range(5)]:
            await got.over()
        assert (transport.counts().connections, transport.counts().idle) == (2, 2)


async def test_a_full_pool_makes_calls_wait_for_a_place() -> None:
    async def slow(peer: Peer) -> None:
        while await peer.request() is not None:
            await asyncio.sleep(0.03)
            await peer.write(OK)

    limits = PoolLimits(connections_per_pool=2, wait=2.0)
    async with FaultServer(slow) as server, opened(limits=limits) as transport:
        calls = [start(transport, request_to(server)) for _ in range(4)]
        assert transport.counts().waiting == 2
        for _, got in calls:
            assert (await got.over()).body == b"ok"
        assert server.connections == 2
        assert calls[0][0].timings.pool_wait == 0
        assert 0.02 < calls[3][0].timings.pool_wait < 2


async def test_a_call_that_waits_too_long_for_a_place_fails_and_says_that_nothing_was_sent() -> (
    None
):
    async def silent(peer: Peer) -> None:
        await peer.until_closed()

    limits = PoolLimits(connections_per_pool=1, waiting_per_pool=1)
    async with FaultServer(silent) as server, opened(limits=limits) as transport:
        running, _ = start(transport, request_to(server))
        _, queued = start(transport, request_to(server))
        began = asyncio.get_running_loop().time()
        _, refused = start(transport, request_to(server))
        assert not refused.is_over  # never from inside `send`
        await refused.over()
        assert not queued.is_over
        await queued.over()
        assert 0.08 < asyncio.get_running_loop().time() - began < 1
        for got in (queued, refused):
            assert got.failure is not None
            assert (got.failure.kind, got.failure.nothing_sent) == (FailureKind.OVERLOADED, True)
        running.abort()


async def test_an_aborted_call_gives_its_place_to_the_next() -> None:
    async def silent_first(peer: Peer) -> None:
        if peer.number == 1:
            await peer.until_closed()
        await answering(OK)(peer)

    limits = PoolLimits(connections_per_pool=1, wait=5.0)
    async with FaultServer(silent_first) as server, opened(limits=limits) as transport:
        first, running = start(transport, request_to(server))
        await until(lambda: running.sent == 1)
        given_up, never = start(transport, request_to(server))
        _, got = start(transport, request_to(server))
        given_up.abort()
        first.abort()
        assert (await got.over()).body == b"ok"
        assert never.calls == []


async def test_pools_and_connections_are_bounded_in_all() -> None:
    limits = PoolLimits(pools=2, connections=2)
    async with FaultServer(answering(OK)) as server, opened(limits=limits) as transport:
        for number in range(10):
            request = with_letterhead(request_to(server), pool_key=str(number))
            assert (await answer_to(transport, request)).body == b"ok"
            counts = transport.counts()
            assert counts.pools <= 2
            assert counts.connections <= 2


async def test_when_every_pool_is_at_work_another_upstream_is_refused() -> None:
    async def silent(peer: Peer) -> None:
        await peer.until_closed()

    async with FaultServer(silent) as server, opened(limits=PoolLimits(pools=1)) as transport:
        start(transport, request_to(server))
        got = await answer_to(transport, with_letterhead(request_to(server), pool_key="other"))
        assert got.failure is not None
        assert got.failure.kind is FailureKind.OVERLOADED


async def test_abort_closes_the_upstream_within_a_second_and_calls_nothing_more() -> None:
    closed = asyncio.Event()

    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.write(STREAM)
        watcher = asyncio.ensure_future(peer.until_closed())
        while not watcher.done():
            peer.write_without_waiting(chunk(b"x" * 100))
            await asyncio.sleep(0.01)
        closed.set()

    async with FaultServer(endless) as server, opened() as transport:
        call, got = start(transport, request_to(server))
        await got.head()
        call.abort()
        call.abort()
        length = len(got.body)
        async with asyncio.timeout(1):
            await closed.wait()
        assert (got.calls, len(got.body)) == (["head"], length)


@pytest.mark.parametrize(
    ("when", "calls"),
    [
        ("now", []),
        ("answer", ["head", "end"]),
        ("head", ["head"]),
        ("bytes", ["head"]),
        ("end", ["head", "end"]),
    ],
)
async def test_abort_works_while_connecting_and_from_inside_every_callback(
    when: str, calls: list[str]
) -> None:
    class Leaver(Recorder):
        call: Call

        def leave_at(self, now: str) -> None:
            if now == when:
                self.call.abort()

        def upstream_answer(self, status: int, headers: Headers, body: bytes) -> None:
            super().upstream_answer(status, headers, body)
            self.leave_at("answer")

        def upstream_head(self, status: int, headers: Headers) -> None:
            super().upstream_head(status, headers)
            self.leave_at("head")

        def upstream_bytes(self, data: bytes) -> None:
            super().upstream_bytes(data)
            self.leave_at("bytes")

        def upstream_end(self) -> None:
            super().upstream_end()
            self.leave_at("end")

    async def in_two(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.write(OK[:-1])
            await until(lambda: when == "now" or leaver.status == 200)
            await peer.write(OK[-1:])

    script = answering(OK) if when == "answer" else in_two
    async with FaultServer(script) as server, opened() as transport:
        leaver = Leaver()
        leaver.call = transport.send(request_to(server), leaver)
        leaver.leave_at("now")
        kept = 1 if when in ("answer", "end") else 0
        await until(lambda: leaver.calls == calls and transport.counts().connections == kept)
        await asyncio.sleep(0.05)
        assert (leaver.calls, transport.counts().connections) == (calls, kept)


async def test_a_paused_call_reads_no_more_than_the_kernel_holds() -> None:
    written = 0

    async def firehose(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        await peer.write(STREAM)
        for _ in range(1024):
            await peer.write(chunk(b"x" * 65536))
            written += 65536
        await peer.write(b"0\r\n\r\n")
        await peer.until_closed()

    class Pausing(Recorder):
        def upstream_bytes(self, data: bytes) -> None:
            self.pieces += len(data)

    patience = Timeouts(between_chunks=0.2)
    async with FaultServer(firehose) as server, opened() as transport:
        got = Pausing()
        call = transport.send(request_to(server, timeouts=patience), got)
        await got.head()
        call.pause()
        await asyncio.sleep(0.1)
        held = got.pieces
        await asyncio.sleep(
            0.6
        )  # three times the silence that an upstream is allowed: but it is ours
        assert not got.is_over
        assert got.pieces == held
        assert written < 16 << 20
        call.resume()
        await got.over(20)
        assert (got.pieces, got.failure) == (64 << 20, None)
        # And the connection can be used again, although its call had paused it.
        assert transport.counts().idle == 1


async def test_close_ends_calls_and_refuses_new_ones() -> None:
    async def silent(peer: Peer) -> None:
        await peer.until_closed()

    async with FaultServer(silent) as server, opened() as transport:
        _, running = start(transport, request_to(server))
        await until(lambda: running.sent == 1)
        _, connecting = start(transport, request_to(server))
        await transport.close()
        _, late = start(transport, request_to(server))
        for got, nothing_sent in ((running, False), (connecting, True), (late, True)):
            await got.over()
            assert got.failure is not None
            assert got.failure.kind is FailureKind.CLOSED
            assert got.failure.nothing_sent is nothing_sent


@pytest.mark.parametrize("attempt_id", ["a\r\nx-b: c", "a\n", "a\x00", "a\x7f", "é"])
async def test_a_request_that_could_be_read_as_two_is_never_sent(attempt_id: str) -> None:
    async with FaultServer(answering(OK)) as server, opened() as transport:
        with pytest.raises(ValueError, match="attempt"):
            transport.send(replace(request_to(server), attempt_id=attempt_id), Recorder())
        assert (server.connections, transport.counts().calls, transport.counts().pools) == (0, 0, 0)
