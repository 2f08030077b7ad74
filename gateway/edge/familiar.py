"""Heads that came before. Most callers send the same one with each call, but for the length of its body; then what it was read
as is still true, and needs no parser.

A head is known by a keyed hash of its bytes, never by the bytes: there is a key in them, and a key that was used is not to be
found in this process's memory.
"""

import hashlib
import os
from typing import Final, NamedTuple

from gateway.relay.facts import Asked

#: Heads that are remembered, and bytes of one.
_MOST: Final = 4096
_LONGEST: Final = 4096
#: Digits of a length; more go to the parser.
_MOST_DIGITS: Final = 9
_LENGTH: Final = b"ontent-length: "
_LENGTH_AS_MOST_WRITE_IT: Final = b"ontent-Length: "


class Read(NamedTuple):
    """What a head says, but for the length of its body. `closes`: its connection is to end after the answer.
    `forwarded_for`: through whom it came, if a proxy said so.
    """

    asked: Asked
    closes: bool
    forwarded_for: str


class Familiar:
    """Of one worker."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._heads: dict[bytes, Read] = {}

    def find(self, head: bytes) -> tuple[Read, int] | None:
        """What a whole head says, empty line included, and the length of its body; None if it is new."""
        place = _place_of_length(head) if len(head) <= _LONGEST else None
        if place is None:
            return None
        begin, end = place
        read = self._heads.get(self._name(head, begin, end))
        return None if read is None else (read, int(head[begin:end]))

    def name(self, head: bytes, length: int, read: Read) -> bytes | None:
        """What a head is to be kept under that the parser read as this, with a body of that length and not in chunks; None if it
        is not to be kept. One that names its call, or its place in a trace, does not come again.
        """
        asked = read.asked
        place = _place_of_length(head) if len(head) <= _LONGEST else None
        if (
            place is None
            or asked.once
            or asked.offered_id is not None
            or asked.trace_id is not None
        ):
            return None
        return self._name(head, *place) if int(head[place[0] : place[1]]) == length else None

    def keep(self, name: bytes, read: Read) -> None:
        """Of a caller who is known: others may send what they like, and we would remember it."""
        if len(self._heads) >= _MOST:
            self._heads.clear()
        self._heads[name] = read

    def _name(self, head: bytes, begin: int, end: int) -> bytes:
        # The place is in it: the same bytes with their hole elsewhere would be another head.
        rest = b"%d %b%b" % (begin, head[:begin], head[end:])
        return hashlib.blake2b(rest, digest_size=16, key=self._key).digest()


def _place_of_length(head: bytes) -> tuple[int, int] | None:
    """Where the digits of the length stand, if they stand where a header's value does and nothing else is in their line.

    Whoever writes two lengths is refused by the parser, so no head with two of them is ever kept.
    """
    at = head.find(_LENGTH)
    if at < 0:
        at = head.find(_LENGTH_AS_MOST_WRITE_IT)
    if at < 3 or head[at - 3 : at - 1] != b"\r\n" or head[at - 1] not in b"cC":
        return None
    begin = at + len(_LENGTH)
    end = head.find(b"\r", begin, begin + _MOST_DIGITS + 1)
    return (begin, end) if end > begin and head[begin:end].isdigit() else None
