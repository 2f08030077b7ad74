"""OpenAI's streams, relayed and watched. Pure.

Reference: https://platform.openai.com/docs/api-reference/chat-streaming, and what related servers make of it.
"""

import re

import msgspec

from providers.dialects.body import type_of
from providers.dialects.openai_shapes import CHUNK, TEXT_CHUNK
from providers.dialects.openai_usage import texts_in, tokens, usage_in
from providers.sse import EventSplitter, data_of, is_ended
from providers.types import Usage

_ERROR_EVENT = re.compile(rb"event: ?error[\r\n]")


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
        if self._has_failed():
            return b""
        kept = []
        for event in self._splitter.feed(data):
            if self._is_text(event) or self._watch(event):
                kept.append(event)
            elif self._has_failed():
                break
        return b"".join(kept)

    def finish(self) -> bytes:
        """What to relay when the upstream has ended."""
        rest = self._splitter.flush()
        if not rest or self._has_failed():
            return b""
        keep = self._watch(rest)
        if is_ended(rest):
            return rest if keep else b""
        return rest + b"\n\n" if data_of(rest).strip() == b"[DONE]" else b""

    def estimate_output(self) -> int:
        """Tokens generated so far, as far as one can see from outside: at least one per piece of content."""
        return tokens(self.content_chunks, self.content_bytes)

    def _has_failed(self) -> bool:
        return self.error is not None

    def _is_text(self, event: bytes) -> bool:
        """Whether the event is what nearly all are: a chunk with text, and nothing else of note. Then its text is counted here,
        after one strict decoding. `_watch` would come to the same, more slowly.
        """
        if not event.startswith(b"data:"):
            return False
        try:
            # The spaces and line ends around the JSON are spaces of JSON's, too.
            choices = TEXT_CHUNK.decode(event[5:]).choices
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        number, size = 0, 0
        for choice in choices:
            delta = choice.delta
            for text in (delta.content, delta.reasoning_content, delta.reasoning, delta.refusal):
                if text:
                    number += 1
                    size += len(text) if text.isascii() else len(text.encode())
        self.content_chunks += number
        self.content_bytes += size
        return number > 0

    def _watch(self, event: bytes) -> bool:
        """Takes note of one event; false if it is not for the caller. JSON is read only where a name says that it matters."""
        number, size = texts_in(event)
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
            chunk = CHUNK.decode(payload)
            is_one = type_of(chunk.error) != "null" or bytes(chunk.object) == b'"error"'
        except (msgspec.DecodeError, RecursionError):
            is_one = False
        if is_one or _ERROR_EVENT.match(event):
            self.error = payload
        return self.error is not None

    def _watch_usage(self, event: bytes) -> bool:
        try:
            chunk = CHUNK.decode(data_of(event))
        except (msgspec.DecodeError, RecursionError):
            return True
        self.usage = usage_in(chunk.usage) or self.usage
        has_choices = bytes(chunk.choices).translate(None, b" \t\r\n") not in (b"[]", b"null")
        return has_choices or self._wants_usage or type_of(chunk.usage) == "null"


def _has_only_null_usage(event: bytes) -> bool:
    return event.count(b'"usage"') == 1 and b'"usage":null' in event
