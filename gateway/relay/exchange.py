"""One request's way through the house. Holds no socket, no clock and no `await`: an edge feeds it events and carries out its
actions, so two edges can drive it and a test can run it without either.

    step          takes → gives                                                      ends with
    1  admit      the request's head → request id, a seat                            503
    2  identify   headers → identity, from the snapshot                              401, 503
    3  read       body, decoded once → model, stream, caps                           400, 408, 413, 415
    4  authorise  identity + model + kind + address → yes                            403
    5  route      model → ordered targets                                            400, 404, 503
    6  limit      one all-or-nothing take over every level → lease                   400, 402, 429, 503
    -- from here on a call exists, and it is a `Dispatch` (dispatch.py) --
    7  journal    the intent, then each attempt, before a byte goes upstream         503
    8  translate  values keep their bytes → the upstream's request                   503
    9  send       the next target, only before the first byte to the caller          502, 504
    10 return     bytes relayed, watched for usage, finish and error                 an error event
    11 settle     hold + usage → settlement record, exactly once                     –

Time limits of the upstream's side are the transport's, which reports them as failures.
"""

from collections.abc import Sequence

from gateway.metrics import planes
from gateway.relay import answers, errors, explain, lanes, once, reasons
from gateway.relay.claims import Unclaimable
from gateway.relay.dispatch import CLIENT_LEFT, Dispatch
from gateway.relay.errors import Problem, Refusal
from gateway.relay.facts import Asked, Head, Order
from gateway.relay.ids import new_id
from gateway.relay.limiting import Limiting
from gateway.relay.ports import GONE, Actions, House, Seat
from gateway.snapshot import Found, Known, Unlookable
from providers.dialects.base import CallBody
from providers.types import Headers, UpstreamFailure
from tenants.clock import month_of
from usage.hands import Lease
from usage.idempotency import Answer, Fresh, Outcome
from usage.journal import JournalUnavailable
from usage.records import Refusal as RefusalRecord
from usage.records import Why
from usage.wants import Refused, Told, Want


class Exchange:
    """Events in, actions out. Once it is over, events do nothing."""

    __slots__ = (
        "_actions",
        "_awaits_claim",
        "_call",
        "_claim",
        "_dispatch",
        "_head",
        "_house",
        "_is_dry",
        "_limited",
        "_limiting",
        "_looked",
        "_order",
        "_seat",
        "known",
    )

    def __init__(self, actions: Actions, house: House) -> None:
        self._actions = actions
        self._house = house
        self._seat: Seat | None = None
        self._call: CallBody | None = None
        self._order: Order | None = None
        self._dispatch: Dispatch | None = None
        self._limited: Refused | None = None
        self._looked: Sequence[Told] | None = None
        self._limiting: Limiting | None = None
        #: A dry run: told what would become of it, and nothing else (explain.py).
        self._is_dry = False
        self.known: Known | None = None
        self._claim: Fresh | None = None
        #: Somebody was asked whose call this is, and has to be heard: a claim that was won is given back.
        self._awaits_claim = False

    @property
    def name(self) -> str:
        """What the caller knows the call by."""
        return self._head.correlation_id

    @property
    def named(self) -> dict[str, str]:
        """`extra` of a log line about this call: callbacks of a connection run in the context of whoever opened it."""
        return {"request_id": self.name}

    @property
    def is_over(self) -> bool:
        return self._seat is None or self._seat.is_over

    # ------------------------------------------------------------------------------------------------ 1 admit, 2 identify

    def begin(self, asked: Asked, address: str) -> None:
        """A request's head has come."""
        house = self._house
        clock = house.clock
        received_at = clock.unix_us()
        request_id = new_id(received_at)
        self._head = Head(
            asked,
            address,
            request_id,
            asked.offered_id or f"{request_id.int:032x}",
            received_at,
            clock.monotonic(),
        )
        if house.slots.free <= 0:
            self._count(errors.OVERLOADED.status)
            answers.problem(self._actions, self._head, errors.OVERLOADED)
            return
        self._seat = Seat(house.slots)
        if asked.unknown is not None:
            self._refuse(asked.unknown)
            return
        self._actions.lookup(asked.fingerprint)

    def identified(self, found: Found) -> None:
        """The look-up has an answer."""
        if self._seat is None or self._seat.is_over:
            return
        asked = self._head.asked
        try:
            known = self.known = self._accepted(found)
            if asked.endpoint.operation is None:
                self._list_models(known)
                return
        except errors.REFUSALS as fault:
            self._refuse(errors.of(fault))
            return
        if asked.unfit is not None:
            self._refuse(asked.unfit)
            return
        self._is_dry = asked.is_dry
        self._actions.read_body(self._house.max_body)

    @property
    def fingerprint(self) -> bytes:
        """What the caller was looked up by."""
        return self._head.asked.fingerprint

    def _accepted(self, found: Found) -> Known:
        if isinstance(found, Known):
            until = found.identity.valid_until
            if until is None or until > self._head.received_at:
                return found
        elif isinstance(found, Unlookable):
            raise Refusal(errors.NOT_READY)
        raise Refusal(errors.INVALID_KEY)

    def _list_models(self, known: Known) -> None:
        self._authorise_caller(known)
        head = self._head
        body = answers.models(head.asked.endpoint.dialect, known, head.asked.item)
        if body is None:
            raise Refusal(errors.model_not_found(head.asked.item))
        self._end()
        self._count(200)
        answers.whole(self._actions, 200, answers.labels(head), body)

    # --------------------------------------------------------------------------- 3 read, 4 authorise, 5 route, 6 limit

    def too_large(self) -> None:
        """The body passed its limit; the rest of it was not read."""
        self._refuse(errors.body_too_large(self._house.max_body))

    def too_late(self) -> None:
        """Of the body nothing has come for longer than we wait."""
        self._refuse(errors.SLOW_BODY)

    def received(self, body: bytes) -> None:
        """The whole body is here."""
        known, asked = self.known, self._head.asked
        endpoint = asked.endpoint
        if self.is_over or known is None or endpoint.operation is None:
            return
        read_at = self._house.clock.monotonic()
        try:
            call = self._call = endpoint.dialect.read_request(body, endpoint.operation, asked.item)
            self._authorise_caller(known)
            found = lanes.lane(known, endpoint.capability, call.model)
            self._order = Order(self._head, known, call, found, body, read_at)
            wish = once.wish_of(self._head, known, body) if asked.once else None
        except errors.REFUSALS as fault:
            self._refuse(errors.of(fault))
            return
        if wish is None or self._is_dry:
            self._take(known)
        else:
            self._awaits_claim = True
            self._actions.claim(wish)

    def claimed(self, outcome: Outcome | Unclaimable) -> None:
        """It is known whose call this is: ours to make, or another's, whose answer is the answer."""
        known = self.known
        self._awaits_claim = False
        if isinstance(outcome, Fresh):
            self._claim = outcome
        if known is None or self.is_over:
            if isinstance(outcome, Fresh) and known is not None:
                self._log_refusal(known, CLIENT_LEFT, "client_gone")  # which gives the claim back
        elif isinstance(outcome, Fresh):
            self._take(known)
        elif isinstance(outcome, Answer):
            self._answer_again(known, outcome)
        else:
            self._refuse(once.problem_of(outcome))

    def _answer_again(self, known: Known, answer: Answer) -> None:
        """What the first call was answered: nothing is sent, nothing is charged, and the log says so."""
        self._log_refusal(known, answer.status, "", is_replay=True)
        self._end()
        self._count(answer.status)
        once.answer_again(self._actions, self._head, answer)

    def _take(self, known: Known) -> None:
        order = self._order
        if order is None:
            return
        targets = self._house.cooling.ordered(order.lane.targets, order.read_at)
        limiting = self._limiting = Limiting(order.head, known, order.call, order.lane, targets)
        try:
            want = limiting.want()
        except Refusal as fault:
            self._refuse(fault.problem)
            return
        self._ask(want)

    def _ask(self, want: Want) -> None:
        if self._is_dry:
            self._actions.peek(want)
        else:
            self._actions.take(want)

    def peeked(self, found: Sequence[Told] | Refused) -> None:
        """What a take would have come to."""
        if isinstance(found, Refused):
            self._limits_refused(found)
        elif not self.is_over:
            self._looked = found
            self._explain(None)

    def _authorise_caller(self, known: Known) -> None:
        if "inference" not in known.identity.scopes:
            raise Refusal(errors.NO_SCOPE)
        if known.identity.allowed_networks and not known.identity.may_call_from(self._head.address):
            raise Refusal(errors.BAD_ADDRESS)

    def taken(self, outcome: Lease | Refused) -> None:
        """The limits have an answer: for the call, or for going on to another provider."""
        if self._dispatch is not None:
            self._dispatch.taken(outcome)
            return
        if isinstance(outcome, Refused):
            self._limits_refused(outcome)
            return
        seat, order, limiting = self._seat, self._order, self._limiting
        if seat is None or seat.is_over or order is None or limiting is None:
            outcome.release()
            return
        seat.lease = outcome
        dispatch = Dispatch(self._actions, self._house, order, limiting, seat, self._claim)
        try:
            dispatch.intend()
        except JournalUnavailable:
            self._refuse(errors.NO_LEDGER)
            return
        # Only now: what was not journalled cannot be settled. What was asked is the dispatch's, which may let go of it.
        self._dispatch = dispatch
        self._order = self._call = None
        if self.known is not order.known and self.known is not None:
            self.known_anew(self.known)
        if self._house.commits:
            self._actions.commit()
        else:
            dispatch.send()

    def committed(self, is_there: bool) -> None:
        """Whether the tables have the intent."""
        if self._dispatch is None or self.is_over:
            return
        if is_there:
            self._dispatch.send()
        else:
            self._dispatch.break_off(errors.NO_LEDGER, "not_committed")

    def _limits_refused(self, refused: Refused) -> None:
        if self.is_over or self._limiting is None:
            return
        instead = self._limiting.again(refused)
        if isinstance(instead, Want):
            self._ask(instead)
            return
        self._limited = refused
        if not self._is_dry:
            self._house.meters.refused_by_limit(refused.level, refused.reason)
        self._refuse(instead)

    # ----------------------------------------------------------------------------------- 7 to 10: the dispatch's events

    def upstream_sent(self, waited: float) -> None:
        """The request is with the kernel. `waited` seconds of that went into queueing, names, connecting and TLS."""
        if self._dispatch is not None:
            self._dispatch.upstream_sent(waited)

    def upstream_head(self, status: int, headers: Headers) -> None:
        if self._dispatch is not None and not self.is_over:
            self._dispatch.upstream_head(status, headers)

    def upstream_bytes(self, data: bytes) -> None:
        dispatch, seat = self._dispatch, self._seat
        if dispatch is not None and seat is not None and not seat.is_over:
            dispatch.upstream_bytes(data)

    def upstream_answer(self, status: int, headers: Headers, body: bytes) -> None:
        """All of it at once."""
        dispatch, seat = self._dispatch, self._seat
        if dispatch is not None and seat is not None and not seat.is_over:
            dispatch.upstream_answer(status, headers, body)

    def upstream_end(self) -> None:
        if self._dispatch is not None and not self.is_over:
            self._dispatch.upstream_end()

    def upstream_failed(self, failure: UpstreamFailure) -> None:
        if self._dispatch is not None and not self.is_over:
            self._dispatch.upstream_failed(failure)

    # --------------------------------------------------------------------------------------- ends that nobody asked for

    def client_gone(self) -> None:
        """The caller left. The upstream is closed at once, and what it had given is charged; or it is read on to what it used
        (gateway/relay/unheard.py), and `Actions.cut` comes later.
        """
        if self.is_over or (self._dispatch is not None and self._dispatch.is_read_on()):
            return
        try:
            if self._dispatch is not None:
                self._dispatch.client_gone()
            else:
                if self.known is not None and self._claim is not None:
                    # Which gives the claim back: the call was not made.
                    self._log_refusal(self.known, CLIENT_LEFT, "client_gone")
                self._count(CLIENT_LEFT)
        finally:
            self._end()
            self._actions.cut()

    def leave(self) -> None:
        """The answer is written, or nobody is there to read it: what the call occupied is free again."""
        if self._seat is not None:
            self._seat.leave()

    def let_go(self) -> None:
        """Nothing of the call is left to do. Its edge holds this exchange, so this must not hold the edge."""
        if self._awaits_claim:
            return
        dispatch, self._dispatch = self._dispatch, None
        if dispatch is not None:
            dispatch.let_go()
        self._actions = GONE
        self._call = self._order = self._limiting = None

    def known_anew(self, known: Known) -> None:
        """The caller was looked up again in the middle of the call: their key may end at another time now, and what they sent
        may not be kept any more.
        """
        self.known = known
        if self._dispatch is not None and known.content_key is None:
            self._dispatch.keep_no_bodies()

    def revoked(self) -> None:
        """The key, its tenant or its account ended while the call ran."""
        self._interrupt(errors.INVALID_KEY, "revoked")

    def drain(self) -> None:
        """The worker stops and waits no longer."""
        self._interrupt(errors.DRAINING, "drained")

    def _interrupt(self, problem: Problem, outcome: str) -> None:
        if self.is_over:
            return
        if self._dispatch is not None:
            self._dispatch.break_off(problem, outcome)
        else:
            self._refuse(problem)

    def _refuse(self, problem: Problem) -> None:
        """Say no before anything was promised: no hold, no line in the ledger; of a known caller a log row."""
        if self.is_over:
            return
        if self._is_dry:
            self._explain(problem)
            return
        if self.known is not None:
            self._log_refusal(self.known, problem.status, problem.code)
        lease = self._seat.lease if self._seat else None
        self._end()
        self._count(problem.status)
        answers.problem(self._actions, self._head, problem, lease=lease)

    def _explain(self, problem: Problem | None) -> None:
        """The end of a dry run."""
        known, order = self.known, self._order
        if known is None:
            return
        self._end()
        self._count(200)
        taken = reasons.told_by(self._limited) if self._limited else self._looked
        plan = order.lane.plan if order is not None else None
        run = explain.Run(self._head, known, self._call, plan, self._limiting, taken, problem)
        explain.answer(self._actions, run)

    def _log_refusal(
        self, known: Known, status: int, code: str, *, is_replay: bool = False
    ) -> None:
        head, call = self._head, self._call
        record = RefusalRecord(
            month=month_of(head.received_at),
            request_id=head.request_id,
            correlation_id=head.correlation_id,
            received_at=head.received_at,
            caller=known.caller,
            model=call.model if call else head.asked.item[:256],
            dialect_in=head.asked.endpoint.dialect.NAME,
            stream=call.stream if call else False,
            status=status,
            error_code=code,
            idempotency=self._claim.id if self._claim else None,
            idempotent_replay=is_replay,
            duration_us=round((self._house.clock.monotonic() - head.began) * 1_000_000),
            why=self._why(known),
            trace_id=head.asked.trace_id,
        )
        try:
            self._actions.append(record)
        except JournalUnavailable:
            # The caller is being refused anyway, and nothing was used that could be lost.
            if self._claim is not None:
                self._actions.unclaim(self._claim.id)

    def _why(self, known: Known) -> Why:
        """What this call was asked so far."""
        lists = reasons.lists(known.identity)
        checked = lists if self._call is None else lists + reasons.READ
        candidates = self._order.lane.candidates if self._order is not None else ()
        return reasons.why(checked, candidates, reasons.told_by(self._limited))

    def _count(self, status: int) -> None:
        """One request, answered without a call to settle; those that have one are counted there."""
        self._house.meters.answered(planes.DATA, self._head.asked.endpoint.dialect.NAME, status)

    def _end(self) -> None:
        """Settled or refused: from here on events do nothing."""
        if self._seat is not None:
            self._seat.is_over = True
