"""One call to an upstream: what its caller is told, what it can do, and its limits of time."""

from time import monotonic
from typing import Final, Protocol

from providers.connection import Exchange
from providers.dialing import Timings
from providers.types import FailureKind, Headers, UpstreamFailure, UpstreamRequest


class Receiver(Protocol):
    """The caller's side. All calls come on the loop's thread, and none from inside `send`.

    After `upstream_sent` (or a `Call.is_sent` when `send` returned) comes either `upstream_answer` alone, or `upstream_head`,
    `upstream_bytes` as often as there are some, and exactly one of `upstream_end` and `upstream_failed` last; or
    `upstream_failed` alone. After `Call.abort` nothing more comes.
    """

    def upstream_sent(self) -> None:
        """The whole request was handed over, later than by `send`. Does not come if the answer was complete before that."""

    def upstream_answer(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer, of which nothing was told before: head as in `upstream_head`, body without its framing."""

    def upstream_head(self, status: int, headers: Headers) -> None:
        """Status 200 to 599; headers as `AnswerReader.headers` has them."""

    def upstream_bytes(self, data: bytes) -> None:
        """Body bytes without their framing, never empty."""

    def upstream_end(self) -> None:
        """The answer is whole."""

    def upstream_failed(self, failure: UpstreamFailure) -> None:
        """The answer will not become whole."""


class Line(Protocol):
    """What carries one call at a time. `taken` is not 0 as soon as a byte of the request may have left; `heard`: something
    was read since the call last set it to False; `is_sent`: the whole request was handed over.
    """

    heard: bool
    taken: int
    is_sent: bool

    def begin(self, exchange: Exchange, head: bytes, body: bytes) -> bool:
        """Send the request; False if not one byte was taken and another line may be tried. `Exchange.sent` comes later, if
        `is_sent` does not hold by then.
        """

    def unsent(self) -> int:
        """Bytes of the request that still wait in our memory."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def discard(self) -> None:
        """Close at once, without a word to the call."""


class Beginning(Protocol):
    """What leads to a line, while there is none yet."""

    def cancel(self) -> object: ...


class _Nobody:
    """Takes the place of a receiver that is to hear no more."""

    def upstream_sent(self) -> None: ...

    def upstream_answer(self, status: int, headers: Headers, body: bytes) -> None: ...

    def upstream_head(self, status: int, headers: Headers) -> None: ...

    def upstream_bytes(self, data: bytes) -> None: ...

    def upstream_end(self) -> None: ...

    def upstream_failed(self, failure: UpstreamFailure) -> None: ...


_NOBODY: Final = _Nobody()
_NO_WAIT: Final = Timings()


# The phases of a call, as plain numbers: they change five times in each.
_STARTING: Final = 0  # in the queue or being connected, which have limits of their own
_WRITING: Final = 1
_AWAITING: Final = 2  # the request is out, the answer's head is not whole
_READING: Final = 3
_DONE: Final = 4


class Call:
    """One request on its way: the caller's handle, and what the connection reports to."""

    __slots__ = (
        "_beginning",
        "_body",
        "_deadline",
        "_head",
        "_line",
        "_live",
        "_must_end_by",
        "_paused",
        "_phase",
        "_unsent",
        "is_sent",
        "limits",
        "receiver",
        "timings",
        "waiting_since",
    )

    def __init__(self, request: UpstreamRequest, receiver: Receiver, live: set["Call"]) -> None:
        """Raises ValueError for an attempt's id that could be read as more than itself."""
        letterhead, attempt_id, body = request.letterhead, request.attempt_id, request.body
        if not (attempt_id.isascii() and attempt_id.isprintable()):
            raise ValueError("not an attempt's id")
        self.timings = _NO_WAIT
        """What is no overhead of ours: waiting for a place, names, connecting, TLS."""
        self.waiting_since: float | None = None
        self.is_sent = False
        """The whole request was handed over."""
        self._head = b"%b%b\r\ncontent-length: %d\r\n\r\n" % (
            letterhead.encoded,
            attempt_id.encode("ascii"),
            len(body),
        )
        self._body = body
        self.limits = letterhead.timeouts
        self.receiver = receiver
        self._live = live
        self._phase = _STARTING
        self._line: Line | None = None
        self._beginning: Beginning | None = None
        self._paused = False
        self._unsent = 0
        self._deadline = 0.0
        self._must_end_by = monotonic() + self.limits.total
        live.add(self)

    # ---- for the caller

    def pause(self) -> None:
        """Stop reading from the upstream. What one read has already brought may still be delivered."""
        self._paused = True
        if self._line is not None:
            self._line.pause()

    def resume(self) -> None:
        self._paused = False
        if self._line is not None:
            self._line.resume()

    def abort(self) -> None:
        """Close the connection at once; nothing more is called. Does nothing on a call that is over."""
        self._leave()

    def waited(self) -> float:
        """Seconds before the request could be written: queueing, names, connecting, TLS. No overhead of ours."""
        told = self.timings
        return told.pool_wait + told.dns + told.connect + told.tls

    # ---- for the transport

    def request(self) -> tuple[bytes, bytes]:
        """Head and body, as they are written."""
        return self._head, self._body

    @property
    def is_done(self) -> bool:
        return self._phase == _DONE

    def begun_by(self, beginning: Beginning | None) -> None:
        self._beginning = beginning

    def start_on(self, line: Line) -> bool:
        """Send the request; False if the line is dead and not one byte was taken. `is_sent` says whether all of it was."""
        if not line.begin(self, self._head, self._body):
            return False
        self._beginning, self._line = None, line
        if line.is_sent:
            self.is_sent = True
            self._head = self._body = b""  # a long stream need not hold its request
            self._phase = _AWAITING
            self._deadline = monotonic() + self.limits.first_byte
        else:
            self._phase = _WRITING
            self._unsent = -1
        if self._paused:
            line.pause()
        return True

    def tell_if_sent(self) -> None:
        """After `start_on`, for a caller whose `send` has long returned."""
        if self.is_sent:
            self.receiver.upstream_sent()

    def check(self, now: float, late: float) -> None:
        """End the call if a limit has passed.

        `late` is how long the loop itself kept us from looking: that was nobody's silence.
        """
        if now >= self._must_end_by:
            self.failed(FailureKind.TIMEOUT, "total")
        elif self._phase != _STARTING and not self._is_alive(now):
            self._deadline += late
            if now >= self._deadline:
                self._out_of_time()

    def _is_alive(self, now: float) -> bool:
        """Whether there was progress since the last look, or no reason to expect any; then the time starts anew."""
        line = self._line
        if line is None:
            return False
        if self._phase == _WRITING:
            before, self._unsent = self._unsent, line.unsent()
            if self._unsent == before:
                return False
            self._deadline = now + self.limits.write
        elif self._phase == _READING and (self._paused or line.heard):
            line.heard = False
            self._deadline = now + self.limits.between_chunks
        elif self._phase == _AWAITING and self._paused:
            self._deadline = now + self.limits.first_byte
        else:
            return False
        return True

    def _out_of_time(self) -> None:
        if self._phase == _WRITING:
            self.failed(FailureKind.WRITE_TIMEOUT, "the upstream stopped taking the request")
        elif self._phase == _AWAITING:
            self.failed(FailureKind.TIMEOUT, "first byte")
        else:
            self.failed(FailureKind.TIMEOUT, "between chunks")

    # ---- for the connection

    def sent(self) -> None:
        self.is_sent = True
        self._head = self._body = b""
        if self._phase == _WRITING:
            self._phase = _AWAITING
            self._deadline = monotonic() + self.limits.first_byte
        self.receiver.upstream_sent()

    def head(self, status: int, headers: Headers) -> None:
        self._phase = _READING
        self.receiver.upstream_head(status, headers)

    def answered(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer at once. As with `ended`, the line is by now idle, closed, or on another call."""
        self._line = None
        self._leave().upstream_answer(status, headers, body)

    def ended(self) -> None:
        self._line = None
        self._leave().upstream_end()

    def failed(self, kind: FailureKind, detail: str) -> None:
        nothing_sent = self._line is None or not self._line.taken
        self._leave().upstream_failed(UpstreamFailure(kind, nothing_sent, detail))

    def _leave(self) -> Receiver:
        """Let go of everything; gives the receiver, for its last word, the first time only."""
        receiver, self.receiver = self.receiver, _NOBODY
        self._phase = _DONE
        self._live.discard(self)
        self._head = self._body = b""
        line, self._line = self._line, None
        beginning, self._beginning = self._beginning, None
        if line is not None:
            line.discard()
        if beginning is not None:
            beginning.cancel()
        return receiver
