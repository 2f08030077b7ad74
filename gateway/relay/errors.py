"""The border where what went wrong becomes a status and a body in the caller's dialect. Nothing below here speaks HTTP.

A problem is one row of the contract's table: status, code, and one sentence that helps whoever reads it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from keys.chain import BadCredential, CredentialError, MissingCredential
from providers.dialects.base import Dialect
from providers.dialects.body import BadBody, UnusableCredential
from providers.errors import CredentialUnreadable
from providers.request_head import Unwritable
from providers.types import FailureKind, Headers, UpstreamFailure
from tenants.clock import from_unix_us
from usage.journal import JournalUnavailable
from usage.wants import Left, Refused


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal: what the caller is told, and nothing else."""

    status: int
    code: str
    message: str
    param: str | None = None
    headers: Headers = field(default_factory=list)

    @property
    def type(self) -> str:
        """The group that OpenAI's clients know an error by."""
        return _TYPES.get(
            self.status, "invalid_request_error" if self.status < 500 else "api_error"
        )

    def body(self, dialect: Dialect) -> bytes:
        return dialect.error_body(self.message, self.type, self.param, self.code)

    def event(self, dialect: Dialect) -> bytes:
        """The last thing in a stream that had begun."""
        return dialect.stream_error(self.message, self.type, self.code)


_TYPES: Final = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_BEARER: Final[Headers] = [(b"www-authenticate", b'Bearer realm="gatehouse"')]
_SOON: Final[Headers] = [(b"retry-after", b"1")]


class Refusal(Exception):
    """Raised by a step of the exchange that says no."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


INVALID_KEY: Final = Problem(401, "invalid_api_key", "The API key is not valid.", headers=_BEARER)
MISSING_KEY: Final = Problem(
    401,
    "missing_api_key",
    "No API key was sent. Send it as `Authorization: Bearer gwk_…`.",
    headers=_BEARER,
)
NOT_READY: Final = Problem(
    503, "not_ready", "The gateway cannot check API keys at the moment; try again.", headers=_SOON
)
OVERLOADED: Final = Problem(
    503, "overloaded", "The gateway is busy; try again in a moment.", headers=_SOON
)
DRAINING: Final = Problem(
    503, "not_ready", "The gateway is restarting; send the request again.", headers=_SOON
)
NO_LEDGER: Final = Problem(
    503,
    "ledger_unavailable",
    "The call could not be recorded, so it was not made; try again.",
    headers=_SOON,
)
NO_BALANCE: Final = Problem(
    503,
    "ledger_unavailable",
    "The budget could not be asked, so the call was not made; try again.",
    headers=_SOON,
)
UNREADABLE: Final = Problem(
    503,
    "credential_unreadable",
    "The provider's stored credential cannot be read; an operator must enter it again.",
    headers=[(b"retry-after", b"60")],
)
NOT_SERVED: Final = Problem(
    503, "not_ready", "No active provider serves this model at the moment.", headers=_SOON
)
UPSTREAM_ERROR: Final = Problem(
    502, "upstream_error", "The provider did not give a complete answer."
)
UPSTREAM_TIMEOUT: Final = Problem(504, "upstream_timeout", "The provider did not answer in time.")
SLOW_BODY: Final = Problem(
    408, "invalid_request", "The request body did not come in time; send the request again."
)
BAD_ADDRESS: Final = Problem(
    403, "address_not_allowed", "This key may not be used from this address."
)


def scope_missing(scope: str) -> Problem:
    return Problem(403, "scope_missing", f"This key does not have the scope `{scope}`.")


NO_SCOPE: Final = scope_missing("inference")


def model_not_found(name: str) -> Problem:
    return Problem(
        404,
        "model_not_found",
        f"The model `{_shown(name)}` does not exist or you do not have access to it.",
        "model",
    )


def model_not_allowed(name: str) -> Problem:
    return Problem(
        403, "model_not_allowed", f"This key may not use the model `{_shown(name)}`.", "model"
    )


def wrong_capability(name: str, capability: str, wanted: str) -> Problem:
    return Problem(
        400,
        "invalid_request",
        f"The model `{_shown(name)}` is for {capability}, not for {wanted}.",
        "model",
    )


def body_too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"The request body has more than {limit} bytes.")


def unsupported_media(what: str) -> Problem:
    return Problem(415, "unsupported_media_type", what)


def _shown(name: str) -> str:
    return name if len(name) <= 128 else name[:128] + "…"


def of_credential(fault: CredentialError) -> Problem:
    return MISSING_KEY if isinstance(fault, MissingCredential) else INVALID_KEY


_REQUESTS: Final = {
    "requests": "request",
    "daily": "request",
    "tokens": "token",
    "concurrency": "running request",
}
_WINDOWS: Final = {"day": "today", "month": "this month", "total": "in all"}


def of_limit(refused: Refused, fitting: int = 0) -> Problem:
    """Everything that a client needs to come back at the right time, or not at all. `fitting`: the output cap with which the
    call would fit its budget.
    """
    if refused.reason in _REQUESTS:
        return _of_rate(refused)
    if refused.reason == "overloaded":
        return OVERLOADED
    if refused.reason == "ledger_unavailable":
        return NO_BALANCE
    if refused.reason == "budget_held":
        return Problem(
            429,
            "budget_held",
            f"Calls that run, or ended just now, hold what is left of the budget of this {refused.level}; try again in a moment.",
            headers=[(b"retry-after", b"1"), *limit_headers(refused.requests, refused.tokens)],
        )
    return _of_budget(refused, fitting)


def _of_rate(refused: Refused) -> Problem:
    retry_after = max(1, math.ceil(refused.retry_after or 1))
    plural = "" if refused.limit == 1 else "s"
    limit = f"{refused.limit} {_REQUESTS[refused.reason]}{plural}{_in(refused.period)}"
    if not refused.period and refused.reason != "concurrency":
        sentence = (
            f"What was used of the limit of {limit} of this {refused.level} is not known for a moment,"
            " and counts as all of it"
        )
    elif refused.burst:
        sentence = (
            f"Of the {limit} of this {refused.level}, at most {refused.burst} may come at once"
        )
    else:
        sentence = f"The limit of {limit} of this {refused.level} is reached"
    return Problem(
        429,
        "rate_limit_exceeded",
        f"{sentence}; try again in {retry_after} s.",
        headers=[
            (b"retry-after", b"%d" % retry_after),
            *limit_headers(refused.requests, refused.tokens),
        ],
    )


_PERIODS: Final = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}


def _in(seconds: float) -> str:
    """Of a limit, in which time. 0: it is none of any time, or of which is not known."""
    if not seconds:
        return ""
    named = _PERIODS.get(int(seconds))
    return f" {'an' if named == 'hour' else 'a'} {named}" if named else f" in {seconds:g} s"


def _of_budget(refused: Refused, fitting: int) -> Problem:
    """Final for this period: no client should try the same again."""
    headers: Headers = [(b"x-should-retry", b"false")]
    if refused.reset_at is not None:
        ends = from_unix_us(refused.reset_at).strftime("%Y-%m-%dT%H:%M:%SZ")
        headers.append((b"x-gatehouse-reset", ends.encode()))
    if refused.reason == "balance_exhausted":
        message = "The balance of this account does not cover the call."
    else:
        kind = refused.window.partition(":")[0]
        when = _WINDOWS.get(kind, "")
        message = f"The budget of this {refused.level} for {when} does not cover the call."
        message = message.replace("for in all", "in all")
    if fitting:
        message += f" With max_tokens of at most {fitting} it would fit."
    return Problem(402, refused.reason, message, headers=headers)


def model_not_priced(name: str) -> Problem:
    return Problem(
        400,
        "model_not_priced",
        f"The model `{_shown(name)}` has no price, and this key's use of money is limited; an operator must set the price.",
        "model",
    )


_OF_REQUESTS: Final = (
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
)
_OF_TOKENS: Final = (
    b"x-ratelimit-limit-tokens",
    b"x-ratelimit-remaining-tokens",
    b"x-ratelimit-reset-tokens",
)


def limit_headers(requests: Left | None, tokens: Left | None) -> Headers:
    """As OpenAI's clients read them."""
    headers: Headers = []
    for names, left in ((_OF_REQUESTS, requests), (_OF_TOKENS, tokens)):
        if left is not None:
            headers += (
                (names[0], b"%d" % left.limit),
                (names[1], b"%d" % left.remaining),
                (names[2], duration_text(left.reset_seconds)),
            )
    return headers


def duration_text(seconds: float) -> bytes:
    """OpenAI's way of writing a duration, which is Go's: `24h0m0s`, `6m0s`, `1.5s`, `20ms`."""
    millis = round(seconds * 1000)
    if millis < 1000:
        return b"%dms" % max(0, millis)
    minutes, millis = divmod(millis, 60_000)
    whole, rest = divmod(millis, 1000)
    tail = b"%d.%03d" % (whole, rest) if rest else b"%d" % whole
    if rest:
        tail = tail.rstrip(b"0")
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%bs" % (hours, minutes, tail)
    return b"%dm%bs" % (minutes, tail) if minutes else tail + b"s"


_TIMEOUTS: Final = frozenset(
    (FailureKind.CONNECT_TIMEOUT, FailureKind.WRITE_TIMEOUT, FailureKind.TIMEOUT)
)


def of_failure(failure: UpstreamFailure) -> Problem:
    """What a broken call to a provider is to the caller. The detail stays with us."""
    if failure.kind in _TIMEOUTS:
        return UPSTREAM_TIMEOUT
    return OVERLOADED if failure.kind is FailureKind.OVERLOADED else UPSTREAM_ERROR


#: An upstream's answers that are the caller's business as they are. Its 401, 402, 403, 407 and redirects are ours.
PASSED: Final = frozenset((400, 404, 408, 409, 413, 415, 422, 429))
REFUSED_US: Final = frozenset((401, 402, 403, 407))


def passes(status: int) -> bool:
    return status in PASSED or 500 <= status <= 599


def upstream_said(status: int, retry_after: bytes = b"") -> Headers:
    """What a caller is told of an upstream's no besides its body."""
    said: Headers = [(b"x-gatehouse-upstream-status", str(status).encode())]
    if retry_after:
        said.append((b"retry-after", retry_after))
    return said


def of_upstream_status(status: int) -> Problem:
    """502 for an answer that says nothing about the caller's request."""
    seen = upstream_said(status)
    if status in REFUSED_US or 300 <= status < 400:
        return Problem(
            502,
            "upstream_refused_us",
            "The provider refused the gateway's own access; an operator must look at it.",
            headers=seen,
        )
    return Problem(502, "upstream_error", UPSTREAM_ERROR.message, headers=seen)


def of_passed_over(status: int, retry_after: bytes) -> Problem:
    """A target's no, where the next target turned out to be none: its limits let nothing through. Nobody read what the first
    one said, but its status passes like that of an only target.
    """
    if not passes(status):
        return of_upstream_status(status)
    sentence = (
        f"The provider answered {status}, and no other that serves the model allows a call now."
    )
    return Problem(status, "upstream_error", sentence, headers=upstream_said(status, retry_after))


_BORDER: Final[dict[type[Exception], Callable[..., Problem]]] = {
    BadCredential: of_credential,
    MissingCredential: of_credential,
    BadBody: lambda fault: Problem(400, "invalid_request", fault.message, fault.param),
    JournalUnavailable: lambda fault: NO_LEDGER,
    CredentialUnreadable: lambda fault: UNREADABLE,
    UnusableCredential: lambda fault: UNREADABLE,
    Unwritable: lambda fault: UPSTREAM_ERROR,
    Refusal: lambda fault: fault.problem,
}
#: Everything that a step may raise to say no; anything else is a fault of ours.
REFUSALS: Final = tuple(_BORDER)


def of(fault: Exception) -> Problem:
    """The problem that an exception of the rooms below is."""
    return next(make(fault) for kind, make in _BORDER.items() if isinstance(fault, kind))
