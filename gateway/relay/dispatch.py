"""A call that passed every gate: journalled, sent, returned, settled (steps 7 to 11 of exchange.py).

Every way out of here goes through `_settle`, once, and it is synchronous: nothing that happens to the caller's task or
connection can come between what was used and the record of it.
"""

import contextlib
from typing import Final, cast

from gateway.relay import answers, errors, ordering, settling, using
from gateway.relay.content import Capture
from gateway.relay.errors import Problem
from gateway.relay.limiting import Limiting, cap_for
from gateway.relay.ordering import Order
from gateway.relay.ports import Actions, House, Seat
from gateway.relay.silent import SilentActions
from gateway.relay.unheard import MOST_BYTES
from gateway.relay.using import Used
from providers.dialects.base import StreamWatcher
from providers.routing import Serving
from providers.sse import EventTooLarge
from providers.types import Headers, UpstreamFailure, UpstreamRequest
from tenants.sealing import Secret
from usage.hands import Lease
from usage.idempotency import Fresh, Keepsake
from usage.records import AttemptOutcome, AttemptStarted
from usage.wants import Refused

#: Bytes of an answer that is not a stream; an upstream that sends more is cut off.
MAX_ANSWER: Final = 64 * 1024 * 1024
_MAX_ERROR_ANSWER: Final = 1024 * 1024
#: Answers after which the next target is tried, if there is one and the caller has seen nothing yet.
_TRY_NEXT: Final = frozenset((429, 502, 503, 504, 529))
#: What stands in the books for a caller who left before an answer.
CLIENT_LEFT: Final = 499


class Dispatch:
    """Driven by the exchange until its seat is left."""

    __slots__ = (
        "_actions",
        "_admitted",
        "_answer",
        "_asking",
        "_attempt_began",
        "_attempts",
        "_capture",
        "_first_byte_at",
        "_head_at",
        "_house",
        "_intent",
        "_keepsake",
        "_limiting",
        "_order",
        "_overhead",
        "_price",
        "_ready",
        "_seat",
        "_secret",
        "_sent",
        "_serving",
        "_started",
        "_status",
        "_targets",
        "_told",
        "_tries",
        "_unheard_bytes",
        "_watcher",
    )

    def __init__(
        self,
        actions: Actions,
        house: House,
        order: Order,
        limiting: Limiting,
        seat: Seat,
        claim: Fresh | None = None,
    ) -> None:
        self._keepsake = Keepsake(claim) if claim else None
        self._actions = actions
        self._house = house
        self._order = order
        self._seat = seat
        self._limiting = limiting
        self._price = limiting.price
        #: The first try's request, which the journal has.
        self._ready: UpstreamRequest | None = None
        #: Providers whose limits the call has taken from; and what the last try came to while the next one's are asked.
        self._admitted = {limiting.targets[0].upstream.id}
        self._asking: Problem | None = None
        claimed = self._keepsake.claim if self._keepsake else None
        self._intent = ordering.intent(order, limiting.bound, seat.lease, claimed)
        key = order.known.content_key
        self._capture = Capture(key, order.known.identity.tenant_id, order.body) if key else None
        self._attempts: list[AttemptOutcome] = []
        self._tries = 0
        self._sent = False
        self._serving: Serving | None = None
        self._secret: Secret | None = None
        self._attempt_began = 0.0
        self._status = 0
        self._told = answers.NOTHING_TOLD
        self._answer = bytearray()
        self._watcher: StreamWatcher | None = None
        self._started = False
        self._first_byte_at: float | None = None
        self._overhead: float | None = None
        self._head_at: float | None = None
        self._targets = limiting.targets
        #: Bytes that came after the caller had left; None while somebody hears us.
        self._unheard_bytes: int | None = None

    # ------------------------------------------------------------------------------------------------------- 7 journal

    def intend(self) -> None:
        """From here on the call exists, whatever happens to this process. Raises `JournalUnavailable`.

        Its first try is written down with it, in one write, unless the tables are to have the intent before there is one.
        """
        serving, ready = self._targets[0], None
        if not self._house.commits:
            # One that cannot be made is left to `send`, which finds out why.
            with contextlib.suppress(*errors.REFUSALS):
                ready = self._translate(serving, 1)
        self._actions.append(self._intent, self._attempt(serving, 1) if ready else None)
        self._ready = ready

    def _attempt(self, serving: Serving, n: int) -> AttemptStarted:
        now = self._house.clock.unix_us()
        return ordering.attempt(self._intent, serving, n, now, self._price)

    # -------------------------------------------------------------------------------------------- 8 translate, 9 send

    def send(self) -> None:
        """Try the first target."""
        ready, self._ready = self._ready, None
        if ready is None:
            self._try_next(errors.NOT_SERVED)
        else:
            self._begin_try(self._targets[0], 1, ready)

    def _try_next(self, problem: Problem) -> None:
        """Try the next target; when there is none left, `problem` is what the last one came to."""
        if not self._may_try_next():
            self._fail(problem)
            return
        serving, n = self._targets[self._tries], self._tries + 1
        if not self._is_admitted(serving, problem):
            return
        try:
            request = self._translate(serving, n)
            self._actions.append(self._attempt(serving, n))
        except errors.REFUSALS as fault:
            failed = errors.of(fault)
            if failed is errors.UNREADABLE:
                self._actions.unreadable(serving.upstream)
            self._fail(failed)
            return
        self._begin_try(serving, n, request)

    def _begin_try(self, serving: Serving, n: int, request: UpstreamRequest) -> None:
        """It is written down."""
        self._serving, self._tries, self._sent = serving, n, False
        self._head_at = None
        self._attempt_began = self._house.clock.monotonic()
        self._actions.connect(serving.upstream, request)

    def _is_admitted(self, serving: Serving, problem: Problem) -> bool:
        """Whether the call may go on to this target's provider at once. If not, its limits are asked, and `taken` goes on."""
        if serving.upstream.id in self._admitted:
            return True
        try:
            want = self._limiting.want_of(serving)
        except errors.Refusal:
            self._skip(serving, problem)
            return False
        if want is None:
            return True
        self._asking = problem
        self._actions.take(want)
        return False

    def taken(self, outcome: Lease | Refused) -> None:
        """The limits of the next target's provider have an answer: it is tried, or passed over."""
        problem, self._asking = self._asking, None
        if problem is None or self._seat.is_over:
            if isinstance(outcome, Lease):
                outcome.release()
            return
        serving = self._targets[self._tries]
        if isinstance(outcome, Refused):
            self._skip(serving, problem)
            return
        if self._seat.lease is not None:
            self._seat.lease.absorb(outcome)
        self._admitted.add(serving.upstream.id)
        self._try_next(problem)

    def _skip(self, serving: Serving, problem: Problem) -> None:
        """Passes over every target of a provider that allows nothing more."""
        tried, rest = self._targets[: self._tries], self._targets[self._tries :]
        its = serving.upstream.id
        self._targets = tried + tuple(each for each in rest if each.upstream.id != its)
        self._try_next(problem)

    def _may_try_next(self) -> bool:
        return self._tries < len(self._targets) and self._unheard_bytes is None

    def _translate(self, serving: Serving, n: int) -> UpstreamRequest:
        self._secret = serving.upstream.open_credential()
        cap = cap_for(self._limiting, serving.upstream)
        return ordering.request(self._order, serving, n, self._secret, cap, self._house.timeouts)

    def upstream_sent(self, waited: float) -> None:
        self._sent = True
        if self._overhead is None:
            spent = self._house.clock.monotonic() - self._order.read_at
            self._overhead = max(0.0, spent - waited)

    # ------------------------------------------------------------------------------------------------------- 10 return

    def upstream_head(self, status: int, headers: Headers) -> None:
        now = self._head_at = self._house.clock.monotonic()
        if status in errors.REFUSED_US and self._serving is not None:
            self._house.cooling.refused(self._serving.upstream, now)
        if (status in _TRY_NEXT or status in errors.REFUSED_US) and self._may_try_next():
            self._actions.abort_upstream()
            self._end_attempt("upstream_status", status)
            self._try_next(errors.of_upstream_status(status))
            return
        self._status = status
        self._told = answers.told(headers)
        if self._order.call.stream and self._told.is_event_stream and 200 <= status < 300:
            dialect = self._order.head.endpoint.dialect
            self._watcher = dialect.StreamReader(self._order.call.wants_usage)
            self._begin([])

    def upstream_bytes(self, data: bytes) -> None:
        if self._first_byte_at is None:
            self._first_byte_at = self._house.clock.monotonic()
        if self._unheard_bytes is not None:
            self._unheard_bytes += len(data)
            if self._unheard_bytes > MOST_BYTES:
                self.give_up()
                return
        if self._watcher is not None:
            self._stream(self._watcher, data)
            return
        self._answer += data
        good = 200 <= self._status < 300
        if len(self._answer) > (MAX_ANSWER if good else _MAX_ERROR_ANSWER):
            self.break_off(errors.UPSTREAM_ERROR, "too_large")

    def _stream(self, watcher: StreamWatcher, data: bytes) -> None:
        try:
            out = watcher.feed(data)
        except EventTooLarge:
            self.break_off(errors.UPSTREAM_ERROR, "too_large")
            return
        if watcher.done:
            self._end_stream(out)
            return
        self._relay(out)
        if watcher.error is not None:
            dialect = self._order.head.endpoint.dialect
            told = dialect.clean_stream_error(watcher.error, self._secrets())
            self.break_off(errors.UPSTREAM_ERROR, "upstream_error_event", told)

    def _end_stream(self, out: bytes) -> None:
        """Relay the last of a stream, its own end mark. Clients stop reading there, so it is settled before that leaves us."""
        self._keep(out)
        self._end_attempt("ok", self._status)
        self._settle(self._status, None)
        self._actions.relay(out)
        self._actions.finish()

    def upstream_end(self) -> None:
        self._head_at = self._house.clock.monotonic()
        watcher = self._watcher
        if watcher is None:
            self._return_whole()
            return
        rest = watcher.finish()
        if watcher.done:
            self._end_stream(rest)
            return
        # A stream that does not end with its own mark was cut, however politely the connection ended.
        self._relay(rest)
        self.break_off(errors.UPSTREAM_ERROR, "closed")

    def _return_whole(self) -> None:
        status, body = self._status, bytes(self._answer)
        if not 200 <= status < 300:
            self._end_attempt("upstream_status", status)
            self._return_error(status, body)
            return
        if not self._order.head.endpoint.dialect.is_answer(body):
            self._end_attempt("no_answer", status)
            self._fail(errors.UPSTREAM_ERROR)
            return
        self._end_attempt("ok", status)
        self._keep(body)
        # What it says of itself is not believed: it is an object, and a browser is not to take it for a page.
        self._told = self._told.as_json()
        cost = self._settle(status, None)
        self._begin([*answers.cost(cost), answers.length(body)])
        self._actions.relay(body)
        self._actions.finish()

    def _return_error(self, status: int, body: bytes) -> None:
        """An upstream's no: the caller's business with its own status and a cleaned body, or ours."""
        if not errors.passes(status):
            self._fail(errors.of_upstream_status(status))
            return
        order, told = self._order, self._told
        dialect = order.head.endpoint.dialect
        cleaned = dialect.clean_error(status, body, told.content_type, self._secrets())
        self._settle(status, "upstream_error")
        extra: Headers = [(b"x-gatehouse-upstream-status", str(status).encode())]
        if told.retry_after:
            extra.append((b"retry-after", told.retry_after))
        self._told = told.as_json()
        self._begin([*extra, answers.length(cleaned)])
        self._actions.relay(cleaned)
        self._actions.finish()

    def _secrets(self) -> list[Secret]:
        """What must not be in anything that an upstream says."""
        return [] if self._secret is None else [self._secret]

    def upstream_failed(self, failure: UpstreamFailure) -> None:
        problem = errors.of_failure(failure)
        if self._started:
            self.break_off(problem, failure.kind.value)
            return
        self._end_attempt(failure.kind.value, self._status or None)
        if failure.nothing_sent:
            self._try_next(problem)
        else:
            self._fail(problem)

    def _begin(self, extra: Headers) -> None:
        """Write the head of an answer that an upstream gave."""
        overhead = self._overhead = self._overhead_so_far() or 0.0
        self._started = True
        headers = [*self._labels(), *answers.passed_on(self._told, overhead), *extra]
        self._actions.start(self._status, headers)

    def _labels(self) -> Headers:
        labels = answers.labels(self._order.head, self._serving, self._tries, self._seat.lease)
        if self._limiting.is_clamped:
            labels.append((b"x-gatehouse-max-tokens", str(self._limiting.output_cap).encode()))
        return labels

    def _relay(self, out: bytes) -> None:
        if out:
            self._keep(out)
            self._actions.relay(out)

    # ---------------------------------------------------------------------------------------- ends, asked for or not

    def client_gone(self) -> None:
        self._actions.abort_upstream()
        self._end_attempt("cancelled", self._status or None)
        self._settle(CLIENT_LEFT, "client_gone")

    def is_read_on(self) -> bool:
        """Of a call whose caller has left: whether the upstream is read on to its usage all the same. `Actions.cut` follows."""
        if self._unheard_bytes is not None:
            return True
        is_open = self._sent and len(self._attempts) < self._tries
        if not is_open or self._serving is None or not self._serving.upstream.drains:
            return False
        unheard = self._house.unheard
        if not unheard.admit(self, self._house.clock.monotonic()):
            return False
        self._unheard_bytes = 0
        edge = self._actions
        # Everything but what is said to the caller goes on as it would; at the end the edge lets go.
        self._actions = cast("Actions", SilentActions(edge, lambda: unheard.forget(self)))
        edge.read_on()
        return True

    def give_up(self) -> None:
        """Nobody hears the call, and it has taken too long or brought too much: it ends here."""
        try:
            self.client_gone()
        finally:
            self._actions.finish()

    def break_off(self, problem: Problem, outcome: str, event: bytes | None = None) -> None:
        """End a call that an upstream may still be answering: one error event (`event` or the problem's) in a stream, else a
        plain error.
        """
        self._actions.abort_upstream()
        self._end_attempt(outcome, self._status or None)
        if not self._started:
            self._fail(problem)
            return
        self._settle(self._status, problem.code)
        self._actions.relay(event or problem.event(self._order.head.endpoint.dialect))
        self._actions.finish()

    def _fail(self, problem: Problem) -> None:
        """The end of a call that has shown the caller nothing yet."""
        labels = self._labels()
        self._settle(problem.status, problem.code)
        body = problem.body(self._order.head.endpoint.dialect)
        answers.whole(self._actions, problem.status, [*labels, *problem.headers], body)

    # ------------------------------------------------------------------------------------------------------- 11 settle

    def _end_attempt(self, outcome: str, status: int | None) -> None:
        """Close the try that is open. Does nothing when none is."""
        if len(self._attempts) == self._tries:
            return
        self._attempts.append(
            AttemptOutcome(
                n=self._tries,
                outcome=outcome,
                duration_us=self._micros_since(self._attempt_began),
                status=status,
                ttfb_us=self._first_byte_after(self._attempt_began),
            )
        )

    def _settle(self, status: int, error_code: str | None) -> int | None:
        """Write the settlement down; the call is over. Gives the cost in nano-USD, None if no price is known."""
        if self._unheard_bytes is not None:
            status, error_code = CLIENT_LEFT, "client_gone"
        came_to = self._used()
        overhead = self._overhead_so_far()
        ending = settling.Ending(
            settled_at=self._house.clock.unix_us(),
            status=status,
            error_code=error_code,
            usage=came_to.usage,
            source=came_to.source,
            overrun=came_to.overrun,
            duration_us=self._micros_since(self._order.head.began),
            ttfb_us=self._first_byte_after(self._order.read_at),
            overhead_us=None if overhead is None else round(overhead * 1_000_000),
            attempts=self._attempts,
            content=self._capture.sealed(self._intent.request_id) if self._capture else None,
            replay=self._answer_for_repetitions(),
        )
        record = settling.settlement(self._intent, ending, self._price)
        try:
            self._actions.append(record)
        finally:
            self._seat.is_over = True
        if self._seat.lease is not None:
            used = record.usage
            served_by = self._serving.upstream.id if self._serving is not None else None
            self._seat.lease.settle(used.input + used.output, record.cost_nano_usd or 0, served_by)
        self._house.meters.settled(self._intent.dialect_in, record, self._targets)
        return record.cost_nano_usd

    def _keep(self, data: bytes) -> None:
        if self._capture is not None:
            self._capture.add(data)
        if self._keepsake is not None:
            self._keepsake.add(data)

    def _answer_for_repetitions(self) -> bytes | None:
        """Of a call with an Idempotency-Key the answer, if it is good and whole."""
        if self._keepsake is None or not self._attempts or self._attempts[-1].outcome != "ok":
            return None
        return self._keepsake.sealed(self._status, self._told.content_type)

    def _used(self) -> Used:
        if not self._attempts:
            return using.NOTHING
        order = self._order
        seen = using.Seen(
            endpoint=order.head.endpoint,
            call=order.call,
            outcome=self._attempts[-1].outcome,
            status=self._status,
            sent=self._sent,
            answer=bytes(self._answer),
            watcher=self._watcher,
            most=(self._limiting.bound.tokens_in, self._limiting.bound.tokens_out),
        )
        return using.used(seen, self._serving, self._intent.correlation_id)

    def _overhead_so_far(self) -> float | None:
        """Seconds that were ours: before the request was out, and since there was an answer that the caller has not got."""
        if self._overhead is None or self._started or self._head_at is None:
            return self._overhead
        return self._overhead + self._house.clock.monotonic() - self._head_at

    def _first_byte_after(self, moment: float) -> int | None:
        at = self._first_byte_at
        return None if at is None else round((at - moment) * 1_000_000)

    def _micros_since(self, moment: float) -> int:
        return round((self._house.clock.monotonic() - moment) * 1_000_000)
