"""What `bench.forgetting` runs in a process of its own: old rows, a sweep, and a writer beside it."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Final

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
django.setup()

from django.db import connection, transaction  # noqa: E402 - models need Django to be set up

from gateway import housekeeping  # noqa: E402
from tenants.actor import system_actor  # noqa: E402
from tenants.chores import Sweep  # noqa: E402
from tenants.models import Duty  # noqa: E402

#: Seconds between two transactions of the writer: a busy ledger flushes four times a second, and limits write in between.
_EVERY: Final = 0.01
_AT_ONCE: Final = 50_000


def main(rows: int, alone: float) -> None:
    began = time.monotonic()
    for first in range(0, rows, _AT_ONCE):
        _make(first, min(first + _AT_ONCE, rows))
    _say(f"{rows:,} log rows with an attempt each were made in {time.monotonic() - began:.0f} s")
    _say(f"a writer alone: {_beside(lambda: time.sleep(alone))}")
    sweep = Sweep(system_actor("bench"))
    began = time.monotonic()
    waits = _beside(lambda: housekeeping.run(sweep))
    took = time.monotonic() - began
    _say(
        f"housekeeping: {sweep.rows['logs']:,} rows in {took:.0f} s, {sweep.rows['logs'] / took:,.0f} a second"
    )
    _say(f"its longest transaction: {1000 * sweep.longest:.0f} ms")
    _say(f"a writer beside it: {waits}")


def _make(first: int, end: int) -> None:
    """By the database itself, with the columns as Django writes them."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE n(i) AS (SELECT %s UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %s)"
            " INSERT INTO usage_requestlog (month, request_id, tenant_id, tenant, project_id, project, account_id, account,"
            " key_id, key_prefix, team, correlation_id, created_at, kind, model, provider_id, provider, target, dialect_in,"
            " dialect_out, stream, status, error_code, dispatched, attempts, tokens_in, tokens_cached, tokens_out,"
            " tokens_reasoning, cost_nano_usd, usage_source, duration_us, ttfb_us, overhead_us, idempotent_replay, why,"
            " trace_id)"
            " SELECT '2026-01', printf('%%032x', i), printf('%%032x', i %% 50), 'Acme', printf('%%032x', 0), '',"
            " printf('%%032x', 0), '', printf('%%032x', i %% 400), 'gwk_abcdef', '', printf('%%032x', i),"
            " strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-91 days', '-' || (%s - i) || ' seconds'), 'model', 'gpt',"
            " printf('%%032x', 1), 'main', 'gpt-4.1', 'openai', 'openai', 0, 200, '', 'yes', 1, 10, 0, 20, 0, 12000,"
            " 'provider', 123456, 100000, 350, 0, '', '' FROM n",
            [first, end, end],
        )
        cursor.execute(
            "INSERT INTO usage_attempt (month, request_id, n, started_at, provider_id, provider, target, dialect_out, outcome,"
            " status, duration_us, ttfb_us) SELECT month, request_id, 1, created_at, provider_id, provider, target,"
            " dialect_out, 'ok', 200, duration_us, ttfb_us FROM usage_requestlog WHERE id > (SELECT max(id) - %s FROM"
            " usage_requestlog)",
            [end - first],
        )


def _beside(work: Callable[[], object]) -> str:
    """How long a writer of another process waited while `work` was done."""
    context = multiprocessing.get_context("spawn")
    begun, over = context.Event(), context.Event()
    ours, theirs = context.Pipe(duplex=False)
    writer = context.Process(target=_write, args=(begun, over, theirs))
    writer.start()
    begun.wait()
    work()
    over.set()
    waits: list[float] = ours.recv()
    writer.join()
    waits.sort()
    at = [waits[min(len(waits) - 1, int(len(waits) * part))] * 1000 for part in (0.5, 0.99, 1.0)]
    return f"{len(waits):,} transactions, p50 {at[0]:.1f} ms, p99 {at[1]:.1f} ms, longest {at[2]:.0f} ms"


def _write(begun: Event, over: Event, told: Connection) -> None:
    """Small transactions, each as long as it takes from asking for the lock to its commit."""
    waits: list[float] = []
    Duty.objects.get_or_create(name="bench")
    begun.set()
    while not over.is_set() or not waits:
        began = time.monotonic()
        with transaction.atomic():
            Duty.objects.filter(name="bench").update(holder=str(len(waits)))
        waits.append(time.monotonic() - began)
        time.sleep(_EVERY)
    told.send(waits)


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
