"""Where requests come in that are not calls taken by the worker's own protocol: Django, its views for calls included. And the
worker's lifespan.
"""

import asyncio
import fcntl
import gc
import logging
import os
import resource
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
django_application = get_asgi_application()

from django.conf import settings  # noqa: E402

from gateway import lifecycle, probing  # noqa: E402 - Django must be set up before its models are imported
from gateway.front import Front  # noqa: E402
from gateway.housekeeping import Housekeeper  # noqa: E402
from gateway.relay import endpoints  # noqa: E402
from gateway.relay.relay import Relay  # noqa: E402
from gateway.views.handler import CallHandler  # noqa: E402

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Containers made and not yet freed before the garbage collector looks through the young: more than 32 calls at once have, which
#: are gone before it looks, and so few that it takes a millisecond. An open stream has 130.
_ALLOCATIONS = 10_000
#: Such looks before one at all that was made since a look at everything, and of those before one at everything.
_LOOKS = (100, 50)
#: Open files that the kernel's table of them has room for from the start: two for each stream, 8 bytes each.
_OPEN_FILES = 16_384
#: Seconds that the loop waits for a thread of ours (the ledger's, above all) that is at work in Python.
_SWITCH_SECONDS = 0.0005
#: Seconds that the housekeeper's batch, and what the prober writes, may still take when the worker ends.
_HOUSEKEEPER_SECONDS = 2.0


def _favour_the_loop() -> None:
    """What is here after the start stays for good: looking through it again and again for rubbish would stop every call."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *_LOOKS)
    sys.setswitchinterval(_SWITCH_SECONDS)


def _make_room_for_files() -> None:
    """The kernel doubles a process's table of open files when it is full, and one with threads stands still meanwhile: tens of
    milliseconds, for every call, each time. So it gets its size at the start.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    last = (min(most, _OPEN_FILES) if most > 0 else _OPEN_FILES) - 1
    with Path(os.devnull).open() as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, last))


def _housekeeper() -> Housekeeper | None:
    if not settings.HOUSEKEEPING:
        return None
    housekeeper = Housekeeper()
    housekeeper.start()
    lifecycle.report_with("housekeeping", housekeeper.report)
    return housekeeper


class Application:
    """The ASGI application of one worker."""

    def __init__(self) -> None:
        self.relay: Relay | None = None
        self._calls = CallHandler()
        self._front = Front(django_application, settings.DJANGO_SEATS)  # type: ignore[arg-type]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            found = endpoints.find(scope["method"], scope["path"])
            if found is not None and self.relay is not None:
                await self._calls.serve(self.relay, found, scope, receive, send)
                return
            await self._front.serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        lifecycle.set_starting()
        try:
            self.relay = await Relay.start()
        except Exception as fault:
            # The server stops the whole gateway on this message: a worker that cannot start must not be retried for ever.
            logger.exception("The worker could not start.")
            await send({"type": "lifespan.startup.failed", "message": type(fault).__name__})
            return
        _favour_the_loop()
        _make_room_for_files()
        housekeeper, prober = _housekeeper(), probing.started()
        if prober is not None:
            lifecycle.report_with("probing", prober.report)
        lifecycle.set_ready()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        loop = asyncio.get_running_loop()
        for helper in (housekeeper, prober):
            if helper is not None:
                await loop.run_in_executor(None, helper.stop, _HOUSEKEEPER_SECONDS)
        await self.relay.stop()
        await send({"type": "lifespan.shutdown.complete"})


application = Application()
