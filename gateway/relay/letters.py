"""Letterheads that are kept for the next call: everything of a request that is the same for one target and one credential.

The credential is in them in clear. So one that nobody uses is forgotten within a minute, and there are never many.
"""

from collections import OrderedDict
from typing import Final

from providers.routing import Serving
from providers.types import Headers, Letterhead, Timeouts
from tenants.sealing import Secret

#: Seconds after its last use for which a clear credential may be kept, and how many of them.
IDLE_SECONDS: Final = 60.0
_MOST: Final = 1_000


class Letter:
    """`secret`: what must not be in anything that the upstream says."""

    __slots__ = ("head", "secret", "serving", "used_at")

    def __init__(self, serving: Serving, secret: Secret | None, head: Letterhead) -> None:
        self.serving = serving
        self.secret = secret
        self.head = head
        self.used_at = 0.0


class Letters:
    """Of one worker, the one that was used last at the end. Moments are of the monotonic clock."""

    __slots__ = ("_kept", "_timeouts")

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        # By the target's identity, which the letter holds: when its provider changes, there is another target.
        self._kept: OrderedDict[tuple[int, str, tuple[tuple[bytes, bytes], ...]], Letter] = (
            OrderedDict()
        )

    def __len__(self) -> int:
        return len(self._kept)

    def limit(self, timeouts: Timeouts) -> None:
        """From now on: calls that are on their way keep the limits that they began with."""
        if timeouts != self._timeouts:
            self._timeouts = timeouts
            self._kept.clear()

    def letter(
        self,
        serving: Serving,
        operation: str,
        forwarded: tuple[tuple[bytes, bytes], ...],
        now: float,
    ) -> Letter:
        """Raises `CredentialUnreadable`, `UnusableCredential`, `Unwritable`."""
        key = (id(serving), operation, forwarded)
        letter = self._kept.get(key)
        if letter is None:
            letter = self._kept[key] = self._written(serving, operation, list(forwarded))
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        letter.used_at = now
        return letter

    def _written(self, serving: Serving, operation: str, forwarded: Headers) -> Letter:
        upstream = serving.upstream
        dialect = upstream.dialect
        secret = upstream.open_credential()
        head = Letterhead(
            origin=upstream.origin,
            method=b"POST",
            path=dialect.request_path(upstream, operation, serving.name),
            headers=dialect.headers(secret, forwarded),
            pool_key=upstream.pool_key,
            timeouts=self._timeouts.within(upstream.timeout_seconds),
        )
        return Letter(serving, secret, head)

    def sweep(self, now: float) -> None:
        """Forget those that nobody uses."""
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if now - oldest.used_at < IDLE_SECONDS:
                return
            del self._kept[key]
