"""When what happened to a call, on the monotonic clock, and what follows from it for the books. Pure, but for the clock."""

from tenants.clock import Clock


class Stopwatch:
    """Moments and durations in seconds, what is written down in microseconds. `began`: the call's head had come; `read_at`: its
    body was complete.
    """

    __slots__ = (
        "_began",
        "_clock",
        "_first_byte_at",
        "_head_at",
        "_is_shown",
        "_overhead",
        "_read_at",
        "_tried_at",
    )

    def __init__(self, clock: Clock, began: float, read_at: float) -> None:
        self._clock = clock
        self._began = began
        self._read_at = read_at
        self._tried_at = 0.0
        self._head_at: float | None = None
        self._first_byte_at: float | None = None
        self._is_shown = False
        #: Seconds from the body to the first request that was out.
        self._overhead: float | None = None

    def tries(self) -> None:
        self._head_at = None
        self._tried_at = self._clock.monotonic()

    def sent(self, waited: float) -> None:
        """A request is out. `waited`: seconds of that which were not ours."""
        if self._overhead is None:
            self._overhead = max(0.0, self._clock.monotonic() - self._read_at - waited)

    def hears(self) -> float:
        """An upstream's answer has begun, or is whole; gives the moment."""
        now = self._head_at = self._clock.monotonic()
        return now

    def hears_body(self) -> None:
        if self._first_byte_at is None:
            self._first_byte_at = self._clock.monotonic()

    def shows(self) -> float:
        """The caller is given the head of an upstream's answer. Gives the seconds that were ours."""
        overhead = self._overhead = self._seconds_of_ours() or 0.0
        self._is_shown = True
        return overhead

    def _seconds_of_ours(self) -> float | None:
        """Before the request was out, and since there was an answer that the caller has not got."""
        if self._overhead is None or self._is_shown or self._head_at is None:
            return self._overhead
        return self._overhead + self._clock.monotonic() - self._head_at

    # --- for the books

    def overhead(self) -> int | None:
        ours = self._seconds_of_ours()
        return None if ours is None else round(ours * 1_000_000)

    def duration(self) -> int:
        return round((self._clock.monotonic() - self._began) * 1_000_000)

    def ttfb(self) -> int | None:
        at = self._first_byte_at
        return None if at is None else round((at - self._read_at) * 1_000_000)

    def try_duration(self) -> int:
        return round((self._clock.monotonic() - self._tried_at) * 1_000_000)

    def try_ttfb(self) -> int | None:
        at = self._first_byte_at
        return None if at is None else round((at - self._tried_at) * 1_000_000)
