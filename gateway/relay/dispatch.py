"""A call that passed every gate: journalled, sent, returned, settled (steps 7 to 11 of exchange.py).

Every way out of here goes through `_settle`, once, and it is synchronous: nothing that happens to the caller's task or
connection can come between what was used and the record of it.
"""

from typing import Final, cast
from uuid import UUID

from gateway.relay import answers, content, errors, ordering, using
from gateway.relay.content import Keeping
from gateway.relay.errors import Problem
from gateway.relay.facts import NOTHING, NOTHING_TOLD, Order, Seen, Used
from gateway.relay.limiting import Limiting, cap_for
from gateway.relay.ports import GONE, Actions, House, Seat
from gateway.relay.silent import SilentActions
from gateway.relay.stopwatch import Stopwatch
from gateway.relay.unheard import MOST_BYTES
from providers.dialects.base import StreamWatcher
from providers.routing import Serving
from providers.sse import EventTooLarge
from providers.types import Headers, UpstreamFailure, UpstreamRequest, Usage
from tenants.sealing import Secret
from usage.hands import Lease
from usage.idempotency import Fresh
from usage.records import AttemptOutcome, AttemptStarted, Settlement
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
        "_attempts",
        "_house",
        "_intent",
        "_keeping",
        "_limiting",
        "_order",
        "_ready",
        "_reported",
        "_seat",
        "_secrets",
        "_sent",
        "_serving",
        "_started",
        "_status",
        "_targets",
        "_told",
        "_tries",
        "_unheard_bytes",
        "_watch",
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
        self._actions = actions
        self._house = house
        self._order = order
        self._seat = seat
        self._limiting = limiting
        #: The first try's request, which the journal has.
        self._ready: UpstreamRequest | None = None
        #: Providers whose limits the call has taken from; and what the last try came to while the next one's are asked.
        self._admitted: tuple[UUID, ...] = (limiting.targets[0].upstream.id,)
        self._asking: Problem | None = None
        self._intent = ordering.intent(
            order, limiting.bound, seat.lease, claim.id if claim else None
        )
        self._keeping = content.keeping(order, claim)
        self._watch = Stopwatch(house.clock, order.head.began, order.read_at)
        self._attempts: list[AttemptOutcome] = []
        self._tries = 0
        self._sent = False
        self._serving: Serving | None = None
        #: What must not be in anything that an upstream says.
        self._secrets: list[Secret] = []
        self._status = 0
        self._told = NOTHING_TOLD
        self._answer = bytearray()
        self._watcher: StreamWatcher | None = None
        #: What a whole answer says that it used.
        self._reported: Usage | None = None
        self._started = False
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
            try:
                ready = self._translate(serving, 1)
            except errors.REFUSALS:
                ready = None  # left to `send`, which finds out why
        self._actions.append(self._intent, self._attempt(serving, 1) if ready else None)
        self._ready = ready

    def _attempt(self, serving: Serving, n: int) -> AttemptStarted:
        now = self._house.clock.unix_us()
        return ordering.attempt(self._intent, serving, n, now, self._limiting.price)

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
        self._watch.tries()
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
        self._admitted += (serving.upstream.id,)
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
        house, asked = self._house, self._order.head.asked
        letter = house.letters.letter(
            serving, asked.endpoint.operation or "", asked.forwarded, house.clock.monotonic()
        )
        self._secrets = [] if letter.secret is None else [letter.secret]
        cap = cap_for(self._limiting, serving.upstream)
        return ordering.request(self._order, serving, n, letter, cap)

    def upstream_sent(self, waited: float) -> None:
        self._sent = True
        self._watch.sent(waited)

    # ------------------------------------------------------------------------------------------------------- 10 return

    def upstream_answer(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer at once."""
        if not self._hear(status, headers):
            return
        if self._watcher is not None or self._unheard_bytes is not None:
            self.upstream_bytes(body)
            if not self._seat.is_over:
                self.upstream_end()
            return
        if body:
            self._watch.hears_body()
        if self._is_too_large(body):
            self.break_off(errors.UPSTREAM_ERROR, "too_large")
        else:
            self._return_whole(body)

    def upstream_head(self, status: int, headers: Headers) -> None:
        self._hear(status, headers)

    def _hear(self, status: int, headers: Headers) -> bool:
        """How an upstream begins its answer. False: the next one is tried."""
        now = self._watch.hears()
        if status != 200 and self._is_passed_over(status, headers, now):
            return False
        self._status = status
        self._told = answers.told(headers)
        if self._order.call.stream and self._told.is_event_stream and 200 <= status < 300:
            dialect = self._order.head.asked.endpoint.dialect
            self._watcher = dialect.StreamReader(self._order.call.wants_usage)
            self._forget_what_was_asked()
            self._actions.start(status, self._headers())
        return True

    def _forget_what_was_asked(self) -> None:
        """It is not sent again, and a stream may stay for minutes: long conversations would stay with it."""
        order = self._order = self._order.without_words()
        self._limiting.call = order.call

    def _is_passed_over(self, status: int, headers: Headers, now: float) -> bool:
        if status in errors.REFUSED_US and self._serving is not None:
            self._house.cooling.refused(self._serving.upstream, now)
        if status not in _TRY_NEXT and status not in errors.REFUSED_US:
            return False
        if not self._may_try_next():
            return False
        self._actions.abort_upstream()
        self._end_attempt("upstream_status", status)
        self._try_next(errors.of_passed_over(status, answers.told(headers).retry_after))
        return True

    def upstream_bytes(self, data: bytes) -> None:
        self._watch.hears_body()
        if self._unheard_bytes is not None and self._is_enough(len(data)):
            self.give_up()
            return
        watcher = self._watcher
        if watcher is None:
            self._answer += data
            if self._is_too_large(self._answer):
                self.break_off(errors.UPSTREAM_ERROR, "too_large")
            return
        try:
            out = watcher.feed(data)
        except EventTooLarge:
            self.break_off(errors.UPSTREAM_ERROR, "too_large")
            return
        if watcher.done:
            self._end_stream(out)
            return
        if out:
            if self._keeping is not None:
                self._keeping.add(out)
            self._actions.relay(out)
        if watcher.error is not None:
            self._break_off_with(watcher.error)

    def _is_enough(self, more: int) -> bool:
        """Of an answer that nobody hears."""
        self._unheard_bytes = (self._unheard_bytes or 0) + more
        return self._unheard_bytes > MOST_BYTES

    def _break_off_with(self, error: bytes) -> None:
        """The upstream itself said in its stream that it failed."""
        dialect = self._order.head.asked.endpoint.dialect
        told = dialect.clean_stream_error(error, self._secrets)
        self.break_off(errors.UPSTREAM_ERROR, "upstream_error_event", told)

    def _is_too_large(self, answer: bytes | bytearray) -> bool:
        good = 200 <= self._status < 300
        return len(answer) > (MAX_ANSWER if good else _MAX_ERROR_ANSWER)

    def _end_stream(self, out: bytes) -> None:
        """Relay the last of a stream, its own end mark. Clients stop reading there, so it is settled before that leaves us."""
        if self._keeping is not None:
            self._keeping.add(out)
        self._end_attempt("ok", self._status)
        self._settle(self._status, None)
        self._actions.relay(out)
        self._actions.finish()

    def upstream_end(self) -> None:
        self._watch.hears()
        watcher = self._watcher
        if watcher is None:
            self._return_whole(bytes(self._answer))
            return
        rest = watcher.finish()
        if watcher.done:
            self._end_stream(rest)
            return
        # A stream that does not end with its own mark was cut, however politely the connection ended.
        if rest:
            if self._keeping is not None:
                self._keeping.add(rest)
            self._actions.relay(rest)
        self.break_off(errors.UPSTREAM_ERROR, "closed")

    def _return_whole(self, body: bytes) -> None:
        status = self._status
        if not 200 <= status < 300:
            self._end_attempt("upstream_status", status)
            self._return_error(status, body)
            return
        is_answer, self._reported = self._order.head.asked.endpoint.dialect.read_answer(body)
        if not is_answer:
            self._reported = None
            self._end_attempt("no_answer", status)
            self._fail(errors.UPSTREAM_ERROR)
            return
        self._end_attempt("ok", status)
        if self._keeping is not None:
            self._keeping.add(body)
        # What it says of itself is not believed: it is an object, and a browser is not to take it for a page.
        self._told = self._told.as_json()
        cost = self._settle(status, None, body)
        self._answer_with(body, answers.cost(cost))

    def _answer_with(self, body: bytes, extra: Headers) -> None:
        """The whole of an answer that an upstream gave."""
        headers = self._headers()
        headers += extra
        headers.append(answers.length(body))
        self._actions.reply(self._status, headers, body)

    def _return_error(self, status: int, body: bytes) -> None:
        """An upstream's no: the caller's business with its own status and a cleaned body, or ours."""
        if not errors.passes(status):
            self._fail(errors.of_upstream_status(status))
            return
        order, told = self._order, self._told
        dialect = order.head.asked.endpoint.dialect
        cleaned = dialect.clean_error(status, body, told.content_type, self._secrets)
        self._settle(status, "upstream_error", body)
        self._told = told.as_json()
        self._answer_with(cleaned, errors.upstream_said(status, told.retry_after))

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

    def _headers(self) -> Headers:
        """The head of an answer that an upstream gave begins with these; from here on the caller sees it."""
        self._started = True
        headers = self._labels()
        headers += answers.passed_on(self._told, self._watch.shows())
        return headers

    def _labels(self) -> Headers:
        labels = answers.labels(self._order.head, self._serving, self._tries, self._seat.lease)
        if self._limiting.is_clamped:
            labels.append((b"x-gatehouse-max-tokens", str(self._limiting.output_cap).encode()))
        return labels

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

    def let_go(self) -> None:
        """Of the edge, which holds this call."""
        self._actions = GONE

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
        self._actions.relay(event or problem.event(self._order.head.asked.endpoint.dialect))
        self._actions.finish()

    def _fail(self, problem: Problem) -> None:
        """The end of a call that has shown the caller nothing yet."""
        labels = self._labels()
        self._settle(problem.status, problem.code)
        body = problem.body(self._order.head.asked.endpoint.dialect)
        answers.whole(self._actions, problem.status, [*labels, *problem.headers], body)

    # ------------------------------------------------------------------------------------------------------- 11 settle

    def _end_attempt(self, outcome: str, status: int | None) -> None:
        """Close the try that is open. Does nothing when none is."""
        n, watch = self._tries, self._watch
        if len(self._attempts) < n:
            self._attempts.append(
                AttemptOutcome(n, outcome, watch.try_duration(), status, watch.try_ttfb())
            )

    def _settle(self, status: int, error_code: str | None, answer: bytes = b"") -> int | None:
        """Write the settlement down; the call is over. Gives the cost in nano-USD, None if no price is known.

        `answer`: the upstream's, where it is whole.
        """
        if self._unheard_bytes is not None:
            status, error_code = CLIENT_LEFT, "client_gone"
        used = self._used(answer)
        tariff, intent = self._limiting.tariff, self._intent
        cost = using.cost_of(used, tariff)
        watch, kept, replay = self._watch, None, None
        if self._keeping is not None:
            kept, replay = self._kept(self._keeping)
        record = Settlement(
            month=intent.month,
            request_id=intent.request_id,
            settled_at=self._house.clock.unix_us(),
            status=status,
            error_code=error_code,
            dispatched="yes" if self._attempts else "no",
            usage=used.usage,
            usage_source=used.source,
            cost_nano_usd=cost,
            price_id=tariff.tag.id if tariff else None,
            duration_us=watch.duration(),
            ttfb_us=watch.ttfb(),
            overhead_us=watch.overhead(),
            attempts=list(self._attempts),
            content=kept,
            replay=replay,
            overrun=used.overrun,
        )
        seat = self._seat
        try:
            self._actions.append(record)
        finally:
            seat.is_over = True
        if seat.lease is not None:
            usage = used.usage
            served_by = self._serving.upstream.id if self._serving is not None else None
            seat.lease.settle(usage.input + usage.output, cost or 0, served_by)
        self._house.meters.settled(intent.dialect_in, record, self._targets)
        return cost

    def _kept(self, keeping: Keeping) -> tuple[bytes | None, bytes | None]:
        """The bodies for the log, and the answer for repetitions, if it is good and whole."""
        is_good = bool(self._attempts) and self._attempts[-1].outcome == "ok"
        return (
            keeping.content(self._intent.request_id),
            keeping.replay(self._status, self._told.content_type) if is_good else None,
        )

    def keep_no_bodies(self) -> None:
        if self._keeping is not None:
            self._keeping.keep_no_bodies()

    def _used(self, answer: bytes) -> Used:
        if not self._attempts:
            return NOTHING
        order, bound, watcher = self._order, self._limiting.bound, self._watcher
        seen = Seen(
            order.head.asked.endpoint,
            order.call,
            self._attempts[-1].outcome,
            self._status,
            self._sent,
            answer or bytes(self._answer),
            watcher,
            self._reported if watcher is None else watcher.usage,
            (bound.tokens_in, bound.tokens_out),
        )
        return using.used(seen, self._serving, self._intent.correlation_id)
