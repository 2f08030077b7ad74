"""All named shapes of the admin API, lists, and the error."""

from typing import Final

from gateway.openapi.schemas import (
    TEXT,
    answer,
    members,
    request,
    shown,
    told,
)
from gateway.openapi.shapes import Shape, Shapes
from gateway.shapes.errors import refusal
from gateway.shapes.pages import page_of

SHAPES: Final = Shapes()

ERROR: Final = SHAPES.add(
    "Error",
    answer(
        error={
            **members(
                ("code", "message", "fields"),
                code=shown(told(TEXT, "For programs."), "invalid_request"),
                message=shown(told(TEXT, "For people."), "name: must not be empty."),
                fields=told(
                    {
                        "type": "object",
                        "additionalProperties": TEXT,
                        "examples": [{"name": "must not be empty."}],
                    },
                    "What is wrong with which member of the request.",
                ),
            ),
            "additionalProperties": True,
            "description": "Some codes bring facts of their own, such as `revoked_at`.",
        },
        request_id=shown(
            told(TEXT, "What `x-request-id` says."), "01a9b0c1d2e34f5687a8b9c0d1e2f304"
        ),
    ),
)
UNREAD: Final = SHAPES.add(
    "Unread", refusal("The request's address is too long.", shown(TEXT, "invalid_request"))
)
NOTHING_ASKED: Final = SHAPES.add("Nothing", request())


def listed(shape: Shape) -> Shape:
    """A page of these."""
    return SHAPES.add(f"{shape.name}List", page_of(shape.ref))
