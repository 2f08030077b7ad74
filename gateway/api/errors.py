"""The border between what services refuse and what HTTP says: one table, one shape.

`{"error":{"code","message","fields":{…}, …facts},"request_id"}`
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.db import DatabaseError
from django.http import Http404, UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response

from gateway.relay.errors import Refusal
from tenants import errors
from tenants.sealing import SealingError
from tenants.sign_in import BadCredentials
from tenants.tries import HELD_AGAINST, TooManyTries

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = "5"
CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


class BodyTooLarge(exceptions.APIException):
    status_code = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes.", "body_too_large")


class PasswordChangeRequired(exceptions.PermissionDenied):
    def __init__(self) -> None:
        super().__init__(
            "Change your password first: POST auth/change-password.", "password_change_required"
        )


class SessionRequired(exceptions.PermissionDenied):
    def __init__(self) -> None:
        super().__init__(
            "This is for somebody who signed in with a password: send the token of POST auth/login.",
            "session_required",
        )


class ScopeMissing(exceptions.PermissionDenied):
    def __init__(self) -> None:
        super().__init__("This token was not made for that.", "scope_missing")


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal on its way out."""

    status: int
    code: str
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


#: One answer for what is not there, what is somebody else's, and what never had a route.
NOT_FOUND: Final = Answer(404, "not_found", "There is no such thing here.")
FORBIDDEN: Final = Answer(403, "forbidden", "Your role does not allow this.")
MALFORMED: Final = Answer(400, "invalid_request", "The request cannot be read.")
NO_CREDENTIALS: Final = Answer(
    401, "missing_credentials", "Sign in first: send Authorization: Bearer.", headers=CHALLENGE
)
UNAVAILABLE: Final = Answer(
    503,
    "unavailable",
    "This cannot be done right now; try again.",
    headers={"Retry-After": _RETRY_SECONDS},
)
INTERNAL: Final = Answer(500, "internal_error", "Something went wrong on our side.")


def body(answer: Answer, request_id: str) -> dict[str, Any]:
    """The contract's error object."""
    error = {"code": answer.code, "message": answer.message, "fields": dict(answer.fields)}
    return {"error": {**answer.facts, **error}, "request_id": request_id}


def handle(failure: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's exception handler: every exception of a view ends here, and none gets past."""
    answer = answer_to(failure)
    if answer.status >= 500:
        logger.error("A request ended with %s.", answer.code, exc_info=failure)
    request_id = getattr(context.get("request"), "request_id", "")
    return Response(body(answer, request_id), status=answer.status, headers=dict(answer.headers))


def answer_to(failure: Exception) -> Answer:
    for kind, make in _TABLE:
        if isinstance(failure, kind):
            return make(failure)
    return INTERNAL


def _refused(status: int, **headers: str) -> Callable[[Any], Answer]:
    """What the service says about it, as it says it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def make(failure: errors.ServiceError) -> Answer:
        return Answer(status, failure.code, failure.message, failure.fields, failure.facts, named)

    return make


def _always(answer: Answer) -> Callable[[Any], Answer]:
    return lambda failure: answer


def _of_drf(failure: exceptions.APIException) -> Answer:
    return Answer(failure.status_code, str(failure.get_codes()), str(failure.detail))


def _of_refusal(failure: Refusal) -> Answer:
    """What a call would be refused for as well."""
    problem = failure.problem
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    return Answer(problem.status, problem.code, problem.message, headers=headers)


def _method_not_allowed(failure: exceptions.MethodNotAllowed) -> Answer:
    # The Allow header is on every answer of a view.
    return Answer(405, "method_not_allowed", "This door does not take that method.")


def _unsupported_media_type(failure: exceptions.UnsupportedMediaType) -> Answer:
    return Answer(415, "unsupported_media_type", "Send Content-Type: application/json.")


#: First match wins, so the special stand before the general.
_TABLE: Final[tuple[tuple[type[Exception], Callable[[Any], Answer]], ...]] = (
    (BadCredentials, _refused(401, WWW_Authenticate="Bearer")),
    (TooManyTries, _refused(429, Retry_After=str(HELD_AGAINST.seconds))),
    (Refusal, _of_refusal),
    (errors.Invalid, _refused(400)),
    (errors.NotFound, _always(NOT_FOUND)),
    (errors.Conflict, _refused(409)),
    (errors.Gone, _refused(410)),
    (errors.Unavailable, _refused(503, Retry_After=_RETRY_SECONDS)),
    (DatabaseError, _always(UNAVAILABLE)),
    (SealingError, _always(UNAVAILABLE)),
    (Http404, _always(NOT_FOUND)),
    (SuspiciousOperation, _always(MALFORMED)),
    (BadRequest, _always(MALFORMED)),
    (UnreadablePostError, _always(MALFORMED)),
    (exceptions.NotFound, _always(NOT_FOUND)),
    (exceptions.NotAuthenticated, _always(NO_CREDENTIALS)),
    (PasswordChangeRequired, _of_drf),
    (SessionRequired, _of_drf),
    (ScopeMissing, _of_drf),
    (exceptions.PermissionDenied, _always(FORBIDDEN)),
    (DjangoPermissionDenied, _always(FORBIDDEN)),
    (exceptions.MethodNotAllowed, _method_not_allowed),
    (exceptions.UnsupportedMediaType, _unsupported_media_type),
    (exceptions.APIException, _of_drf),
)
