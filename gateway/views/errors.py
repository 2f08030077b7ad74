"""What a view of the data plane refuses, in the shape that OpenAI's clients know."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from django.db import DatabaseError
from django.http import HttpResponse
from rest_framework.exceptions import MethodNotAllowed

from gateway import context as circumstances
from gateway.api import errors as api_errors
from gateway.relay import errors as relay_errors
from gateway.relay.errors import Problem
from keys.errors import BeyondGrant, TooManyChanges
from providers.dialects import openai
from tenants.errors import ServiceError
from tenants.sealing import SealingError

logger = logging.getLogger(__name__)

_NEVER_CACHED: Final = "no-store"
#: The tables could not be asked, which says nothing about whoever asked us.
_UNAVAILABLE: Final = replace(relay_errors.NOT_READY, message=api_errors.UNAVAILABLE.message)


def handle(failure: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """DRF's exception handler: every exception of a view ends here, and none gets past."""
    problem = _problem_of(failure)
    if problem.status >= 500 and not isinstance(failure, relay_errors.Refusal):
        logger.error("A request ended with %s.", problem.code, exc_info=failure)
    answer = HttpResponse(
        problem.body(openai),
        status=problem.status,
        content_type="application/json",
        headers={name.decode(): value.decode() for name, value in problem.headers},
    )
    answer.headers["Cache-Control"] = _NEVER_CACHED
    if isinstance(failure, MethodNotAllowed):
        answer.headers["Allow"] = ", ".join(context["view"].allowed_methods)
    _label(answer, context["request"])
    return answer


def _label(answer: HttpResponse, request: Any) -> None:
    """Calls are served without middleware, so nobody else would say which request this answers."""
    own = getattr(request, "request_id", None)
    own = own or circumstances.request_id_for(request.META.get("HTTP_X_REQUEST_ID"))
    answer.headers["x-request-id"] = answer.headers["request-id"] = own


def _of_key(failure: ServiceError) -> Problem:
    """What the state of the caller's own key forbids."""
    if isinstance(failure, TooManyChanges):
        return Problem(429, failure.code, failure.message, headers=[(b"retry-after", b"60")])
    return Problem(403, failure.code, failure.message, next(iter(failure.fields), None))


def _problem_of(failure: Exception) -> Problem:
    if isinstance(failure, relay_errors.REFUSALS):
        return relay_errors.of(failure)
    if isinstance(failure, DatabaseError | SealingError):
        return _UNAVAILABLE
    if isinstance(failure, BeyondGrant | TooManyChanges):
        return _of_key(failure)
    answer = api_errors.answer_to(failure)
    return Problem(
        answer.status,
        answer.code,
        answer.message,
        param=next(iter(answer.fields), None),
        headers=[(name.encode(), value.encode()) for name, value in answer.headers.items()],
    )
