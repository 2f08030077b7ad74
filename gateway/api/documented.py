"""How a view of the admin API says what it does. What is so for all of them stands in gateway/api/schema.py: who may, and what
every door refuses.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiResponse,
    extend_schema,
)

from gateway.api.requests import MAX_PARAMETER
from gateway.api.shapes.base import ERROR, SHAPES
from gateway.api.shapes.fields import TENANT
from gateway.openapi.operations import example_answer, example_request, parameter
from gateway.openapi.schemas import (
    MOMENT,
    TEXT,
    Schema,
    told,
)
from gateway.openapi.shapes import Shape

#: What operators and their programs show.
CREDENTIALS: Final[dict[str, Schema]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token that `auth/login` answers, or a service token (`gwa_…`).",
    },
    "admin-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-admin-key",
        "description": "The shared key of the house, where it has one.",
    },
}
Query = Mapping[str, Schema]
View = TypeVar("View", bound=Callable[..., Any])

OF_TENANT: Final[dict[str, Schema]] = {"tenant": TENANT}
#: Of lists whose rows outlive their tenants.
COPIED_TENANT: Final[dict[str, Schema]] = {
    "tenant": told(TEXT, "The id or the slug of a tenant, or the name that the rows kept of it.")
}
PERIOD: Final[dict[str, Schema]] = {
    "since": told(MOMENT, "Within; with its zone."),
    "until": told(MOMENT, "Not within; with its zone."),
}


class Lines(NamedTuple):
    """A body that is no JSON but lines of it, or of something else: a text of this type."""

    media_type: str
    example: str
    format: str = "lines"


def operation(
    name: str,
    summary: str,
    *,
    answer: Shape | Lines | None,
    body: Shape | Lines | None = None,
    query: Query | None = None,
    status: int = 200,
    refuses: Mapping[int, str] | None = None,
) -> Callable[[View], View]:
    """`answer` None: 204, without a body. `query`: a schema for each parameter; a description in it.

    `refuses` has the statuses that not every operation of its sort can give, and what is to be said in place of the usual.
    """
    status = 204 if answer is None else status
    return extend_schema(
        operation_id=name,
        summary=summary,
        parameters=[
            parameter(title, schema, longest=MAX_PARAMETER)
            for title, schema in (query or {}).items()
        ],
        auth=[],
        request=_taken(body),
        responses={
            **_good(answer, status),
            **{code: OpenApiResponse(ERROR.ref, text) for code, text in (refuses or {}).items()},
        },
        examples=[*_examples(body, answer, status)],
    )


_GOOD: Final = {200: "Done.", 201: "Made.", 204: "Done; there is nothing to tell."}


def _taken(body: Shape | Lines | None) -> dict[str, Any] | None:
    if isinstance(body, Lines):
        return {body.media_type: {**TEXT, "minLength": 1, "format": body.format}}
    return None if body is None else {"application/json": body.ref}


def _good(answer: Shape | Lines | None, status: int) -> dict[Any, OpenApiResponse]:
    if isinstance(answer, Lines):
        return {(status, answer.media_type): OpenApiResponse(OpenApiTypes.STR, _GOOD[status])}
    return {status: OpenApiResponse(answer and answer.ref, _GOOD[status])}


def _examples(
    body: Shape | Lines | None, answer: Shape | Lines | None, status: int
) -> list[OpenApiExample]:
    found = []
    if body is not None:
        found.append(example_request(_example(body)))
    if answer is not None:
        found.append(example_answer(_example(answer), status))
    return found


def _example(of: Shape | Lines) -> Any:
    return of.example if isinstance(of, Lines) else SHAPES.example(of)
