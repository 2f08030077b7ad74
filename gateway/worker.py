"""Our gunicorn worker: its ASGI worker, with a drain that streams survive.

On SIGTERM: not ready at once, but still accepting for a few seconds, so that a balancer can notice; every answer says
`Connection: close`; then the listeners close, idle connections go, and running answers get their time. What is left after
it ends with an error event, and everything is flushed. A connection whose answer promised to keep it is kept for one more:
gunicorn's own flag `alive` would close it under a caller who is already sending, so a drain leaves that flag alone.
Written against gunicorn 27.0.1, which is pinned for it.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

from django.conf import settings
from gunicorn.arbiter import Arbiter
from gunicorn.asgi.lifespan import LifespanManager
from gunicorn.workers.gasgi import ASGIWorker

from gateway import lifecycle
from gateway.edge.connection import Edge, Open
from gateway.edge.gunicorn import GunicornConnection

_BEAT_SECONDS = 0.1
_NEXT_TRY_SECONDS = 1.0
_FAILED = 1
_LAST_WORDS_SECONDS = 2.0


class Worker(ASGIWorker):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[Open] = set()

    def init_signals(self) -> None:
        """Until the loop runs it would lose a signal, so until then plain handlers take them."""
        super().init_signals()
        self.listen_early()

    def listen_early(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.handle_exit_signal())
        for quick in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(quick, lambda *_: self.handle_quit_signal())

    def handle_exit_signal(self) -> None:
        lifecycle.set_draining()

    def handle_quit_signal(self) -> None:
        lifecycle.set_draining()
        super().handle_quit_signal()

    async def _serve(self) -> None:
        super().init_signals()
        self.lifespan = LifespanManager(self.asgi, self.log, self.state)
        try:
            await self.lifespan.startup()
        except Exception as fault:
            self.log.exception("The worker could not start.")
            self.lifespan = None
            raise SystemExit(await self._exit_code_of_failure()) from fault
        protocols = self._protocols()
        for sock in self.sockets if self._goes_on() else ():
            self.servers.append(
                await self.loop.create_server(
                    protocols, sock=sock.sock, ssl=self._get_ssl_context()
                )
            )
        while self._goes_on() and self.ppid == os.getppid():
            await self._beat(1.0)
        await self._shutdown()

    def _protocols(self) -> Callable[[], asyncio.BaseProtocol]:
        """What a new connection is served by."""
        relay = self.asgi.relay
        if relay is None or not settings.EXPRESS:
            return lambda: GunicornConnection(self)
        edge = Edge(self.loop, self.connections, self.cfg.keepalive, self._hand_over)
        return edge.serve(relay)

    def _hand_over(self, carried_calls: bool) -> GunicornConnection:
        return GunicornConnection(self, is_handed_over=True, carried_calls=carried_calls)

    def _goes_on(self) -> bool:
        return self.alive and not lifecycle.draining()

    async def _exit_code_of_failure(self) -> int:
        """One of the first workers ends the server, so that whoever starts it hears of it. A replacement (the database may be
        away just now) must not take along the others, who go on with what they know: it is replaced in its turn.
        """
        if self.age <= self.cfg.workers:
            return int(Arbiter.WORKER_BOOT_ERROR)
        await self._beat(_NEXT_TRY_SECONDS)
        return _FAILED

    async def _beat(self, seconds: float) -> None:
        """Wait a little; tell the arbiter that we live."""
        self.notify()
        await asyncio.sleep(seconds)

    async def _shutdown(self) -> None:
        lifecycle.set_draining()
        if not self._quick_shutdown:
            await self._until(settings.PRE_DRAIN_SECONDS, lambda: False)
        for server in self.servers:
            server.close()
        if not self._quick_shutdown:
            await self._until(settings.DRAIN_SECONDS, self._all_gone)
        relay = self.asgi.relay
        if relay is not None:
            relay.drain()
        await self._until(_LAST_WORDS_SECONDS, self._all_gone)
        if self.lifespan is not None:
            await self._end_lifespan(self.lifespan)

    async def _end_lifespan(self, lifespan: LifespanManager) -> None:
        """What is settled still goes into the tables; meanwhile the arbiter must not take us for dead."""
        ending = asyncio.ensure_future(lifespan.shutdown())
        while not ending.done():
            self.notify()
            await asyncio.wait({ending}, timeout=_BEAT_SECONDS)
        await ending

    def _all_gone(self) -> bool:
        """Close the connections that are idle by now; True when none is left."""
        for connection in [each for each in self.connections if each.is_idle()]:
            connection.transport.close()
        return not self.connections

    async def _until(self, seconds: float, done: Any) -> None:
        deadline = self.loop.time() + seconds
        while (
            self.loop.time() < deadline
            and not done()
            and not (self._quick_shutdown and seconds > _LAST_WORDS_SECONDS)
        ):
            await self._beat(_BEAT_SECONDS)


def after_fork(arbiter: Arbiter, worker: Worker) -> None:
    """The child still has the master's handlers, which would only note the signal for a master that is not there."""
    worker.listen_early()
