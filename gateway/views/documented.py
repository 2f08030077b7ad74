"""How a view says what it does, for the OpenAPI document: what is sent, what is answered, and what can go wrong."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
)

from gateway.api.requests import MAX_PARAMETER
from gateway.openapi.operations import (
    ONCE,
    ONCE_REFUSED,
    example_answer,
    example_request,
    parameter,
)
from gateway.openapi.schemas import Schema
from gateway.openapi.shapes import Shape
from gateway.views.shapes.base import ERROR, SHAPES

#: The headers that may carry a key, as the clients of the field send them. One of them is enough.
CREDENTIALS: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
    "x-goog-api-key": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
}
CALLS, MODELS, STATE = "Calls", "Models", "Your key"
PROJECTS, KEYS = "Projects", "Keys"
#: Every group, in the order of the page.
TAGS: Final = (CALLS, MODELS, STATE, PROJECTS, KEYS)

_STREAM: Final = (200, "text/event-stream")
_OF_EVERY_VIEW: Final = {
    401: "`missing_api_key`: none was sent. `invalid_api_key`: it opens nothing, whatever the reason.",
    403: "`scope_missing`, `address_not_allowed`: a good key without the right.",
    503: "`not_ready`, `overloaded`: come back after `Retry-After`.",
}
_OF_A_CALL: Final = {
    400: "`invalid_request`: no JSON, wrong types, more than 64 levels, or a model of another kind.",
    **_OF_EVERY_VIEW,
    403: "`model_not_allowed`, `scope_missing`, `address_not_allowed`: a good key without the right.",
    404: "`model_not_found`: there is none of that name for you.",
    408: "`invalid_request`: the body did not come in time.",
    **ONCE_REFUSED,
    413: "`body_too_large`.",
    415: "`unsupported_media_type`: the body must be `application/json`, not compressed.",
    429: "`rate_limit_exceeded`: come back after `Retry-After`.",
    502: "`upstream_error`, `upstream_refused_us`: the provider failed.",
    503: "`overloaded`, `not_ready`, `ledger_unavailable`, `credential_unreadable`: come back after `Retry-After`.",
    504: "`upstream_timeout`: the provider did not answer in time.",
}
_OF_A_MODEL: Final = {
    **_OF_EVERY_VIEW,
    404: "`model_not_found`: there is none of that name for you.",
}
_OF_A_STATE: Final = {
    400: "`invalid_request`: an unknown or impossible parameter.",
    **_OF_EVERY_VIEW,
}

_OF_ONE_STATE: Final = {**_OF_A_STATE, 404: "`not_found`: this key has no such."}
_OF_A_CHANGE: Final = {
    400: "`invalid_request`: an unknown field, an impossible value, or nothing in common with what this key may.",
    **_OF_EVERY_VIEW,
    403: "`scope_missing`, `address_not_allowed`: a good key without the right. `grants_exceeded`: more than this key may.",
    409: "`conflict`, `key_revoked`, `managed_by_config`: the thing is in a state that forbids it.",
    413: "`body_too_large`.",
    415: "`unsupported_media_type`: the body must be `application/json`.",
    429: "`rate_limit_exceeded`: too many changes by this key in a minute.",
}
#: Of every answer, and of those that a provider gave.
_ANSWERS: Final = (
    (
        "x-request-id",
        "Names this answer; your own, if you sent one of 8 to 64 letters, digits, `-` or `_`.",
    ),
)
_SERVED: Final = (
    *_ANSWERS,
    ("x-gatehouse-provider", "Who served the call."),
    ("x-gatehouse-target", "The model there."),
    ("x-gatehouse-attempts", "How many targets were tried."),
    ("x-gatehouse-overhead-ms", "Milliseconds that were ours."),
    ("x-gatehouse-cost-usd", "What it cost, if that is known before the body ends."),
)

_DRY_RUN: Final = OpenApiParameter(
    "x-gatehouse-explain",
    {"type": "string", "enum": ["dry-run"]},
    OpenApiParameter.HEADER,
    description="`dry-run`: answer why the call would go as it would (a why-card), and do not make it.",
)

View = TypeVar("View", bound=Callable[..., Any])


def call(name: str, summary: str, request: Shape, answer: Shape) -> Callable[[View], View]:
    """A call that a provider answers, whole or in events."""
    responses: dict[Any, Any] = {200: OpenApiResponse(answer.ref, "The provider's answer.")}
    if "stream" in request.schema["properties"]:
        responses[_STREAM] = OpenApiResponse(
            OpenApiTypes.STR, "With `stream`: events, `[DONE]` the last of them."
        )
    return extend_schema(
        operation_id=name,
        summary=summary,
        tags=[CALLS],
        auth=_auth(),
        parameters=[_DRY_RUN, ONCE, *_headers(_SERVED)],
        request={"application/json": request.ref},
        responses={**responses, **_errors(_OF_A_CALL)},
        examples=_examples(request, answer),
    )


def models(name: str, summary: str, answer: Shape) -> Callable[[View], View]:
    return _reading(name, summary, answer, MODELS, _OF_A_MODEL, [])


def state(
    name: str,
    summary: str,
    answer: Shape,
    *,
    tag: str = STATE,
    query: Mapping[str, Schema] | None = None,
) -> Callable[[View], View]:
    """`query`: a schema for each parameter; a description in it."""
    taken = [
        parameter(title, schema, longest=MAX_PARAMETER) for title, schema in (query or {}).items()
    ]
    return _reading(name, summary, answer, tag, _OF_A_STATE, taken)


def one_state(
    name: str, summary: str, answer: Shape, *, tag: str = STATE
) -> Callable[[View], View]:
    """Of a thing that the address names, which may not be there."""
    return _reading(name, summary, answer, tag, _OF_ONE_STATE, [])


def change(
    name: str,
    summary: str,
    tag: str,
    request: Shape | None = None,
    answer: Shape | None = None,
    *,
    status: int = 200,
    by_name: bool = True,
    is_made_once: bool = False,
) -> Callable[[View], View]:
    """A change of what the address names, or of what is made there (`by_name` false). No `answer`: an empty one."""
    told = {404: _OF_ONE_STATE[404], **_OF_A_CHANGE} if by_name else _OF_A_CHANGE
    if is_made_once:
        told = {**told, **ONCE_REFUSED, 409: f"{told[409]} {ONCE_REFUSED[409]}"}
    return extend_schema(
        operation_id=name,
        summary=summary,
        tags=[tag],
        auth=_auth(),
        parameters=[*([ONCE] if is_made_once else []), *_headers(_ANSWERS, status)],
        request={"application/json": request.ref} if request else None,
        responses={
            status: OpenApiResponse(answer and answer.ref, "Done."),
            **_errors(told),
        },
        examples=_examples(request, answer, status),
    )


def _reading(
    name: str,
    summary: str,
    answer: Shape,
    tag: str,
    errors: dict[int, str],
    parameters: list[OpenApiParameter],
) -> Callable[[View], View]:
    return extend_schema(
        operation_id=name,
        summary=summary,
        tags=[tag],
        auth=_auth(),
        parameters=[*parameters, *_headers(_ANSWERS)],
        request=None,
        responses={200: OpenApiResponse(answer.ref), **_errors(errors)},
        examples=_examples(None, answer),
    )


def _auth() -> Any:
    """Any one of them; the annotation of `extend_schema` knows names alone, the document wants objects."""
    return [{scheme: []} for scheme in CREDENTIALS]


def _errors(told: dict[int, str]) -> dict[Any, Any]:
    return {status: OpenApiResponse(ERROR.ref, text) for status, text in told.items()}


def _headers(told: tuple[tuple[str, str], ...], status: int = 200) -> list[OpenApiParameter]:
    return [
        OpenApiParameter(name, str, OpenApiParameter.HEADER, description=text, response=[status])
        for name, text in told
    ]


def _examples(
    request: Shape | None, answer: Shape | None, status: int = 200
) -> list[OpenApiExample]:
    return [
        *([example_request(SHAPES.example(request))] if request else []),
        *([example_answer(SHAPES.example(answer), status)] if answer else []),
    ]
