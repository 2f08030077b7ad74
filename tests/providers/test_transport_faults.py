"""Upstreams that break, stall, lie or attack."""

import asyncio
import resource
import socket
from collections.abc import Callable
from time import monotonic

import pytest

from providers.transport import PoolLimits
from providers.types import FailureKind, Headers, Timeouts, UpstreamFailure
from tenants.outbound import Address, AddressRefused, NameNotFound
from tests.providers.faultserver import (
    OK,
    STREAM,
    FaultServer,
    Peer,
    Recorder,
    Script,
    answering,
    chunk,
)
from tests.providers.upstreams import (
    LOOPBACK,
    answer_from,
    answer_to,
    opened,
    request_to,
    start,
    with_body,
    with_letterhead,
)

pytestmark = pytest.mark.asyncio


def failure_of(got: Recorder) -> UpstreamFailure:
    assert got.failure is not None
    assert got.calls.count("failed") == 1
    assert "end" not in got.calls
    return got.failure


def saying(answer: bytes, then: Callable[[Peer], object] | None = None) -> Script:
    """Give this answer once, then close or do `then`."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(answer)
        if then is not None:
            await asyncio.sleep(0.02)
            then(peer)

    return script


def staying(answer: bytes, *, later: bytes = b"", every: float = 0.0) -> Script:
    """Give this answer, then stay silent, or go on with `later` again and again."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(answer)
        while later:
            await asyncio.sleep(every)
            await peer.write(later)
        await peer.until_closed()

    return script


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (saying(b""), 0),
        (saying(b"HTTP/1.1 200 OK\r\ncontent-le"), 0),
        (saying(b"HTTP/1.1 100 Continue\r\n\r\n"), 0),
        (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"), 200),
        (saying(STREAM + b"9\r\nshort"), 200),
        (saying(STREAM + chunk(b"no last chunk")), 200),
        (saying(b"", then=Peer.reset), 0),
        (saying(STREAM + chunk(b"x"), then=Peer.reset), 200),
        (saying(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", then=Peer.reset), 200),
    ],
)
async def test_an_upstream_that_hangs_up_early_leaves_the_request_in_doubt(
    script: Script, status: int
) -> None:
    async with FaultServer(script) as server:
        got = await answer_from(server)
        assert server.connections == 1
    assert failure_of(got).kind is FailureKind.CLOSED
    assert failure_of(got).nothing_sent is False
    assert got.status == status


async def test_a_kept_connection_that_breaks_after_it_took_the_request_is_not_tried_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(OK)
        await peer.request()  # read, and perhaps acted upon
        peer.reset()

    async with FaultServer(script) as server, opened() as transport:
        assert (await answer_to(transport, request_to(server))).body == b"ok"
        got = await answer_to(transport, request_to(server))
        assert failure_of(got) == UpstreamFailure(
            FailureKind.CLOSED, nothing_sent=False, detail=failure_of(got).detail
        )
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1 999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: identity, br\r\ncontent-length: 2\r\n\r\nxx",
        b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
    ],
)
async def test_what_is_no_plain_answer_is_refused_and_the_connection_dropped(answer: bytes) -> None:
    async with FaultServer(staying(answer)) as server, opened() as transport:
        got = await answer_to(transport, request_to(server))
        assert failure_of(got).kind is FailureKind.PROTOCOL
        assert failure_of(got).nothing_sent is False
        assert (got.status, got.body) == (0, b"")
        assert transport.counts().connections == 0


async def test_a_fault_in_the_middle_of_a_body_comes_after_what_was_good() -> None:
    async with FaultServer(staying(STREAM + chunk(b"good") + b"zz\r\n")) as server:
        got = await answer_from(server)
    assert (got.status, got.body) == (200, b"good")
    assert failure_of(got).kind is FailureKind.PROTOCOL


@pytest.mark.parametrize(
    "later",
    [
        b"x-filler: " + b"a" * 1000 + b"\r\n",
        b"a" * 1000,
        b"HTTP/1.1 102 Processing\r\n\r\n" * 40,
    ],
)
async def test_an_endless_head_is_cut_off(later: bytes) -> None:
    start_of_head = b"" if later.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\nx: "
    async with FaultServer(staying(start_of_head, later=later, every=0)) as server:
        got = await answer_from(server)
    assert failure_of(got).kind is FailureKind.TOO_LARGE
    assert got.status == 0


async def test_a_head_over_64_kib_is_cut_off_and_one_below_is_not() -> None:
    def head(size: int) -> bytes:
        start, end = b"HTTP/1.1 200 OK\r\nx: ", b"\r\ncontent-length: 70000\r\n\r\n"
        return start + b"a" * (size - len(start) - len(end)) + end

    body = b"b" * 70_000
    async with FaultServer(staying(head(65_536) + body)) as server:
        assert (await answer_from(server)).body == body
    async with FaultServer(staying(head(65_537) + body)) as server:
        assert failure_of(await answer_from(server)).kind is FailureKind.TOO_LARGE


@pytest.mark.parametrize("later", [b"x-trailer: 1\r\n" * 100, b"x" * 1000])
async def test_endless_trailers_are_cut_off(later: bytes) -> None:
    script = staying(STREAM + chunk(b"body") + b"0\r\nx-t: ", later=later, every=0)
    async with FaultServer(script) as server:
        got = await answer_from(server)
    assert failure_of(got).kind is FailureKind.TOO_LARGE
    assert got.body == b"body"


@pytest.mark.parametrize("first", [OK, STREAM + chunk(b"ok") + b"0\r\n\r\n"])
@pytest.mark.parametrize(
    "second", [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged", b"H", b"x"]
)
async def test_a_second_answer_behind_the_first_reaches_nobody(first: bytes, second: bytes) -> None:
    async with FaultServer(answering(first + second, OK)) as server, opened() as transport:
        for count in (1, 2):
            got = await answer_to(transport, request_to(server))
            assert (got.body, got.calls) == (b"ok", ["head", "end"])
            assert server.connections == count
            assert transport.counts().idle == 0


async def test_a_trailer_does_not_become_a_header_of_the_next_answer() -> None:
    trailing = STREAM + chunk(b"ok") + b"0\r\nretry-after: 1\r\n\r\n"
    async with FaultServer(answering(trailing, OK)) as server, opened() as transport:
        await answer_to(transport, request_to(server))
        got = await answer_to(transport, request_to(server))
        assert got.headers == [(b"content-length", b"2")]
        assert server.connections == 1


@pytest.mark.parametrize(
    ("timeouts", "script", "detail", "least"),
    [
        (Timeouts(first_byte=0.3), staying(b""), "first byte", 0.3),
        (
            Timeouts(first_byte=0.3),
            staying(b"HTTP/1.1 200 OK\r\n", later=b"x: y\r\n", every=0.05),
            "first byte",
            0.3,
        ),
        (Timeouts(between_chunks=0.3), staying(STREAM + chunk(b"a")), "between chunks", 0.3),
        (Timeouts(total=0.3), staying(b""), "total", 0.3),
        (
            Timeouts(total=0.8, between_chunks=0.4),
            staying(STREAM, later=chunk(b"a"), every=0.1),
            "total",
            0.8,
        ),
    ],
)
async def test_each_silence_has_its_limit(
    timeouts: Timeouts, script: Script, detail: str, least: float
) -> None:
    async with FaultServer(script) as server, opened() as transport:
        began = monotonic()
        got = await answer_to(transport, request_to(server, timeouts=timeouts))
        assert least <= monotonic() - began < least + 1
        assert failure_of(got) == UpstreamFailure(FailureKind.TIMEOUT, False, detail)
        assert transport.counts().connections == 0


async def test_an_upstream_that_stops_reading_is_given_up() -> None:
    async def deaf(peer: Peer) -> None:
        await asyncio.sleep(30)

    timeouts = Timeouts(write=0.3)
    async with FaultServer(deaf) as server, opened() as transport:
        request = with_body(request_to(server, timeouts=timeouts), bytes(32 << 20))
        got = await answer_to(transport, request)
        assert failure_of(got).kind is FailureKind.WRITE_TIMEOUT
        assert failure_of(got).nothing_sent is False
        assert got.sent == 0


async def test_a_slow_reader_that_does_read_is_not_given_up() -> None:
    async def slow(peer: Peer) -> None:
        await peer.request_slowly(bytes_a_time=1 << 20, every=0.02)
        await peer.write(OK)
        await peer.until_closed()

    async with FaultServer(slow) as server, opened() as transport:
        request = request_to(server, timeouts=Timeouts(write=1, first_byte=4))
        got = await answer_to(transport, with_body(request, bytes(32 << 20)))
        assert (got.body, got.sent) == (b"ok", 1)


async def test_an_answer_before_the_request_was_taken_is_passed_on() -> None:
    async def hasty(peer: Peer) -> None:
        await peer.request_head()
        await peer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await asyncio.sleep(1)

    async with FaultServer(hasty) as server, opened() as transport:
        got = await answer_to(transport, with_body(request_to(server), bytes(32 << 20)))
        assert (got.status, got.body, got.calls) == (413, b"big", ["head", "end"])
        assert transport.counts().connections == 0


async def test_memory_is_bounded_whatever_the_upstream_sends() -> None:
    block = chunk(b"x" * 65536)

    class Counting(Recorder):
        def upstream_bytes(self, data: bytes) -> None:
            self.pieces += len(data)

    async def firehose(peer: Peer) -> None:
        await peer.request()
        await peer.write(STREAM)
        for _ in range(4096):
            await peer.write(block)
        await peer.write(b"0\r\n\r\n")

    async with FaultServer(firehose) as server, opened() as transport:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        got = Counting()
        transport.send(request_to(server), got)
        await got.over(30)
        assert (got.failure, got.pieces) == (None, 256 << 20)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


async def test_a_refused_address_is_never_connected_to() -> None:
    async def refuse(host: str, port: int) -> list[Address]:
        raise AddressRefused("no")

    async with FaultServer(answering(OK)) as server, opened(resolve=refuse) as transport:
        got = await answer_to(transport, request_to(server))
        assert failure_of(got).kind is FailureKind.REFUSED_ADDRESS
        assert failure_of(got).nothing_sent is True
        assert server.connections == 0


async def test_each_new_connection_goes_to_an_address_of_its_own_look_up() -> None:
    answers: list[list[Address] | AddressRefused] = [[LOOPBACK], AddressRefused("rebound")]

    async def rebinding(host: str, port: int) -> list[Address]:
        answer = answers.pop(0)
        if isinstance(answer, AddressRefused):
            raise answer
        return answer

    closing = answering(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    async with FaultServer(closing) as server, opened(resolve=rebinding) as transport:
        assert (await answer_to(transport, request_to(server))).body == b"ok"
        got = await answer_to(transport, request_to(server))
        assert failure_of(got).kind is FailureKind.REFUSED_ADDRESS
        assert server.connections == 1


async def test_a_name_that_does_not_resolve_is_a_dns_failure() -> None:
    async def unknown(host: str, port: int) -> list[Address]:
        raise NameNotFound("no")

    async def broken(host: str, port: int) -> list[Address]:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    async def nothing(host: str, port: int) -> list[Address]:
        return []

    async def silent(host: str, port: int) -> list[Address]:
        await asyncio.sleep(30)
        return []

    for resolve in (unknown, broken, nothing, silent):
        async with FaultServer(answering(OK)) as server, opened(resolve=resolve) as transport:
            request = request_to(server, timeouts=Timeouts(dns=0.2))
            got = await answer_to(transport, request)
            assert failure_of(got).kind is FailureKind.DNS
            assert failure_of(got).nothing_sent is True


async def test_a_fault_of_the_resolver_does_not_leave_the_call_hanging() -> None:
    async def faulty(host: str, port: int) -> list[Address]:
        raise ZeroDivisionError

    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    async with FaultServer(answering(OK)) as server, opened(resolve=faulty) as transport:
        assert failure_of(await answer_to(transport, request_to(server))).nothing_sent is True


async def test_the_next_address_is_tried_when_one_refuses_or_is_silent() -> None:
    # A listening socket with a full queue drops further connects without a word.
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.3", 0))
        full.listen(0)
        first.connect(full.getsockname())
        port = full.getsockname()[1]
        loopbacks = [Address(socket.AF_INET, f"127.0.0.{last}") for last in (2, 3, 1)]

        async def resolve(host: str, port: int) -> list[Address]:
            return loopbacks

        async with FaultServer(answering(OK), port=port) as server:
            async with opened(resolve=resolve) as transport:
                request = request_to(server, timeouts=Timeouts(connect=0.6))
                call, got = start(transport, request)
                assert (await got.over()).body == b"ok"
                assert 0.2 < call.timings.connect < 0.6
            loopbacks.pop()
            async with opened(resolve=resolve) as transport:
                failure = failure_of(await answer_to(transport, request))
                assert failure.kind is FailureKind.CONNECT_TIMEOUT
            loopbacks.pop()
            async with opened(resolve=resolve) as transport:
                failure = failure_of(await answer_to(transport, request))
                assert failure == UpstreamFailure(FailureKind.CONNECT, True, "ECONNREFUSED")


async def test_a_receiver_that_retries_from_its_failure_callback_is_served() -> None:
    async def fails_once(peer: Peer) -> None:
        if peer.number > 1:
            await answering(OK)(peer)

    class Retrying(Recorder):
        def upstream_failed(self, failure: UpstreamFailure) -> None:
            transport.send(request_to(server), second)

    async with (
        FaultServer(fails_once) as server,
        opened(limits=PoolLimits(connections_per_pool=1)) as transport,
    ):
        second = Recorder()
        transport.send(request_to(server), Retrying())
        assert (await second.over()).body == b"ok"


@pytest.mark.parametrize("answer", [OK, STREAM + chunk(b"ok")])
async def test_a_receiver_that_raises_loses_its_own_call_only(answer: bytes) -> None:
    class Broken(Recorder):
        def upstream_answer(self, status: int, headers: Headers, body: bytes) -> None:
            super().upstream_answer(status, headers, body)
            raise ZeroDivisionError

        def upstream_bytes(self, data: bytes) -> None:
            raise ZeroDivisionError

    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    async def script(peer: Peer) -> None:
        await staying(answer if peer.number == 1 else OK)(peer)

    async with FaultServer(script) as server, opened() as transport:
        broken = Broken()
        transport.send(request_to(server), broken)
        await broken.over()
        other = await answer_to(transport, with_letterhead(request_to(server), pool_key="other"))
        assert other.body == b"ok"
        assert len(reported) == 1
