"""Providers that refused our credential a moment ago are asked last. Pure; one worker's knowledge, gone with it."""

from typing import Final

from providers.routing import Serving, Upstream

#: Seconds for which a refused credential is asked last.
COOL_SECONDS: Final = 30.0
#: Credentials that are remembered.
_MOST: Final = 1_000


class Cooling:
    """Which credentials were refused (401, 402, 403, 407), until when. A new credential of the provider is another one."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def refused(self, upstream: Upstream, now: float) -> None:
        self._until.pop(upstream.pool_key, None)
        self._until[upstream.pool_key] = now + COOL_SECONDS
        while len(self._until) > _MOST:
            del self._until[next(iter(self._until))]

    def ordered(self, targets: tuple[Serving, ...], now: float) -> tuple[Serving, ...]:
        """The same targets, those with a refused credential behind the others: one that is alone is asked again."""
        if not self._until or len(targets) < 2:
            return targets
        cooled = {key for key, until in self._until.items() if until > now}
        if not cooled:
            self._until.clear()
            return targets
        return tuple(sorted(targets, key=lambda target: target.upstream.pool_key in cooled))
