"""What is decoded of OpenAI's format, by the shapes that are looked for. Pure.

Apart from those who read them, because compiled code (gateway/compiled.py) cannot define a `msgspec.Struct`.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw

from providers.dialects.body import NULL, Fields

# --- a caller's request --------------------------------------------------------------------------------------------------


class CallBody(msgspec.Struct, frozen=True):
    """A caller's request, read. `fields` are the raw values that go upstream; sizes are in bytes, estimates in tokens.

    `stream_options` are the members of that member. `n` is the number of outputs that may be generated and charged: choices,
    times prompts where a list of them is sent. `output_cap` is per output. `prompt_estimate` is what to charge when the
    provider reports nothing. `text_only` says that `size` bounds the tokens of the prompt.
    """

    fields: Fields
    stream_options: Fields
    capability: str
    model: str
    stream: bool
    wants_usage: bool
    output_cap: int | None
    n: int
    size: int
    prompt_estimate: int
    text_only: bool

    def without_words(self) -> "CallBody":
        return msgspec.structs.replace(self, fields={}, stream_options={})


TextType = Literal["text", "refusal", "input_text", "output_text"]


class _TextPart(msgspec.Struct, gc=False):
    type: TextType


class _TextMessage(msgspec.Struct, gc=False):
    """A message that is text and nothing else: with anything besides, it does not decode as one."""

    content: str | list[_TextPart] | None = None
    audio: None = None


class _Part(msgspec.Struct):
    type: str = ""


class _Message(msgspec.Struct):
    content: Raw = NULL
    audio: Raw = NULL


TEXT_MESSAGES: msgspec.json.Decoder[list[_TextMessage]] = msgspec.json.Decoder(
    Annotated[list[_TextMessage], Meta(min_length=1)]
)
MESSAGES = msgspec.json.Decoder(list[_Message])
PARTS = msgspec.json.Decoder(list[_Part])


# --- an answer's usage ---------------------------------------------------------------------------------------------------

_MOST = 2**53 - 1
_Count: TypeAlias = Annotated[int, Meta(ge=0, le=_MOST)] | None


class PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count = None
    #: OpenRouter's name; OpenAI itself charges nothing for filling its cache.
    cache_write_tokens: _Count = None


class CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count = None


class Counts(msgspec.Struct, gc=False):
    """A usage member, as far as anything is charged by it."""

    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: _Count = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class _Answer(msgspec.Struct):
    usage: Raw = NULL


COUNTS: msgspec.json.Decoder[Counts | None] = msgspec.json.Decoder(Counts | None)
ANSWER = msgspec.json.Decoder(_Answer)


# --- a chunk of a stream -------------------------------------------------------------------------------------------------

_Nothing: TypeAlias = Annotated[list[Raw], Meta(max_length=0)] | None


class _TextDelta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: _Nothing = None
    function_call: None = None


class _TextChoice(msgspec.Struct, gc=False):
    delta: _TextDelta


class _TextChunk(msgspec.Struct, gc=False):
    """A chunk in which only its text is of note. With a usage, an error or a call of a tool it does not decode as one."""

    choices: list[_TextChoice]
    object: Literal["chat.completion.chunk"] | None = None
    usage: None = None
    error: None = None


class _Chunk(msgspec.Struct):
    object: Raw = NULL
    choices: Raw = NULL
    usage: Raw = NULL
    error: Raw = NULL


TEXT_CHUNK = msgspec.json.Decoder(_TextChunk)
CHUNK = msgspec.json.Decoder(_Chunk)
