"""What an operation is described with, from schemas: parameters of its query, and examples."""

from typing import Any, Final

from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from gateway.openapi.schemas import FLAG, Schema, told
from usage.idempotency import MAX_NAME

#: With which a request is made once.
ONCE: Final = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    OpenApiParameter.HEADER,
    description="The same request under the same name gets the first answer for 24 hours, with"
    " `x-gatehouse-idempotent-replay: true`, and is not made again. What was refused may be.",
)
#: What it may be refused for because of that.
ONCE_REFUSED: Final = {
    409: "`conflict`: a request under this Idempotency-Key is still running. `not_replayable`: its answer was not kept.",
    422: "`idempotency_mismatch`: this Idempotency-Key was used for another request.",
}
#: Of a parameter that must be there.
_NEEDED: Final = "x-needed"


def consent(meaning: str) -> Schema:
    """A parameter that has to be `true`, or nothing is done."""
    return told({"type": "boolean", "const": True, _NEEDED: True}, meaning)


def switch(meaning: str) -> Schema:
    """A parameter that is off unless it is `true`."""
    return told({**FLAG, "default": False}, meaning)


def parameter(name: str, schema: Schema, *, longest: int) -> OpenApiParameter:
    """Of the query; a text has at most `longest` characters, which can be printed."""
    described = {key: value for key, value in schema.items() if key not in ("description", _NEEDED)}
    if described["type"] == "string" and not described.keys() & {"enum", "pattern"}:
        described = {"format": "printable", **described, "maxLength": longest}
    return OpenApiParameter(
        name,
        described,
        description=schema.get("description", ""),
        required=schema.get(_NEEDED, False),
    )


def example_request(value: Any) -> OpenApiExample:
    return OpenApiExample("request", value=value, request_only=True)


def example_answer(value: Any, status: int) -> OpenApiExample:
    return OpenApiExample("answer", value=value, response_only=True, status_codes=[str(status)])
