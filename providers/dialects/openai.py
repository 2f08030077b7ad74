"""OpenAI's wire format: chat completions, legacy completions, embeddings. Pure: bytes in, values out.

Reference: https://platform.openai.com/docs/api-reference. Within this dialect nothing is re-serialised: a request keeps the
bytes of every value but the two that we set, and an event of a stream is relayed as it came or not at all.
"""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from msgspec import Raw

from providers.dialects import base
from providers.dialects.base import Account
from providers.dialects.body import (
    MAX_NODES,
    BadBody,
    DialectError,
    Fields,
    check_name,
    is_null,
    read_bool,
    read_integer,
    read_name,
    read_object,
    size_of,
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
from providers.dialects.outgoing import credential_header, request_headers
from providers.sse import EventSplitter, data_of, is_ended
from providers.types import Headers, Usage
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
    "is_answer",
    "model_entry",
    "models_list",
    "models_path",
    "read_request",
    "read_usage",
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
BYTES_PER_TOKEN = 3.5
TOKENS_PER_PART = 1000  # an image, a recording or a file, when nobody reports what it came to

_NULL = Raw(b"null")
_TEXT_PARTS = frozenset({"text", "refusal", "input_text", "output_text"})
# Members with which a provider reads more than the body holds, so that its length is no bound.
_READS_ELSEWHERE = frozenset({"web_search_options", "plugins", "search_parameters"})
_TOOLS = ("tools", "functions")
_PROMPT = {"chat": "messages", "completion": "prompt", "embedding": "input"}


class CallBody(msgspec.Struct, frozen=True):
    """A caller's request, read. `fields` are the raw values that go upstream; sizes are in bytes, estimates in tokens.

    `n` is the number of outputs that may be generated and charged: choices, times prompts where a list of them is sent.
    `output_cap` is per output. `prompt_estimate` is what to charge when the provider reports nothing. `text_only` says that
    `size` bounds the tokens of the prompt.
    """

    fields: Fields
    capability: str
    model: str
    stream: bool
    wants_usage: bool
    output_cap: int | None
    n: int
    size: int
    prompt_estimate: int
    text_only: bool


# --- the caller's request ------------------------------------------------------------------------------------------------


def read_request(body: bytes, capability: str, model: str = "") -> CallBody:
    """The request in `body` for one of `OPERATIONS`; a `model` that the address named wins. Raises BadBody."""
    fields = read_object(body)
    if model:
        check_name("model", model, MAX_MODEL_NAME)
    else:
        model = read_name(fields, "model", MAX_MODEL_NAME)
    stream = read_bool(fields, "stream")
    if stream and capability == "embedding":
        raise BadBody("Embeddings cannot be streamed.", "stream")
    cap = read_integer(fields, "max_tokens") or 0
    cap = max(cap, read_integer(fields, "max_completion_tokens") or 0)
    choices = read_integer(fields, "n", MAX_CHOICES) or 1
    choices = max(choices, read_integer(fields, "best_of", MAX_CHOICES) or 1)
    prompt = _PROMPT[capability]
    if is_null(fields, prompt) and capability != "completion":
        raise BadBody(f"{prompt} is required.", prompt)
    text_bytes = 0
    for name in (prompt, *_TOOLS):
        if name in fields:
            text_bytes += size_of(fields[name])
    other_bytes, other_parts = 0, 0
    if capability == "chat":
        other_bytes, other_parts = _other_parts_of_messages(fields["messages"])
    return CallBody(
        fields=fields,
        capability=capability,
        model=model,
        stream=stream,
        wants_usage=_wants_usage(fields),
        output_cap=cap or None,
        n=choices * (_prompts_in(fields) if capability == "completion" else 1),
        size=len(body),
        prompt_estimate=max(1, _tokens(text_bytes - other_bytes)) + TOKENS_PER_PART * other_parts,
        text_only=other_parts == 0 and _READS_ELSEWHERE.isdisjoint(fields),
    )


class _Part(msgspec.Struct):
    type: str = ""


class _Message(msgspec.Struct):
    content: Raw = _NULL
    audio: Raw = _NULL


_MESSAGES = msgspec.json.Decoder(list[_Message])
_PARTS = msgspec.json.Decoder(list[_Part])
_RAW_PARTS = msgspec.json.Decoder(list[Raw])


def _other_parts_of_messages(raw: Raw) -> tuple[int, int]:
    """Bytes and number of the parts that are no text; what cannot be read counts as one."""
    try:
        messages = _MESSAGES.decode(raw)
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
        number += message.audio is not _NULL and type_of(message.audio) != "null"
    return size, number


def _other_parts(content: Raw) -> tuple[int, int]:
    try:
        parts = _PARTS.decode(content)
    except msgspec.DecodeError:
        return 0, 1
    others = [at for at, part in enumerate(parts) if part.type not in _TEXT_PARTS]
    if not others:
        return 0, 0
    raw_parts = _RAW_PARTS.decode(content)
    return sum(size_of(raw_parts[at]) for at in others), len(others)


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


def _stream_options(fields: Fields) -> Fields:
    if is_null(fields, "stream_options"):
        return {}
    try:
        return msgspec.json.decode(fields["stream_options"], type=Fields)
    except msgspec.DecodeError:
        raise BadBody("stream_options must be an object.", "stream_options") from None


def _wants_usage(fields: Fields) -> bool:
    options = _stream_options(fields)
    return read_bool(options, "include_usage")


def _tokens(size: int) -> int:
    return math.ceil(size / BYTES_PER_TOKEN)


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
        fields["stream_options"] = {**_stream_options(call.fields), "include_usage": _TRUE}
    if cap is not None and call.capability != "embedding":
        _limit_output(fields, call, cap)
    return _ENCODER.encode(fields)


_CAPS = ("max_tokens", "max_completion_tokens")


def _limit_output(fields: dict[str, object], call: CallBody, cap: base.OutputCap) -> None:
    sent = {name: read_integer(call.fields, name) for name in _CAPS}
    for name, tokens in sent.items():
        if tokens is not None:
            fields[name] = min(tokens, cap.tokens)
    if not any(sent.values()):
        fields["max_tokens" if call.capability == "completion" else cap.member] = cap.tokens


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


def headers(api_key: Secret | None, attempt_id: str, forwarded: Headers) -> Headers:
    """The headers of a request upstream. Raises UnusableCredential."""
    return request_headers(credential(api_key) if api_key else [], attempt_id, forwarded)


# --- what the upstream used ----------------------------------------------------------------------------------------------

_MOST = 2**53 - 1
_OBJECT = msgspec.json.Decoder(Fields)


class _Answer(msgspec.Struct):
    usage: Raw = _NULL


class _Chunk(msgspec.Struct):
    object: Raw = _NULL
    choices: Raw = _NULL
    usage: Raw = _NULL
    error: Raw = _NULL


_ANSWER = msgspec.json.Decoder(_Answer)
_CHUNK = msgspec.json.Decoder(_Chunk)
# Text in answers and deltas, told by its name; a piece of text or of a tool's arguments is at least one token.
_CONTENT = re.compile(
    rb'"(?:content|text|reasoning_content|reasoning|refusal|arguments)" ?: ?"([^"\\]*(?:\\.[^"\\]*)*)"'
)
_ERROR_EVENT = re.compile(rb"event: ?error[\r\n]")


def is_answer(body: bytes) -> bool:
    """Whether a whole body can be an answer at all: an object, not a web page, not nothing. Told by its first and last byte,
    because what is inside is relayed as it is, the NaN that some servers write included.
    """
    body = body.strip()
    return body[:1] == b"{" and body[-1:] == b"}"


def read_usage(body: bytes) -> Usage | None:
    """The usage in a whole answer; None if there is none that can be believed, so that it has to be estimated."""
    try:
        return _usage_in(_ANSWER.decode(body).usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def estimate_output_of(body: bytes) -> int:
    """Tokens generated in a whole answer that does not tell: at least one per text in it."""
    number, size = _content_in(body)
    return max(number, _tokens(size))


class _Unbelievable(Exception):
    """A count that is no count."""


def _usage_in(raw: Raw) -> Usage | None:
    """A usage member's counts; one that cannot be believed spoils them all. Zero is zero, missing is missing."""
    try:
        fields = _OBJECT.decode(raw)
        read = _count(fields, "prompt_tokens")
        written = _count(fields, "completion_tokens")
        total = _count(fields, "total_tokens")
        if read is None:
            return None
        if written is None:  # embeddings have none, and say so by the total
            if total is None or total < read:
                return None
            written = total - read
        cached = min(_detail(fields, "prompt_tokens_details", "cached_tokens"), read)
        # OpenRouter's name; OpenAI itself charges nothing for filling its cache.
        cache_write = _detail(fields, "prompt_tokens_details", "cache_write_tokens")
        reasoning = _detail(fields, "completion_tokens_details", "reasoning_tokens")
    except (msgspec.DecodeError, UnicodeDecodeError, _Unbelievable):
        return None
    if reasoning and total == read + written + reasoning:
        written += reasoning  # xAI counts them beside the completion, not in it
    return Usage(
        input=read,
        cached=cached,
        output=written,
        reasoning=min(reasoning, written),
        cache_write=min(cache_write, read - cached),
    )


def _count(fields: Fields, name: str) -> int | None:
    if is_null(fields, name):
        return None
    raw = fields[name]
    text = bytes(raw) if size_of(raw) <= 16 else b""
    if not text.isdigit() or int(text) > _MOST:
        raise _Unbelievable(name)
    return int(text)


def _detail(fields: Fields, group: str, name: str) -> int:
    if is_null(fields, group):
        return 0
    return _count(_OBJECT.decode(fields[group]), name) or 0


def _content_in(data: bytes) -> tuple[int, int]:
    """Number and bytes of the texts in an answer or a chunk; an escaped character counts as three bytes, as in UTF-8."""
    found: list[bytes] = _CONTENT.findall(data)
    if not found:
        return 0, 0
    texts = [text for text in found if text]
    return len(texts), sum(len(text) - 3 * text.count(b"\\u") for text in texts)


# --- streams -------------------------------------------------------------------------------------------------------------


class StreamReader:
    """Watches one stream on its way to the caller. What it gives to relay is what came, event for event, except that

    - the last chunk that carries nothing but usage is left out if the caller did not ask for it (we did). The
      `"usage": null` that some providers then put into every chunk stays: no chunk is ever re-serialised;
    - from an error on nothing is relayed. `error` holds the error's payload; the caller gets it cleaned, from the exchange;
    - an event without its end at the upstream's end is not relayed, for it may be half of one; but usage in it counts, and a
      `[DONE]` that lacks its blank line is completed.

    `feed` raises `providers.sse.EventTooLarge`.
    """

    __slots__ = (
        "_splitter",
        "_wants_usage",
        "content_bytes",
        "content_chunks",
        "done",
        "error",
        "usage",
    )

    def __init__(self, wants_usage: bool) -> None:
        self._splitter = EventSplitter()
        self._wants_usage = wants_usage
        self.usage: Usage | None = None
        self.done = False
        self.error: bytes | None = None
        self.content_chunks = 0
        self.content_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """What to relay of the events that `data` completes."""
        if self.error is not None:
            return b""
        return self._relay(self._splitter.feed(data))

    def finish(self) -> bytes:
        """What to relay when the upstream has ended."""
        rest = self._splitter.flush()
        if not rest or self.error is not None:
            return b""
        if is_ended(rest):
            return self._relay([rest])
        self._watch(rest)
        return rest + b"\n\n" if data_of(rest).strip() == b"[DONE]" else b""

    def estimate_output(self) -> int:
        """Tokens generated so far, as far as one can see from outside: at least one per piece of content."""
        return max(self.content_chunks, _tokens(self.content_bytes))

    def _relay(self, events: list[bytes]) -> bytes:
        kept = []
        for event in events:
            keep = self._watch(event)
            if self.error is not None:
                break
            if keep:
                kept.append(event)
        return kept[0] if len(kept) == 1 else b"".join(kept)

    def _watch(self, event: bytes) -> bool:
        """Takes note of one event; false if it is not for the caller. JSON is read only where a name says that it matters."""
        number, size = _content_in(event)
        self.content_chunks += number
        self.content_bytes += size
        if b"[DONE]" in event and data_of(event).strip() == b"[DONE]":
            self.done = True
            return True
        if b'"error"' in event or _ERROR_EVENT.match(event):
            return not self._is_error(event) and self._watch_usage(event)
        if b'"usage"' in event and not _has_only_null_usage(event):
            return self._watch_usage(event)
        return True

    def _is_error(self, event: bytes) -> bool:
        payload = data_of(event)
        try:
            chunk = _CHUNK.decode(payload)
            is_one = type_of(chunk.error) != "null" or bytes(chunk.object) == b'"error"'
        except (msgspec.DecodeError, RecursionError):
            is_one = False
        if is_one or _ERROR_EVENT.match(event):
            self.error = payload
        return self.error is not None

    def _watch_usage(self, event: bytes) -> bool:
        try:
            chunk = _CHUNK.decode(data_of(event))
        except (msgspec.DecodeError, RecursionError):
            return True
        self.usage = _usage_in(chunk.usage) or self.usage
        has_choices = bytes(chunk.choices).translate(None, b" \t\r\n") not in (b"[]", b"null")
        return has_choices or self._wants_usage or type_of(chunk.usage) == "null"


def _has_only_null_usage(event: bytes) -> bool:
    return event.count(b'"usage"') == 1 and b'"usage":null' in event
