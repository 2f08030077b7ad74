"""Where requests come in that are not calls taken by the worker's own protocol: Django, its views for calls included. And the
worker's lifespan.
"""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
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

#: Containers made and not yet freed before the garbage collector looks: a few hundred calls' worth.
_ALLOCATIONS = 50_000
#: Seconds that the loop waits for a thread of ours (the ledger's, above all) that is at work in Python.
_SWITCH_SECONDS = 0.0005
#: Seconds that the housekeeper's batch, and what the prober writes, may still take when the worker ends.
_HOUSEKEEPER_SECONDS = 2.0


def _favour_the_loop() -> None:
    """What is here after the start stays for good: looking through it again and again for rubbish would stop every call."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, 20, 50)
    sys.setswitchinterval(_SWITCH_SECONDS)


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
