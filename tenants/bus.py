"""Telling other processes that the epoch moved. A courtesy: workers also look for themselves, so a failure here is no loss."""

import logging

import redis
from django.conf import settings

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 0.1


def channel() -> str:
    """Publish/subscribe ignores the database number, so the prefix is in the channel's name too."""
    return f"{settings.REDIS_PREFIX}epoch"


def announce(epoch: int) -> None:
    """Publish the new epoch, if there is a Redis. Never fails the change that it tells of."""
    if not settings.REDIS_URL:
        return
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
        ) as client:
            client.publish(channel(), str(epoch))
    except (redis.RedisError, OSError, ValueError) as failure:
        logger.warning("The epoch was not announced: %s", type(failure).__name__)
