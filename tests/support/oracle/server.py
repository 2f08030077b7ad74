"""The oracle's HTTP/1.1 server: reads whole calls, writes them down, answers as scripted, notices who leaves."""

import asyncio
import contextlib
import json
import socket
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.oracle import answers
from tests.support.oracle.calls import Call, CallLog
from tests.support.oracle.script import Script, UnknownScript, parse
from tests.support.oracle.wire import CallerLeft, Connection, read_call

PATIENCE = 600.0
"""Seconds after which a script that waits for the caller to leave gives up."""
BLOCK = 64 * 1024
_USAGE_EVENT = b'"choices":[],"usage"'

# An upstream's own headers, which no caller of a gateway should ever see.
OWN_HEADERS = (
    ("server", "oracle"),
    ("set-cookie", "__cf_bm=oracle-cookie; path=/; HttpOnly"),
    ("x-ratelimit-limit-requests", "9999"),
    ("x-ratelimit-remaining-requests", "7"),
    ("openai-processing-ms", "12"),
)

Reply = Script | str | bytes | list[bytes | float]
"""What a handler gives: a script, its text, or raw bytes for the socket (numbers are pauses in seconds)."""


class Cut(Exception):
    """The script ends the connection here."""


class _Reply:
    """Carries one script out on one connection."""

    def __init__(
        self, connection: Connection, call: Call, script: Script, models: list[str]
    ) -> None:
        self.connection = connection
        self.call = call
        self.script = script
        self.models = models
        self.keep_alive = True

    async def run(self) -> None:
        """Answer. Raises Cut or CallerLeft."""
        if self.script.raw:
            await self._raw()
        if self.script.delay:
            await self.connection.pause(self.script.delay)
        plan = (
            getattr(self, "_plan_" + self.script.plan.replace("-", "_"))
            if self.script.plan
            else self._ordinary
        )
        await plan()

    # Ordinary answers

    async def _ordinary(self) -> None:
        path = self.call.path.partition("?")[0]
        if path.endswith("/models"):
            return await self._whole(answers.models(self.models))
        if not path.endswith(("/chat/completions", "/completions", "/embeddings")):
            return await self._whole(answers.error(404, f"no such route: {path}"), status=404)
        try:
            request = self.call.json
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return await self._whole(
                answers.error(400, "the body is not a JSON object"), status=400
            )
        answer = answers.Answer(self.call, request, self.script)
        if request.get("stream") is True and not path.endswith("/embeddings"):
            return await self._stream(answer)
        return await self._plain(answer)

    async def _plain(self, answer: answers.Answer) -> None:
        body = answer.body()
        await self.connection.pause(answer.script.interval * answer.script.tokens)
        self.call.usage = _told(answer)
        if self.script.cut_utf8:
            end = next(n for n, byte in enumerate(body) if byte >= 0x80) + 1
        elif self.script.cut_after is not None:
            end = len(body) // 2
        else:
            return await self._whole(body, tokens=answer.completion)
        await self._head(200, "application/json", length=len(body))
        await self._send(body[:end])
        raise Cut

    async def _stream(self, answer: answers.Answer) -> None:
        script = self.script
        # An answer that ends cleanly before its connection is closed has to say so: whoever sent the next call in between could
        # not know whether it was read.
        closing = (("connection", "close"),) if script.error_after is not None else ()
        await self._head(200, "text/event-stream; charset=utf-8", length=None, extra=closing)
        if answer.wants_usage or script.usage == "running":
            self.call.usage = _told(answer)
        sent = 0
        for event, tokens in answer.events():
            if tokens and script.interval:
                await self.connection.pause(script.interval)
            if script.usage_delay and _USAGE_EVENT in event:
                await self.connection.pause(script.usage_delay)
            if tokens and script.cut_utf8 and not event.isascii():
                await self._chunk(
                    event[: next(n for n, byte in enumerate(event) if byte >= 0x80) + 1]
                )
                raise Cut
            if tokens or sent:
                await self._misbehave(sent)
            await self._chunk(event + script.newline * 2, tokens)
            sent += tokens
        await self.connection.write(b"0\r\n\r\n")

    async def _misbehave(self, sent: int) -> None:
        """End here if the script says that it ends after `sent` tokens."""
        if self.script.cut_after == sent:
            raise Cut
        if self.script.stall_after == sent:
            await self.connection.pause(PATIENCE)
            raise Cut
        if self.script.error_after == sent:
            await self._chunk(answers.ERROR_EVENT + self.script.newline * 2)
            await self.connection.write(b"0\r\n\r\n")
            raise Cut

    # Plans

    async def _plan_error(self) -> None:
        body = answers.error(
            self.script.status, f"the oracle was told to answer {self.script.status}"
        )
        await self._whole(body, status=self.script.status, extra=self.script.headers)

    async def _plan_echo_auth(self) -> None:
        secrets = [f"{name}: {value}" for name, value in self.call.headers if _is_credential(name)]
        status = self.script.status if self.script.status >= 400 else 400
        message = f"Incorrect API key provided: {'; '.join(secrets)}. The body was {self.call.body.decode(errors='replace')}"
        await self._whole(answers.error(status, message), status=status, extra=self.script.headers)

    async def _plan_html(self) -> None:
        await self._whole(answers.PAGE, kind="text/html; charset=utf-8")

    async def _plan_empty(self) -> None:
        await self._whole(b"")

    async def _plan_redirect(self) -> None:
        await self._whole(b"", status=302, extra=(("location", self.script.url),))

    async def _plan_garbage(self) -> None:
        await self._send(b"\x16\x03\x01 this is not HTTP \x00\xff\r\n\r\n" * 8)
        raise Cut

    async def _plan_bomb(self) -> None:
        await self._head(200, self._asked_type(), length=None)
        await self._chunk(b'data: {"x":"' if self._asked_stream() else b'{"x":"')
        for _ in range(self.script.size // BLOCK):
            await self._chunk(b"a" * BLOCK)
        await self._chunk(b'"}\n\n')
        await self.connection.write(b"0\r\n\r\n")

    async def _plan_gzip_bomb(self) -> None:
        await self._head(
            200, self._asked_type(), length=None, extra=(("content-encoding", "gzip"),)
        )
        packer = zlib.compressobj(level=1, wbits=31)
        for _ in range(self.script.size // (1 << 20)):
            if piece := packer.compress(b" " * (1 << 20)):
                await self._chunk(piece)
        await self._chunk(packer.flush())
        await self.connection.write(b"0\r\n\r\n")

    async def _plan_endless_headers(self) -> None:
        await self._send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        for n in range(1_000_000):
            await self._send(b"x-filler-%d: %s\r\n" % (n, b"f" * 64))
        raise Cut

    async def _plan_hang(self) -> None:
        await self.connection.pause(PATIENCE)
        raise Cut

    async def _plan_close(self) -> None:
        raise Cut

    async def _plan_reset(self) -> None:
        sock = self.connection.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.writer.transport.abort()
        raise Cut

    async def _raw(self) -> None:
        for piece in self.script.raw:
            if isinstance(piece, bytes):
                await self._send(piece)
            else:
                await self.connection.pause(piece)
        raise Cut

    # Writing

    def _asked_stream(self) -> bool:
        with contextlib.suppress(ValueError):
            return bool(self.call.json.get("stream"))
        return False

    def _asked_type(self) -> str:
        return "text/event-stream" if self._asked_stream() else "application/json"

    async def _whole(
        self,
        body: bytes,
        *,
        status: int = 200,
        kind: str = "application/json",
        tokens: int = 0,
        extra: tuple[tuple[str, str], ...] = (),
    ) -> None:
        await self._head(status, kind, length=len(body), extra=extra)
        await self._send(body, tokens)

    async def _head(
        self, status: int, kind: str, *, length: int | None, extra: tuple[tuple[str, str], ...] = ()
    ) -> None:
        size = (
            ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
        )
        own = ("x-request-id", f"req_oracle{self.call.number}")
        lines = [
            f"{name}: {value}"
            for name, value in (("content-type", kind), size, own, *OWN_HEADERS, *extra)
        ]
        head = f"HTTP/1.1 {status} Scripted\r\n" + "\r\n".join(lines) + "\r\n\r\n"
        await self.connection.write(head.encode("latin-1"))

    async def _send(self, data: bytes, tokens: int = 0) -> None:
        await self.connection.write(data)
        self.call.note_sent(data, tokens)

    async def _chunk(self, data: bytes, tokens: int = 0) -> None:
        """One piece of a chunked body, itself in pieces where the script splits."""
        step = self.script.split or len(data)
        for start in range(0, len(data), step or 1):
            piece = data[start : start + step]
            await self.connection.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.call.note_sent(data, tokens)


def _told(answer: answers.Answer) -> dict[str, Any] | None:
    """The usage as it was told, for the log: None where none was or where it was no object."""
    usage = None if answer.script.usage == "none" else answer.usage()
    return usage if isinstance(usage, dict) else None


def _is_credential(name: str) -> bool:
    return name.lower() in {"authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"}


class Oracle:
    """The server on a thread of its own, from `__enter__` to `__exit__`."""

    def __init__(self, log: Path | None = None, *, port: int = 0, host: str = "127.0.0.1") -> None:
        self._log_path = log
        self._address = (host, port)
        self._handlers: dict[str, Callable[[Call], Reply]] = {}
        self.calls: list[Call] = []
        self.models = ["ok", "drip:20x0.01"]
        self.url = ""
        self.port = 0

    # For tests

    @property
    def api(self) -> str:
        """What an OpenAI client takes as its base address."""
        return f"{self.url}/v1"

    def on(self, model: str, handler: Callable[[Call], Reply]) -> None:
        """Let `handler` decide how a call for exactly this model is answered. It runs on the oracle's thread."""
        self._handlers[model] = handler

    def made(self) -> list[Call]:
        """The calls that would cost money: all but those that list models."""
        return [call for call in self.calls if call.method == "POST"]

    def call(self, attempt_id: str) -> Call:
        """The one call with this attempt id. Raises AssertionError if there is none, or more than one."""
        found = [call for call in self.calls if call.attempt_id == attempt_id]
        assert len(found) == 1, f"{len(found)} calls have the attempt id {attempt_id}"
        return found[0]

    def wait_for(self, count: int, within: float = 5.0) -> list[Call]:
        """Wait until `count` paid calls have arrived. Raises AssertionError."""
        deadline = time.monotonic() + within
        while len(self.made()) < count:
            assert time.monotonic() < deadline, (
                f"{len(self.made())} of {count} calls within {within} s"
            )
            time.sleep(0.005)
        return self.made()

    def wait_closed(self, attempt_id: str, within: float = 1.0) -> Call:
        """Wait until the caller has closed that call before its end. Raises AssertionError if it ends otherwise."""
        call = self.call(attempt_id)
        assert call.finished.wait(within), f"call {attempt_id} was still open after {within} s"
        assert call.how == "client_closed", f"call {attempt_id} ended as {call.how}"
        return call

    # Life

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="oracle-")
        self._log_path = self._log_path or Path(self._folder.name) / "calls.jsonl"
        self._log = CallLog(self._log_path)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="oracle", daemon=True)
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._thread.start()
        self._started.wait(10)
        if self._failure:
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._log.close()
        self._folder.cleanup()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        try:
            server = await self._loop.create_server(
                lambda: Connection(self._accept), *self._address, backlog=1024
            )
        except OSError as error:
            self._failure = error
            return
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"http://{self._address[0]}:{self.port}"
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, connection: Connection) -> None:
        task = self._loop.create_task(self._converse(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, connection: Connection) -> None:
        with contextlib.closing(connection.writer):
            while call := await read_call(connection):
                call.number = len(self.calls) + 1
                self.calls.append(call)
                self._log.began(call)
                with self._noted(call, connection):
                    await _Reply(connection, call, self._script(call), self.models).run()
                if call.how != "done" or (call.header("connection") or "").lower() == "close":
                    return

    def _script(self, call: Call) -> Script:
        handler = self._handlers.get(call.model)
        reply: Reply = handler(call) if handler else call.model
        if isinstance(reply, Script):
            return reply
        if isinstance(reply, str):
            try:
                return parse(reply)
            except UnknownScript as error:
                return Script(raw=(_refusal(f"unknown script: {error}"),))
        return Script(raw=(reply,) if isinstance(reply, bytes) else tuple(reply))

    @contextlib.contextmanager
    def _noted(self, call: Call, connection: Connection) -> Iterator[None]:
        """Write down how the call ends, however it does."""
        call.how = None
        how, at = "stopped", 0.0
        try:
            yield
            how = "done"
        except Cut:
            how = "cut"
        except CallerLeft:
            how, at = "client_closed", connection.gone_at
        finally:
            call.ended_at = at or time.time()
            call.how = how
            self._log.ended(call)
            call.finished.set()


def _refusal(message: str) -> bytes:
    body = json.dumps({"error": {"message": message, "type": "oracle"}}).encode()
    return (
        b"HTTP/1.1 400 Bad Script\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (len(body), body)
    )
