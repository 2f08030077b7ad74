"""Requests with an `Idempotency-Key`: what is asked, what is refused, and how a call's answer is given again."""

import re
from collections.abc import Sequence
from typing import Final

from gateway.relay import answers
from gateway.relay.claims import Unclaimable
from gateway.relay.errors import NO_LEDGER, Problem, Refusal
from gateway.relay.facts import Head
from gateway.relay.ports import Actions
from gateway.snapshot import Known
from usage.idempotency import MAX_NAME, Answer, Verdict, Wish

#: The header that says so.
REPLAY: Final = b"x-gatehouse-idempotent-replay"
_NAME: Final = re.compile(rb"[!-~](?:[ -~]*[!-~])?")

_BAD_NAME: Final = Problem(
    400,
    "invalid_request",
    f"Idempotency-Key must be 1 to {MAX_NAME} printable ASCII characters, and come once.",
)
_PROBLEMS: Final = {
    Verdict.IN_FLIGHT: Problem(
        409,
        "conflict",
        "A request with this Idempotency-Key is still running; ask again for its answer.",
        headers=[(b"retry-after", b"5")],
    ),
    Verdict.MISMATCH: Problem(
        422,
        "idempotency_mismatch",
        "This Idempotency-Key was used for another request; use a new one for a new request.",
    ),
    Verdict.NOT_REPLAYABLE: Problem(
        409,
        "not_replayable",
        "The request with this Idempotency-Key was made, and its answer was too large, incomplete or lost; it is not made again.",
        headers=[(b"x-should-retry", b"false")],
    ),
}


def wish_of(head: Head, known: Known, body: bytes) -> Wish | None:
    """What the caller wants to be made once; None without the header. Raises `Refusal`."""
    names = head.asked.once
    if not names:
        return None
    endpoint = head.asked.endpoint
    what = f"{endpoint.dialect.NAME} {endpoint.operation} {head.asked.item}"
    return Wish(
        tenant_id=known.identity.tenant_id,
        key_id=known.identity.key_id,
        name=name_in(names),
        body=(what.encode(), body),
        request_id=head.request_id,
    )


def name_in(values: Sequence[bytes]) -> str:
    """What the header says, given all that came of it. Raises `Refusal`."""
    if len(values) > 1 or len(values[0]) > MAX_NAME or _NAME.fullmatch(values[0]) is None:
        raise Refusal(_BAD_NAME)
    return values[0].decode("ascii")


def problem_of(outcome: Verdict | Unclaimable) -> Problem:
    return NO_LEDGER if isinstance(outcome, Unclaimable) else _PROBLEMS[outcome]


def answer_again(actions: Actions, head: Head, answer: Answer) -> None:
    """The whole of it at once, a stream too."""
    headers = [
        *answers.labels(head),
        (b"content-type", answer.content_type or b"application/json"),
        (REPLAY, b"true"),
        answers.length(answer.body),
    ]
    actions.reply(answer.status, headers, answer.body)
