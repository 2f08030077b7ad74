"""What the worker and the server do around the application: the end is not taken for death, and waits are bounded."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, connections
from pytest_django.fixtures import Settings

from gateway import server
from gateway.worker import Worker
from tenants import patience


async def test_the_worker_says_that_it_lives_while_the_last_records_are_written(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("gateway.worker._BEAT_SECONDS", 0.01)
    beats: list[float] = []
    worker = Worker.__new__(Worker)
    worker.notify = lambda: beats.append(asyncio.get_running_loop().time())

    async def shutdown() -> None:
        await asyncio.sleep(0.1)

    lifespan: Any = SimpleNamespace(shutdown=shutdown)
    await worker._end_lifespan(lifespan)
    assert len(beats) >= 5


async def test_a_fault_at_the_end_is_not_hidden():
    worker = Worker.__new__(Worker)
    worker.notify = lambda: None

    async def shutdown() -> None:
        raise RuntimeError("a fault of ours")

    lifespan: Any = SimpleNamespace(shutdown=shutdown)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await worker._end_lifespan(lifespan)


@pytest.fixture
def unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience._process, "seconds", None)


@pytest.mark.usefixtures("unbounded")
def test_a_serving_process_waits_for_the_database_only_so_long(settings: Settings):
    server._bound_waits()
    assert patience._process.seconds == settings.ANSWER_SECONDS


@pytest.mark.postgres
@pytest.mark.usefixtures("unbounded")
@pytest.mark.parametrize(
    ("said", "used"),
    [
        ({}, "-c statement_timeout=15s -c lock_timeout=5s"),
        ({"options": "-c lock_timeout=1s"}, "-c lock_timeout=1s"),
    ],
)
def test_a_statement_of_a_serving_process_may_run_only_so_long(
    said: dict[str, str], used: str, monkeypatch: pytest.MonkeyPatch
):
    options = connections[DEFAULT_DB_ALIAS].settings_dict["OPTIONS"]
    monkeypatch.delitem(options, "options", raising=False)
    for name, value in said.items():
        monkeypatch.setitem(options, name, value)
    try:
        server._bound_waits()
        assert options["options"] == used
    finally:
        options.pop("options", None)
