"""What an operation is described with, from schemas: parameters of its query, and examples."""

from typing import Any, Final

from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from gateway.openapi.schemas import FLAG, Schema, told

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
