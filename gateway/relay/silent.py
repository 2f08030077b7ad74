"""The edge of a call that nobody hears any more (gateway/relay/unheard.py)."""

from collections.abc import Callable

from gateway.relay.ports import Actions
from providers.routing import Upstream
from providers.types import Headers, UpstreamRequest
from usage.records import AttemptStarted, Record


class SilentActions:
    """An edge's actions for a call that nobody hears: nothing is said, and its end is a cut. `over` is called first."""

    __slots__ = ("_actions", "_over")

    def __init__(self, actions: Actions, over: Callable[[], None]) -> None:
        self._actions = actions
        self._over = over

    def append(self, record: Record, attempt: AttemptStarted | None = None) -> None:
        self._actions.append(record, attempt)

    def commit(self) -> None:
        raise AssertionError("a call whose caller left was sent already")

    def connect(self, upstream: Upstream, request: UpstreamRequest) -> None:
        raise AssertionError("a call whose caller left is tried nowhere else")

    def abort_upstream(self) -> None:
        self._actions.abort_upstream()

    def unreadable(self, upstream: Upstream) -> None:
        self._actions.unreadable(upstream)

    def start(self, status: int, headers: Headers) -> None:
        pass

    def relay(self, data: bytes) -> None:
        pass

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.finish()

    def finish(self) -> None:
        self._over()
        self._actions.cut()
