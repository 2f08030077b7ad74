"""A call that passed every gate: journalled, sent, returned, settled (steps 7 to 11 of exchange.py).

Every way out of here goes through `_settle`, once, and it is synchronous: nothing that happens to the caller's task or
connection can come between what was used and the record of it.
"""

import logging
from dataclasses import dataclass
from typing import Final

from gateway.relay import answers, errors, settling
from gateway.relay.content import Capture
from gateway.relay.errors import Problem
from gateway.relay.ports import Actions, Head, House, Seat
from gateway.snapshot import Known
from providers.dialects.base import CallBody, StreamWatcher
from providers.routing import Plan, Serving
from providers.sse import EventTooLarge
from providers.types import Headers, UpstreamFailure, UpstreamRequest, Usage
from tenants.clock import month_of
from tenants.sealing import Secret
from usage import pricing
from usage.records import AttemptOutcome, AttemptStarted, Intent, UsageSource

logger = logging.getLogger(__name__)

#: Bytes of an answer that is not a stream; an upstream that sends more is cut off.
MAX_ANSWER: Final = 64 * 1024 * 1024
_MAX_ERROR_ANSWER: Final = 1024 * 1024
#: Answers after which the next target is tried, if there is one and the caller has seen nothing yet.
_TRY_NEXT: Final = frozenset((429, 502, 503, 504, 529))
#: What stands in the books for a caller who left before an answer.
CLIENT_LEFT: Final = 499
#: Tokens of one call that nothing else bounds: far beyond any model, and a price of thousands of USD still fits the books.
_MOST_TOKENS: Final = 10**9
#: Bytes of a whole answer that an estimate looks at.
_MAX_ESTIMATED: Final = 1024 * 1024
#: How a try ends that we stopped while the provider was at work.
_STOPPED_BY_US: Final = frozenset(("cancelled", "revoked", "drained"))
_FORWARDED: Final = frozenset((b"accept", b"openai-beta"))
#: Bytes of one such header. Longer ones say nothing, and are more than some providers read.
_MAX_FORWARDED: Final = 1024


@dataclass(frozen=True, slots=True)
class Order:
    """What steps 1 to 5 made of a request. `read_at` is when its body was complete, on the monotonic clock."""

    head: Head
    known: Known
    call: CallBody
    plan: Plan
    body: bytes
    read_at: float


class Dispatch:
    """Driven by the exchange until its seat is left."""

    __slots__ = (
        "_actions",
        "_answer",
        "_attempt_began",
        "_attempts",
        "_capture",
        "_first_byte_at",
        "_head_at",
        "_house",
        "_intent",
        "_order",
        "_overhead",
        "_price",
        "_seat",
        "_secret",
        "_sent",
        "_serving",
        "_started",
        "_status",
        "_told",
        "_tries",
        "_watcher",
    )

    def __init__(self, actions: Actions, house: House, order: Order, seat: Seat) -> None:
        self._actions = actions
        self._house = house
        self._order = order
        self._seat = seat
        self._price = order.plan.route.price_at(order.head.received_at)
        self._intent = self._intent_of(order)
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

    # ------------------------------------------------------------------------------------------------------- 7 journal

    def _intent_of(self, order: Order) -> Intent:
        head, call = order.head, order.call
        tokens_in, tokens_out = _bound(call, order.plan)
        return Intent(
            month=month_of(head.received_at),
            request_id=head.request_id,
            correlation_id=head.correlation_id,
            received_at=head.received_at,
            caller=order.known.caller,
            model=call.model,
            dialect_in=head.endpoint.dialect.NAME,
            stream=call.stream,
            hold_tokens=tokens_in + tokens_out,
            hold_nano_usd=pricing.bound(tokens_in, tokens_out, self._price) if self._price else 0,
            prompt_estimate=call.prompt_estimate,
        )

    def intend(self) -> None:
        """From here on the call exists, whatever happens to this process. Raises `JournalUnavailable`."""
        self._actions.append(self._intent)

    def _journal_attempt(self, serving: Serving, n: int) -> None:
        upstream = serving.upstream
        self._actions.append(
            AttemptStarted(
                month=self._intent.month,
                request_id=self._intent.request_id,
                n=n,
                started_at=self._house.clock.unix_us(),
                provider_id=upstream.id,
                provider=upstream.name,
                target=serving.name,
                dialect_out=upstream.dialect.NAME,
                credential_id=upstream.credential.id if upstream.credential else None,
                price_id=self._price.id if self._price else None,
            )
        )

    # -------------------------------------------------------------------------------------------- 8 translate, 9 send

    def send(self) -> None:
        """Try the first target."""
        self._try_next(errors.NOT_SERVED)

    def _try_next(self, problem: Problem) -> None:
        """Try the next target; when there is none left, `problem` is what the last one came to."""
        targets = self._order.plan.targets
        if self._tries >= len(targets):
            self._fail(problem)
            return
        serving, n = targets[self._tries], self._tries + 1
        try:
            request = self._translate(serving, n)
            self._journal_attempt(serving, n)
        except errors.REFUSALS as fault:
            failed = errors.of(fault)
            if failed is errors.UNREADABLE:
                self._actions.unreadable(serving.upstream)
            self._fail(failed)
            return
        self._serving, self._tries, self._sent = serving, n, False
        self._head_at = None
        self._attempt_began = self._house.clock.monotonic()
        self._actions.connect(serving.upstream, request)

    def _translate(self, serving: Serving, n: int) -> UpstreamRequest:
        order, upstream = self._order, serving.upstream
        dialect = upstream.dialect
        self._secret = upstream.open_credential()
        forwarded = [
            (name, value)
            for name, value in order.head.headers
            if name in _FORWARDED and len(value) <= _MAX_FORWARDED
        ]
        attempt_id = f"{order.head.request_id.hex}-{n}"
        return UpstreamRequest(
            origin=upstream.origin,
            method=b"POST",
            path=dialect.request_path(upstream, order.head.endpoint.operation or "", serving.name),
            headers=dialect.headers(self._secret, attempt_id, forwarded),
            body=dialect.write_request(order.call, serving.name),
            pool_key=upstream.pool_key,
            timeouts=self._house.timeouts,
        )

    def upstream_sent(self, waited: float) -> None:
        self._sent = True
        if self._overhead is None:
            spent = self._house.clock.monotonic() - self._order.read_at
            self._overhead = max(0.0, spent - waited)

    # ------------------------------------------------------------------------------------------------------- 10 return

    def upstream_head(self, status: int, headers: Headers) -> None:
        self._head_at = self._house.clock.monotonic()
        if status in _TRY_NEXT and self._tries < len(self._order.plan.targets):
            self._actions.abort_upstream()
            self._end_attempt("upstream_status", status)
            self._try_next(errors.UPSTREAM_ERROR)
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
        if self._capture is not None:
            self._capture.add(out)
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
        if self._capture is not None:
            self._capture.add(body)
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
        told = self._told
        headers = [
            *self._labels(),
            (b"content-type", told.content_type or b"application/json"),
            (b"x-gatehouse-overhead-ms", f"{overhead * 1000:.3f}".encode()),
            *extra,
        ]
        if told.request_id:
            headers.append((b"x-upstream-request-id", told.request_id))
        self._actions.start(self._status, headers)

    def _labels(self) -> Headers:
        return answers.labels(self._order.head, self._serving, self._tries, self._seat.lease)

    def _relay(self, out: bytes) -> None:
        if out:
            if self._capture is not None:
                self._capture.add(out)
            self._actions.relay(out)

    # ---------------------------------------------------------------------------------------- ends, asked for or not

    def client_gone(self) -> None:
        self._actions.abort_upstream()
        self._end_attempt("cancelled", self._status or None)
        self._settle(CLIENT_LEFT, "client_gone")

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
        usage, source = self._used()
        overhead = self._overhead_so_far()
        ending = settling.Ending(
            settled_at=self._house.clock.unix_us(),
            status=status,
            error_code=error_code,
            usage=usage,
            source=source,
            duration_us=self._micros_since(self._order.head.began),
            ttfb_us=self._first_byte_after(self._order.read_at),
            overhead_us=None if overhead is None else round(overhead * 1_000_000),
            attempts=self._attempts,
            content=self._capture.sealed(self._intent.request_id) if self._capture else None,
        )
        record = settling.settlement(self._intent, ending, self._price)
        try:
            self._actions.append(record)
        finally:
            self._seat.is_over = True
        targets = self._order.plan.targets
        self._house.meters.settled(self._intent.dialect_in, record, targets)
        return record.cost_nano_usd

    def _used(self) -> tuple[Usage, UsageSource]:
        """What the call came to: the provider's word; else, if it was at work, an estimate; else nothing."""
        if not self._attempts:
            return Usage(), "none"
        order, outcome = self._order, self._attempts[-1].outcome
        if self._watcher is not None:
            if self._watcher.usage is not None:
                return self._believed(self._watcher.usage), "provider"
            return _estimated(order.call, self._watcher.estimate_output()), "estimated"
        if outcome == "no_answer":
            return Usage(), "none"
        answered = 200 <= self._status < 300
        body = bytes(self._answer)
        dialect = order.head.endpoint.dialect
        if answered and outcome == "ok":
            usage = dialect.read_usage(body)
            if usage is not None:
                return self._believed(usage), "provider"
        if answered or (self._sent and outcome in _STOPPED_BY_US):
            # The provider was at work for this caller; leaving early does not make that free.
            has_output = body and order.head.endpoint.operation != "embedding"
            output = dialect.estimate_output_of(body[:_MAX_ESTIMATED]) if has_output else 0
            return _estimated(order.call, output), "estimated"
        return Usage(), "none"

    def _believed(self, usage: Usage) -> Usage:
        """A provider's figures within what this call could use at most: a lie must not fill anybody's books."""
        tokens_in, tokens_out = _bound(self._order.call, self._order.plan)
        within_in = max(tokens_in, self._order.plan.route.context_window or _MOST_TOKENS)
        within = Usage(
            input=min(usage.input, within_in),
            cached=usage.cached,
            output=min(usage.output, tokens_out or _MOST_TOKENS),
            reasoning=usage.reasoning,
        )
        if (within.input, within.output) != (usage.input, usage.output):
            logger.warning(
                "Provider %s reported %d and %d tokens for a call that could use %d and %d at most.",
                self._serving.upstream.id if self._serving else None,
                usage.input,
                usage.output,
                within.input,
                within.output,
                extra={"request_id": self._intent.correlation_id},
            )
        return within

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


def _estimated(call: CallBody, output: int) -> Usage:
    return Usage(input=call.prompt_estimate, output=output)


def _bound(call: CallBody, plan: Plan) -> tuple[int, int]:
    """(input, output) tokens that the call cannot pass, as far as the model is known; 0 where nothing bounds it."""
    window = plan.route.context_window
    tokens_in = call.size if window is None else min(call.size, window)
    if not call.text_only and window is not None:
        tokens_in = window
    tokens_out = call.n * (call.output_cap or plan.route.max_output_tokens or 0)
    return min(tokens_in, _MOST_TOKENS), min(tokens_out, _MOST_TOKENS)
