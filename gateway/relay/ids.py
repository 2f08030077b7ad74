"""Ids of calls: UUIDs that begin with the time, so that the tables' indexes grow at their ends. Random ones would change as many
pages of every index as a batch has calls; that was half of what the ledger cost.

The randomness comes from the kernel in batches: a call to it for each id would cost as much as the rest of a head.
"""

import os
from typing import Final
from uuid import UUID, SafeUUID

_BATCH: Final = 256
_BYTES: Final = 16
_MILLIS: Final = (1 << 48) - 1
#: RFC 9562, version 7: 48 bits of milliseconds, the version, 12 random bits, the variant, 62 random bits.
_RANDOM: Final = (0x0FFF << 64) | (0x3FFF << 48) | _MILLIS
_SET: Final = (7 << 76) | (0x8000 << 48)

_UNKNOWN: Final = SafeUUID.unknown

_left: list[int] = []


def new_id(unix_us: int) -> UUID:
    """The id of a call that came at this moment, in microseconds since 1970. On the loop's thread."""
    if not _left:
        fresh = os.urandom(_BATCH * _BYTES)
        _left.extend(int.from_bytes(fresh[at : at + _BYTES]) for at in range(0, len(fresh), _BYTES))
    made = object.__new__(UUID)
    # A UUID refuses to be set; its own constructor goes the same way.
    millis = (unix_us // 1000 & _MILLIS) << 80
    object.__setattr__(made, "int", _left.pop() & _RANDOM | millis | _SET)
    object.__setattr__(made, "is_safe", _UNKNOWN)
    return made


# Two processes must not share what is left.
os.register_at_fork(after_in_child=_left.clear)
