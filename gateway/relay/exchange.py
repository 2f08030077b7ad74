"""One request's way through the house. Holds no socket, no clock and no `await`: an edge feeds it events and carries out its
actions, so two edges can drive it and a test can run it without either.

    step          takes → gives                                                      ends with
    1  admit      the request's head → request id, a seat                            503
    2  identify   headers → identity, from the snapshot                              401, 503
    3  read       body, decoded once → model, stream, caps                           400, 413, 415
    4  authorise  identity + model + kind + address → yes                            403
    5  route      model → ordered targets                                            404, 503
    6  limit      one all-or-nothing take over every level → lease                   429
    -- from here on a call exists, and it is a `Dispatch` (dispatch.py) --
    7  journal    the intent, then each attempt, before a byte goes upstream         503
    8  translate  values keep their bytes → the upstream's request                   503
    9  send       the next target, only before the first byte to the caller          502, 504
    10 return     bytes relayed, watched for usage, finish and error                 an error event
    11 settle     hold + usage → settlement record, exactly once                     –

Time limits of the upstream's side are the transport's, which reports them as failures.
"""

from uuid import uuid4

from gateway.metrics import planes
from gateway.relay import answers, errors
from gateway.relay.dispatch import CLIENT_LEFT, Dispatch, Order
from gateway.relay.endpoints import Endpoint
from gateway.relay.errors import Problem, Refusal
from gateway.relay.ports import Actions, Head, House, Seat
from gateway.snapshot import Found, Known, Unknown, Unlookable
from keys.chain import CredentialError
from providers import routing
from providers.dialects.base import CallBody
from providers.routing import Plan
from providers.types import Headers, UpstreamFailure
from tenants.clock import month_of
from usage.journal import JournalUnavailable
from usage.limits import Lease, Refused
from usage.records import Refusal as RefusalRecord


class Exchange:
    """Events in, actions out. Once it is over, events do nothing."""

    __slots__ = (
        "_actions",
        "_call",
        "_dispatch",
        "_head",
        "_house",
        "_order",
        "_seat",
        "fingerprint",
        "known",
    )

    def __init__(self, actions: Actions, house: House) -> None:
        self._actions = actions
        self._house = house
        self._seat: Seat | None = None
        self._call: CallBody | None = None
        self._order: Order | None = None
        self._dispatch: Dispatch | None = None
        self.known: Known | None = None
        self.fingerprint = b""

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

    def begin(
        self,
        endpoint: Endpoint,
        item: str,
        headers: Headers,
        address: str,
        correlation_id: str | None,
    ) -> None:
        """A request's head has come."""
        house, request_id = self._house, uuid4()
        self._head = Head(
            endpoint=endpoint,
            item=item,
            headers=headers,
            address=address,
            request_id=request_id,
            correlation_id=correlation_id or request_id.hex,
            received_at=house.clock.unix_us(),
            began=house.clock.monotonic(),
        )
        if house.slots.free <= 0:
            self._count(errors.OVERLOADED.status)
            answers.problem(self._actions, self._head, errors.OVERLOADED)
            return
        self._seat = Seat(house.slots)
        try:
            self.fingerprint = house.chain.lookup_value(headers)
        except CredentialError as fault:
            self._refuse(errors.of(fault))
            return
        self._actions.lookup(self.fingerprint)

    def identified(self, found: Found) -> None:
        """The look-up has an answer."""
        if self.is_over:
            return
        try:
            known = self.known = self._accepted(found)
            if self._head.endpoint.operation is None:
                self._list_models(known)
                return
            self._check_media()
        except errors.REFUSALS as fault:
            self._refuse(errors.of(fault))
            return
        self._actions.read_body(self._house.max_body)

    def _accepted(self, found: Found) -> Known:
        if isinstance(found, Unlookable):
            raise Refusal(errors.NOT_READY)
        if isinstance(found, Unknown) or self._has_ended(found):
            raise Refusal(errors.INVALID_KEY)
        return found

    def _has_ended(self, known: Known) -> bool:
        until = known.identity.valid_until
        return until is not None and until <= self._head.received_at

    def _check_media(self) -> None:
        for name, value in self._head.headers:
            if name == b"content-type" and _media_type(value) != b"application/json":
                raise Refusal(errors.unsupported_media("The body must be application/json."))
            if name == b"content-encoding" and value.strip().lower() != b"identity":
                raise Refusal(errors.unsupported_media("A compressed body is not accepted."))

    def _list_models(self, known: Known) -> None:
        self._authorise_caller(known)
        head = self._head
        body = answers.models(head.endpoint.dialect, known, head.item)
        if body is None:
            raise Refusal(errors.model_not_found(head.item))
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
        known, endpoint = self.known, self._head.endpoint
        if self.is_over or known is None or endpoint.operation is None:
            return
        read_at = self._house.clock.monotonic()
        try:
            call = self._call = endpoint.dialect.read_request(
                body, endpoint.operation, self._head.item
            )
            self._authorise(known, call.model)
            plan = self._route(known, call.model)
        except errors.REFUSALS as fault:
            self._refuse(errors.of(fault))
            return
        self._order = Order(self._head, known, call, plan, body, read_at)
        self._actions.take(known.levels)

    def _authorise_caller(self, known: Known) -> None:
        if "inference" not in known.identity.scopes:
            raise Refusal(errors.NO_SCOPE)
        if not known.identity.may_call_from(self._head.address):
            raise Refusal(errors.BAD_ADDRESS)

    def _authorise(self, known: Known, model: str) -> None:
        self._authorise_caller(known)
        capability = self._head.endpoint.capability
        if not known.identity.may_use_model(model) or not known.identity.may_use_capability(
            capability
        ):
            raise Refusal(errors.model_not_allowed(model))

    def _route(self, known: Known, model: str) -> Plan:
        plan = routing.plan(model, known.shared, known.own)
        if plan is None:
            raise Refusal(errors.model_not_found(model))
        wanted = self._head.endpoint.capability
        if plan.route.capability not in {"", wanted}:
            raise Refusal(errors.wrong_capability(model, plan.route.capability, wanted))
        if not plan.targets:
            raise Refusal(errors.NOT_SERVED)
        return plan

    def taken(self, outcome: Lease | Refused) -> None:
        """The limits have an answer."""
        if isinstance(outcome, Refused):
            self._house.meters.refused_by_limit(outcome.level_kind, outcome.reason)
            self._refuse(errors.of_limit(outcome))
            return
        seat, order = self._seat, self._order
        if seat is None or seat.is_over or order is None:
            outcome.release()
            return
        seat.lease = outcome
        dispatch = Dispatch(self._actions, self._house, order, seat)
        try:
            dispatch.intend()
        except JournalUnavailable:
            self._refuse(errors.NO_LEDGER)
            return
        # Only now: what was not journalled cannot be settled.
        self._dispatch = dispatch
        dispatch.send()

    # ----------------------------------------------------------------------------------- 7 to 10: the dispatch's events

    def upstream_sent(self, waited: float) -> None:
        """The request is with the kernel. `waited` seconds of that went into queueing, names, connecting and TLS."""
        if self._dispatch is not None:
            self._dispatch.upstream_sent(waited)

    def upstream_head(self, status: int, headers: Headers) -> None:
        if self._dispatch is not None and not self.is_over:
            self._dispatch.upstream_head(status, headers)

    def upstream_bytes(self, data: bytes) -> None:
        if self._dispatch is not None and not self.is_over:
            self._dispatch.upstream_bytes(data)

    def upstream_end(self) -> None:
        if self._dispatch is not None and not self.is_over:
            self._dispatch.upstream_end()

    def upstream_failed(self, failure: UpstreamFailure) -> None:
        if self._dispatch is not None and not self.is_over:
            self._dispatch.upstream_failed(failure)

    # --------------------------------------------------------------------------------------- ends that nobody asked for

    def client_gone(self) -> None:
        """The caller left. The upstream is closed at once; what it had given is charged."""
        if self.is_over:
            return
        try:
            if self._dispatch is not None:
                self._dispatch.client_gone()
            else:
                self._count(CLIENT_LEFT)
        finally:
            self._end()
            self._actions.cut()

    def leave(self) -> None:
        """The answer is written, or nobody is there to read it: what the call occupied is free again."""
        if self._seat is not None:
            self._seat.leave()

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
        if self.known is not None:
            self._log_refusal(self.known, problem)
        lease = self._seat.lease if self._seat else None
        self._end()
        self._count(problem.status)
        answers.problem(self._actions, self._head, problem, lease=lease)

    def _log_refusal(self, known: Known, problem: Problem) -> None:
        head, call = self._head, self._call
        record = RefusalRecord(
            month=month_of(head.received_at),
            request_id=head.request_id,
            correlation_id=head.correlation_id,
            received_at=head.received_at,
            caller=known.caller,
            model=call.model if call else head.item[:256],
            dialect_in=head.endpoint.dialect.NAME,
            stream=call.stream if call else False,
            status=problem.status,
            error_code=problem.code,
            duration_us=round((self._house.clock.monotonic() - head.began) * 1_000_000),
        )
        try:
            self._actions.append(record)
        except JournalUnavailable:
            # The caller is being refused anyway, and nothing was used that could be lost.
            return

    def _count(self, status: int) -> None:
        """One request, answered without a call to settle; those that have one are counted there."""
        self._house.meters.answered(planes.DATA, self._head.endpoint.dialect.NAME, status)

    def _end(self) -> None:
        """Settled or refused: from here on events do nothing."""
        if self._seat is not None:
            self._seat.is_over = True


def _media_type(value: bytes) -> bytes:
    return value.split(b";", 1)[0].strip().lower()
