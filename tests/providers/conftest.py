"""Our own transport runs on uvloop in production and on asyncio's own loop elsewhere: its tests run on both, and a third time
with the httpx transport.
"""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.providers.upstreams import HttpxLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name.startswith("test_transport"):
        return {
            "asyncio": asyncio.new_event_loop,
            "uvloop": uvloop.new_event_loop,
            "httpx": HttpxLoop,
        }
    return {"asyncio": asyncio.new_event_loop}
