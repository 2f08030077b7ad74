"""How a view of the admin API says what it does. What is so for all of them stands in gateway/api/schema.py: who may, and what
every door refuses.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
)

from gateway.api.paging import DEFAULT_LIMIT, MOST_LIMIT
from gateway.api.requests import MAX_PARAMETER
from gateway.api.shapes.base import ERROR, SHAPES
from gateway.api.shapes.fields import TENANT
from gateway.openapi.schemas import (
    FLAG,
    MOMENT,
    TEXT,
    Schema,
    integer,
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

#: Of every list.
PAGES: Final[dict[str, Schema]] = {
    "limit": told({**integer(1, MOST_LIMIT), "default": DEFAULT_LIMIT}, "Rows of a page."),
    "cursor": told({**TEXT, "format": "cursor"}, "The `next_cursor` of the page before."),
}
OF_TENANT: Final[dict[str, Schema]] = {"tenant": TENANT}
#: Of lists whose rows outlive their tenants.
COPIED_TENANT: Final[dict[str, Schema]] = {
    "tenant": told(TEXT, "The id or the slug of a tenant, or the name that the rows kept of it.")
}
PERIOD: Final[dict[str, Schema]] = {
    "since": told(MOMENT, "Within; with its zone."),
    "until": told(MOMENT, "Not within; with its zone."),
}


#: Of a parameter that must be there.
_NEEDED: Final = "x-needed"


def consent(meaning: str) -> Schema:
    """A parameter that has to be `true`, or nothing is done."""
    return told({"type": "boolean", "const": True, _NEEDED: True}, meaning)


def flag(meaning: str) -> Schema:
    return told({**FLAG, "default": False}, meaning)


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
        parameters=[_parameter(title, schema) for title, schema in (query or {}).items()],
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


def _parameter(name: str, schema: Schema) -> OpenApiParameter:
    described = {key: value for key, value in schema.items() if key not in ("description", _NEEDED)}
    if described["type"] == "string" and not described.keys() & {"enum", "pattern"}:
        described = {"format": "printable", **described, "maxLength": MAX_PARAMETER}
    return OpenApiParameter(
        name,
        described,
        description=schema.get("description", ""),
        required=schema.get(_NEEDED, False),
    )


def _examples(
    body: Shape | Lines | None, answer: Shape | Lines | None, status: int
) -> list[OpenApiExample]:
    found = []
    if body is not None:
        found.append(OpenApiExample("request", value=_example(body), request_only=True))
    if answer is not None:
        found.append(
            OpenApiExample(
                "answer",
                value=_example(answer),
                response_only=True,
                status_codes=[str(status)],
            )
        )
    return found


def _example(of: Shape | Lines) -> Any:
    return of.example if isinstance(of, Lines) else SHAPES.example(of)
