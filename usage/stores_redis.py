"""Shared limits in Redis or Valkey: the same sums in one script, so a batch is one trip and nobody comes between."""

from pathlib import Path
from typing import Final

import msgspec
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from usage.rate_terms import Answer, Batch

#: Seconds for one operation. Longer is as good as away: callers wait for it.
OPERATION_SECONDS: Final = 0.05
_SCRIPT: Final = (Path(__file__).parent / "rates.lua").read_text()

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[Answer]] = msgspec.msgpack.Decoder(list[Answer])

#: What says that it is away, too slow, or not to be made sense of.
AWAY: Final = (redis.RedisError, OSError, msgspec.DecodeError)


class RedisStore:
    """Its clock is the server's. Keys that nobody touches expire. Raises `AWAY`."""

    def __init__(self, url: str = "", prefix: str = "") -> None:
        self._client = redis.Redis.from_url(
            url or settings.REDIS_URL,
            socket_timeout=OPERATION_SECONDS,
            socket_connect_timeout=OPERATION_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = self._client.register_script(_SCRIPT)
        self._prefix = f"{prefix or settings.REDIS_PREFIX}limit:"

    def work(self, batch: Batch) -> list[Answer]:
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
        answer = self._script(keys=[self._prefix + level for level in levels], args=[packed])
        return _decoder.decode(answer) if batch.asks else []

    def ping(self) -> None:
        self._client.ping()

    def close(self) -> None:
        self._client.close()
