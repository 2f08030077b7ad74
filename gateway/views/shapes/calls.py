"""Calls on the wire. The names that Gatehouse reads or answers are spelt out; what it passes on is left open, because the
provider decides about it.
"""

from collections.abc import Iterable
from typing import Any, Final

from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    MAYBE_TEXT,
    TEXT,
    Schema,
    answer,
    array,
    constant,
    integer,
    members,
    one_of,
    shown,
    told,
)
from gateway.views.shapes.base import SHAPES

#: The provider that every installation can have without an account.
_EXAMPLE_MODEL: Final = "demo/echo"
_MODEL: Final = told(TEXT, "The public name of a model that this key may call.")
_STREAM: Final[dict[str, Any]] = {
    "stream": told(FLAG, "Answer in server-sent events."),
    "stream_options": told(
        members(include_usage=FLAG), "With `include_usage` the last event carries the usage."
    ),
}
_CAP: Final[Schema] = {
    "type": "integer",
    "minimum": 1,
    "description": "The most tokens of the answer.",
}
_CHOICES: Final = told({**integer(1, 128), "default": 1}, "How many answers are wanted.")
_MESSAGE: Final = members(
    ("role",),
    role=shown(told(TEXT, "`system`, `developer`, `user`, `assistant` or `tool`."), "assistant"),
    content={
        "type": ["string", "array", "null"],
        "description": "A text, or a list of parts.",
        "examples": ["Hello!"],
    },
)
_TEXTS: Final[Schema] = {
    "type": ["string", "array"],
    "description": "A text, a list of texts, or tokens.",
}


def _asked(required: Iterable[str], /, **properties: Schema) -> Schema:
    """A body of which Gatehouse reads these members; the provider gets it whole."""
    return {**members(required, **properties), "additionalProperties": True}


CHAT_REQUEST: Final = SHAPES.add(
    "ChatRequest",
    _asked(
        ("model", "messages"),
        model=_MODEL,
        messages=told(
            {"type": "array", "minItems": 1, "items": _MESSAGE}, "The conversation so far."
        ),
        **_STREAM,
        max_completion_tokens=_CAP,
        max_tokens=told(_CAP, "The same, by its older name."),
        n=_CHOICES,
        tools=told(array({"type": "object"}), "Functions that the model may ask for."),
    ),
    model=_EXAMPLE_MODEL,
    messages=[{"role": "user", "content": "Hello!"}],
)
COMPLETION_REQUEST: Final = SHAPES.add(
    "CompletionRequest",
    _asked(
        ("model", "prompt"), model=_MODEL, prompt=_TEXTS, **_STREAM, max_tokens=_CAP, n=_CHOICES
    ),
    model=_EXAMPLE_MODEL,
    prompt="Hello!",
)
EMBEDDING_REQUEST: Final = SHAPES.add(
    "EmbeddingRequest",
    _asked(
        ("model", "input"),
        model=_MODEL,
        input=_TEXTS,
        encoding_format={**one_of(("float", "base64")), "default": "float"},
    ),
    model="text-embedding-3-small",
    input="Hello!",
)

_CREATED: Final = shown(told(COUNT, "Seconds since 1970."), 1_769_860_800)
_USAGE: Final = members(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=shown(COUNT, 2))


def _answered(kind: str, **choice: Schema) -> Schema:
    return members(
        id=shown(told(TEXT, "The provider's name for it."), "chatcmpl-1"),
        object=shown(told(TEXT, "What kind of answer it is."), kind),
        created=_CREATED,
        model=shown(told(TEXT, "What the provider calls the model."), "echo"),
        usage=told(_USAGE, "Tokens, as the provider counts them."),
        choices=array(
            members(index=shown(COUNT, 0), **choice, finish_reason=shown(MAYBE_TEXT, "stop"))
        ),
    )


CHAT_ANSWER: Final = SHAPES.add("ChatAnswer", _answered("chat.completion", message=_MESSAGE))
COMPLETION_ANSWER: Final = SHAPES.add(
    "CompletionAnswer", _answered("text_completion", text=shown(TEXT, "Hello!"))
)
_VECTOR: Final = members(
    object=shown(TEXT, "embedding"),
    index=shown(COUNT, 0),
    embedding={"type": ["array", "string"], "examples": [[0.25, -0.5]]},
)
EMBEDDING_ANSWER: Final = SHAPES.add(
    "EmbeddingAnswer",
    answer(
        object=constant("list"),
        data=array(_VECTOR),
        model=shown(TEXT, "text-embedding-3-small"),
        usage=_USAGE,
    ),
)

MODEL: Final = SHAPES.add(
    "Model",
    answer(
        id=shown(TEXT, _EXAMPLE_MODEL),
        object=constant("model"),
        created=_CREATED,
        owned_by=shown(TEXT, "gatehouse"),
    ),
)
MODELS: Final = SHAPES.add("Models", answer(object=constant("list"), data=array(MODEL.ref)))
