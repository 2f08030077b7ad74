"""OpenAI's wire format: chat completions, legacy completions, embeddings. Pure: bytes in, values out.

Reference: https://platform.openai.com/docs/api-reference. Within this dialect nothing is re-serialised: a request keeps the
bytes of every value but the two that we set, and an event of a stream is relayed as it came or not at all.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

import msgspec
from msgspec import Raw

from providers.dialects import base
from providers.dialects.base import Account
from providers.dialects.body import (
    MAX_NODES,
    NULL,
    BadBody,
    DialectError,
    Fields,
    check_name,
    read_bool,
    read_fields,
    read_largest,
    read_name,
    read_object,
    type_of,
)
from providers.dialects.openai_answers import (
    clean_error,
    clean_stream_error,
    error_body,
    model_entry,
    models_list,
    stream_error,
)
from providers.dialects.openai_shapes import MESSAGES, PARTS, TEXT_MESSAGES, CallBody, TextType
from providers.dialects.openai_streams import StreamReader
from providers.dialects.openai_usage import BYTES_PER_TOKEN, estimate_output_of, read_answer
from providers.dialects.outgoing import credential_header, request_headers
from providers.types import Headers
from tenants.sealing import Secret

__all__ = [
    "FIELDS",
    "LISTS_WHAT_IT_SERVES",
    "NAME",
    "OPERATIONS",
    "BadBody",
    "CallBody",
    "StreamReader",
    "clean_error",
    "clean_stream_error",
    "credential",
    "error_body",
    "estimate_output_of",
    "headers",
    "model_entry",
    "models_list",
    "models_path",
    "read_answer",
    "read_request",
    "request_path",
    "stream_error",
    "write_request",
]

NAME = "openai"
FIELDS: frozenset[str] = frozenset()
LISTS_WHAT_IT_SERVES = True
OPERATIONS: Mapping[str, bytes] = MappingProxyType(
    {
        "chat": b"/chat/completions",
        "completion": b"/completions",
        "embedding": b"/embeddings",
    }
)

MAX_MODEL_NAME = 256
MAX_CHOICES = 128
TOKENS_PER_PART = 1000  # an image, a recording or a file, when nobody reports what it came to

_TEXT_TYPES = frozenset(get_args(TextType))
# Members with which a provider reads more than the body holds, so that its length is no bound.
_READS_ELSEWHERE = frozenset({"web_search_options", "plugins", "search_parameters"})
_CAPS = ("max_tokens", "max_completion_tokens")
_CHOICES = ("n", "best_of")
_PROMPT = {"chat": "messages", "completion": "prompt", "embedding": "input"}


# --- the caller's request ------------------------------------------------------------------------------------------------


def read_request(body: bytes, capability: str, model: str = "") -> CallBody:
    """The request in `body` for one of `OPERATIONS`; a `model` that the address named wins. Raises BadBody."""
    fields = read_object(body)
    if model:
        check_name("model", model, MAX_MODEL_NAME)
    else:
        model = read_name(fields, "model", MAX_MODEL_NAME)
    # Members that are absent, as most are in most calls, cost no more than a look.
    stream = "stream" in fields and read_bool(fields, "stream")
    if stream and capability == "embedding":
        raise BadBody("Embeddings cannot be streamed.", "stream")
    cap = read_largest(fields, _CAPS)
    choices = read_largest(fields, _CHOICES, MAX_CHOICES) or 1
    prompt = _PROMPT[capability]
    if capability != "completion" and fields.get(prompt, NULL) == NULL:
        raise BadBody(f"{prompt} is required.", prompt)
    text_bytes = (
        len(fields.get(prompt, b""))
        + len(fields.get("tools", b""))
        + len(fields.get("functions", b""))
    )
    other_bytes, other_parts = 0, 0
    if capability == "chat":
        other_bytes, other_parts = _other_parts_of_messages(fields[prompt])
    options = read_fields(fields, "stream_options") if "stream_options" in fields else {}
    return CallBody(
        fields=fields,
        stream_options=options,
        capability=capability,
        model=model,
        stream=stream,
        wants_usage="include_usage" in options and read_bool(options, "include_usage"),
        output_cap=cap,
        n=choices * (_prompts_in(fields) if capability == "completion" else 1),
        size=len(body),
        prompt_estimate=max(1, math.ceil((text_bytes - other_bytes) / BYTES_PER_TOKEN))
        + TOKENS_PER_PART * other_parts,
        text_only=other_parts == 0 and _READS_ELSEWHERE.isdisjoint(fields),
    )


_RAW_PARTS = msgspec.json.Decoder(list[Raw])


def _other_parts_of_messages(raw: Raw) -> tuple[int, int]:
    """Bytes and number of the parts that are no text; what cannot be read counts as one."""
    try:
        TEXT_MESSAGES.decode(raw)
    except msgspec.DecodeError:
        return _count_other_parts(raw)
    return 0, 0


def _count_other_parts(raw: Raw) -> tuple[int, int]:
    try:
        messages = MESSAGES.decode(raw)
    except msgspec.DecodeError:
        raise BadBody("messages must be a list of objects.", "messages") from None
    if not messages:
        raise BadBody("messages must not be empty.", "messages")
    size, number = 0, 0
    for message in messages:
        content = type_of(message.content)
        if content == "array":
            more_size, more_number = _other_parts(message.content)
            size += more_size
            number += more_number
        elif content not in ("string", "null"):
            number += 1
        number += message.audio != NULL
    return size, number


def _other_parts(content: Raw) -> tuple[int, int]:
    try:
        parts = PARTS.decode(content)
    except msgspec.DecodeError:
        return 0, 1
    others = [at for at, part in enumerate(parts) if part.type not in _TEXT_TYPES]
    if not others:
        return 0, 0
    raw_parts = _RAW_PARTS.decode(content)
    return sum(len(raw_parts[at]) for at in others), len(others)


def _prompts_in(fields: Fields) -> int:
    """How many prompts: a list of texts or of token lists is one each; a text or one list of tokens is one."""
    if "prompt" not in fields or type_of(fields["prompt"]) != "array":
        return 1
    prompt = bytes(fields["prompt"])
    if prompt[1:].lstrip()[:1] not in (b'"', b"["):
        return 1  # tokens, perhaps a million of them
    if prompt.count(b",") > MAX_NODES:
        raise BadBody("prompt has too many parts.", "prompt")
    return max(1, len(_RAW_PARTS.decode(prompt)))


# --- the request that goes upstream --------------------------------------------------------------------------------------

_ENCODER = msgspec.json.Encoder()
_TRUE = Raw(b"true")


def write_request(
    call: base.CallBody, upstream_model: str, cap: base.OutputCap | None = None
) -> bytes:
    """The body for an upstream of this dialect. A stream is always asked for its usage: it is what we charge by.

    With a `cap` no output may be longer; a shorter one that the caller sent stays. Raises DialectError for a request that was
    read by another dialect.
    """
    if not isinstance(call, CallBody):
        raise DialectError("A request of another dialect has to be translated first.")
    fields: dict[str, object] = {**call.fields, "model": upstream_model}
    if call.stream:
        fields["stream_options"] = {**call.stream_options, "include_usage": _TRUE}
    if cap is not None and call.capability != "embedding":
        _limit_output(fields, call, cap)
    return _ENCODER.encode(fields)


def _limit_output(fields: dict[str, object], call: CallBody, cap: base.OutputCap) -> None:
    if call.output_cap is None:
        fields["max_tokens" if call.capability == "completion" else cap.member] = cap.tokens
    elif call.output_cap > cap.tokens:
        for name in _CAPS:
            sent = read_largest(call.fields, (name,))
            if sent is not None:
                fields[name] = min(sent, cap.tokens)


# --- where it goes, and with which headers --------------------------------------------------------------------------------


def request_path(account: Account, operation: str, model: str) -> bytes:
    """The request target for one of `OPERATIONS`; `model` is in the body."""
    return account.path.encode() + OPERATIONS[operation]


def models_path(account: Account) -> bytes:
    """The request target of the list of models."""
    return account.path.encode() + b"/models"


def credential(api_key: Secret) -> Headers:
    """Raises UnusableCredential."""
    return [credential_header(b"authorization", api_key, b"Bearer ")]


def headers(api_key: Secret | None, forwarded: Headers) -> Headers:
    """The headers of a request upstream. Raises UnusableCredential."""
    return request_headers(credential(api_key) if api_key else [], forwarded)
