"""Shared limits in Redis or Valkey: the same sums in one script, so a batch is one trip and nobody comes between.

A Redis may forget: it is restarted, emptied, or another one takes its place. So its memory bears a mark (usage/mark.lua), which
every connection sets right first, and every batch names the mark that its worker knows. Where that is not the one that is
there, nothing is counted, and the worker hears that it has to learn what this Redis still knows.
"""

from pathlib import Path
from typing import Any, Final

import msgspec
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from usage.rate_terms import Answer, Batch

#: Seconds for one operation. Longer is as good as away: callers wait for it.
OPERATION_SECONDS: Final = 0.05
_SCRIPT: Final = (Path(__file__).parent / "rates.lua").read_text()
_MARK: Final = (Path(__file__).parent / "mark.lua").read_text()

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[Answer]] = msgspec.msgpack.Decoder(list[Answer])

#: What says that it is away, too slow, or not to be made sense of.
AWAY: Final = (redis.RedisError, OSError, msgspec.DecodeError)


class Forgotten(Exception):
    """This Redis' memory is not the one that the worker knows. Nothing was counted."""


class RedisStore:
    """Its clock is the server's. Keys that nobody touches expire. Raises `AWAY`."""

    def __init__(self, url: str = "", prefix: str = "") -> None:
        self._client = redis.Redis.from_url(
            url or settings.REDIS_URL,
            socket_timeout=OPERATION_SECONDS,
            socket_connect_timeout=OPERATION_SECONDS,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=self._greet,
        )
        self._script = self._client.register_script(_SCRIPT)
        self._marking = self._client.register_script(_MARK)
        self._prefix = f"{prefix or settings.REDIS_PREFIX}limit:"
        self._mark_key = f"{self._prefix}mark"
        #: What we go by.
        self._mark = b""

    def work(self, batch: Batch) -> list[Answer]:
        """Raises `Forgotten` too."""
        levels = batch.levels()
        place = {level: number for number, level in enumerate(levels, 1)}
        packed = _encoder.encode(
            (
                [(place[back.level], *back[1:]) for back in batch.returns],
                [(place[having.level], *having[1:]) for having in batch.havings],
                [
                    ([(place[part.level], *part[1:]) for part in ask.parts], *ask[1:])
                    for ask in batch.asks
                ],
            )
        )
        keys = [*(self._prefix + level for level in levels), self._mark_key]
        answer = self._script(keys=keys, args=[packed, self._mark])
        if answer is None:
            raise Forgotten
        return _decoder.decode(answer) if batch.asks else []

    def recall(self) -> int:
        """For how long (µs) this Redis has known everything. From now on its mark is the one that we go by."""
        known, _, _ = self._mark.rpartition(b":")
        self._mark, age = self._marking(keys=[self._mark_key], args=[])
        process, _, _ = self._mark.rpartition(b":")
        # Another one that has been there for long: what we know of was counted elsewhere.
        return int(age) if known in {b"", process} else 0

    def is_new(self) -> None:
        """There was nothing to know before this mark."""
        self._mark, _ = self._marking(keys=[self._mark_key], args=[self._mark])

    def ping(self) -> None:
        """Whether it can be written to, too."""
        self._marking(keys=[self._mark_key], args=[])

    def close(self) -> None:
        self._client.close()

    def _greet(self, connection: Any) -> None:
        """The first on every connection, so that nobody counts in a process whose memory does not bear its own mark."""
        connection.on_connect()
        connection.send_command("EVAL", _MARK, 1, self._mark_key)
        connection.read_response()
