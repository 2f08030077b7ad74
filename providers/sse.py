"""Server-sent events cut out of a byte stream, byte for byte as they came. Pure.

Source: WHATWG HTML, 9.2.5 and 9.2.6: lines end in LF, CRLF or CR, a blank line ends an event, one byte order mark may lead
the stream. Nothing is decoded, so a cut inside a UTF-8 character changes nothing.
"""

import re

MAX_EVENT = 1024 * 1024  # bytes

_BOM = b"\xef\xbb\xbf"
# Where an event ends: a line end, then the line end of an empty line. The groups are atomic, or the halves of one CRLF
# would pass for two line ends.
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_ENDED = re.compile(_END.pattern + rb"\Z")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_END = 4


class EventTooLarge(Exception):
    """One event is over the limit: a stream that may never end one is not read on."""


class EventSplitter:
    """Whole events out of chunks: what `feed` and `flush` give, joined, is what was fed, byte for byte.

    An event is everything up to and including the blank line that ends it: comments, stray blank lines and a leading byte
    order mark stay with the event they precede.
    """

    __slots__ = ("_buffer", "_limit", "_scanned", "_seen_cr")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._scanned = 0  # no event ends before this offset of the buffer
        self._seen_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises EventTooLarge."""
        if not self._seen_cr and b"\r" in data:
            self._seen_cr = True
        if (
            data.find(b"\n") == len(data) - 2
            and data[-1:] == b"\n"
            and not (self._buffer or self._seen_cr or len(data) > self._limit)
        ):
            return [data]  # what most upstreams send: one whole event at a time, of one line
        split = self._split_anywhere if self._seen_cr else self._split_at_lf
        if self._buffer:
            self._buffer += data
            events, start = split(self._buffer)
            del self._buffer[:start]
        else:
            events, start = split(data)
            self._buffer += data[start:]
        if max(map(len, events), default=0) > self._limit or len(self._buffer) > self._limit:
            raise EventTooLarge(f"An event of the stream is over {self._limit} bytes.")
        # An end may be cut anywhere, so its beginning may be here already.
        self._scanned = max(0, len(self._buffer) - _LONGEST_END + 1)
        return events

    def flush(self) -> bytes:
        """What is left at the end of the stream: nothing, or an event that may lack its end (`is_ended`)."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        return rest

    def _split_at_lf(self, buffer: bytes | bytearray) -> tuple[list[bytes], int]:
        """The events in `buffer`, and the offset at which the last one ends."""
        events: list[bytes] = []
        start = 0
        end = buffer.find(b"\n\n", self._scanned)
        while end >= 0:
            events.append(bytes(buffer[start : end + 2]))
            start = end + 2
            end = buffer.find(b"\n\n", start)
        return events, start

    def _split_anywhere(self, buffer: bytes | bytearray) -> tuple[list[bytes], int]:
        """The same where lines may end in CR as well."""
        events: list[bytes] = []
        start = 0
        match = _END.search(buffer, self._scanned)
        while match:
            if match.end() == len(buffer) and buffer.endswith(b"\r"):
                break  # perhaps half a CRLF
            events.append(bytes(buffer[start : match.end()]))
            start = match.end()
            match = _END.search(buffer, start)
        return events, start


def is_ended(event: bytes) -> bool:
    """Whether a blank line ends `event`. For what `flush` gives: a lone CR at the stream's end is a whole line end."""
    return _ENDED.search(event) is not None


def data_of(event: bytes) -> bytes:
    """The payload: the values of the event's `data` fields joined by LF; empty if there are none."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2]
    values = []
    for line in _LINE_END.split(event.removeprefix(_BOM)):
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values)
