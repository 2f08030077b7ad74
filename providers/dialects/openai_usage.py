"""What an upstream of OpenAI's format says that a call used, and what it can be taken for where nothing is said. Pure.

Reference: https://platform.openai.com/docs/api-reference/chat/object, and what related servers make of it.
"""

import math
import re
from collections.abc import Mapping

import msgspec
from msgspec import Raw

from providers.dialects.body import NULL, Fields
from providers.dialects.openai_shapes import (
    ANSWER,
    COUNTS,
    CompletionDetails,
    Counts,
    PromptDetails,
)
from providers.types import Usage

BYTES_PER_TOKEN = 3.5

_DETAILS: Mapping[str, type[msgspec.Struct]] = {
    "prompt_tokens_details": PromptDetails,
    "completion_tokens_details": CompletionDetails,
}
_OBJECT = msgspec.json.Decoder(Fields)
_TEXT = msgspec.json.Decoder(str)
_ENCODER = msgspec.json.Encoder()
# Text in answers and deltas, told by its name.
_CONTENT = re.compile(
    rb'"(?:content|text|reasoning_content|reasoning|refusal|arguments)" ?: ?"(?!")([^"\\]*(?:\\.[^"\\]*)*)"'
)


def read_answer(body: bytes) -> tuple[bool, Usage | None]:
    """Whether a whole body can be an answer at all, and the usage in it; None if there is none that can be believed, so that
    it has to be estimated.

    An answer is an object, not a web page, not nothing. That is told by its first and last byte, because what is inside is
    relayed as it is, the NaN that some servers write included.
    """
    text = body.strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return False, None
    try:
        return True, usage_in(ANSWER.decode(body).usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True, None


def estimate_output_of(body: bytes) -> int:
    """Tokens generated in a whole answer that does not tell: at least one per text in it."""
    return tokens(*texts_in(body))


def usage_in(raw: Raw) -> Usage | None:
    """A usage member's counts; one that cannot be believed spoils them all. Zero is zero, missing is missing."""
    counts = _read_counts(raw)
    if counts is None or counts.prompt_tokens is None:
        return None
    read, written, total = counts.prompt_tokens, counts.completion_tokens, counts.total_tokens
    if written is None:  # embeddings have none, and say so by the total
        if total is None or total < read:
            return None
        written = total - read
    cached = cache_write = reasoning = 0
    if counts.prompt_tokens_details is not None:
        cached = min(counts.prompt_tokens_details.cached_tokens or 0, read)
        cache_write = min(counts.prompt_tokens_details.cache_write_tokens or 0, read - cached)
    if counts.completion_tokens_details is not None:
        reasoning = counts.completion_tokens_details.reasoning_tokens or 0
        if reasoning and total == read + written + reasoning:
            written += reasoning  # xAI counts them beside the completion, not in it
        reasoning = min(reasoning, written)
    return Usage(
        input=read, cached=cached, output=written, reasoning=reasoning, cache_write=cache_write
    )


def _read_counts(raw: Raw) -> Counts | None:
    """The counts of a usage member, None if one of them is no count.

    Nearly every usage is read by one strict decoding. It takes -0 for 0, though, which nobody writes who counts, and it does
    not look at names that it does not know; so it is asked only where neither can matter.
    """
    text = bytes(raw)
    if b"-" in text or not text.isascii():
        return _read_odd_counts(text)
    try:
        return COUNTS.decode(text)
    except msgspec.DecodeError:
        return _read_odd_counts(text)


def _read_odd_counts(text: bytes) -> Counts | None:
    """The same for any text: of several members of one name the last one counts, and what is no count of ours may be odd."""
    try:
        counts = _only(Counts, text)
        for group, details in _DETAILS.items():
            told = counts.get(group, NULL)
            if told != NULL:
                counts[group] = Raw(_ENCODER.encode(_only(details, told)))
        plain = _ENCODER.encode(counts)
        return None if b"-" in plain else COUNTS.decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _only(known: type[msgspec.Struct], text: bytes | Raw) -> Fields:
    """The members of an object that are known there."""
    fields = _OBJECT.decode(text)
    return {name: fields[name] for name in known.__struct_fields__ if name in fields}


def texts_in(data: bytes) -> tuple[int, int]:
    """Number and bytes of the texts in an answer or a chunk that are not empty, wherever they stand."""
    found: list[bytes] = _CONTENT.findall(data)
    return len(found), sum(map(_size_of_text, found))


def _size_of_text(text: bytes) -> int:
    """What stands between the quotes, in bytes of UTF-8."""
    if b"\\" not in text:
        return len(text)
    try:
        return len(_TEXT.decode(b'"%b"' % text).encode())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return len(text)


def tokens(number: int, size: int) -> int:
    """What so many texts with so many bytes come to, as far as one can see from outside: each is at least one."""
    return max(number, math.ceil(size / BYTES_PER_TOKEN))
