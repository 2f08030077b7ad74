"""What `bench.lists` runs in a process of its own: a large log, and every list and figure over it, many times."""

import os
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
django.setup()

from django.db import connection, transaction  # noqa: E402 - models need Django to be set up
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from gateway import static_files  # noqa: E402
from keys.services import issue_key  # noqa: E402
from providers.model_services import create_model  # noqa: E402
from providers.services import create_provider  # noqa: E402
from tenants.actor import system_actor  # noqa: E402
from tenants.chores import Sweep  # noqa: E402
from tenants.clock import SYSTEM  # noqa: E402
from tenants.operator_services import create_operator  # noqa: E402
from tenants.project_services import create_project  # noqa: E402
from tenants.services import create_tenant  # noqa: E402
from usage.quarters import CLOSING  # noqa: E402

_TENANTS: Final = 50
_KEYS: Final = 400
_DAYS: Final = 90
_AT_ONCE: Final = 50_000
_GOAL_MS: Final = 150.0
_GOAL_QUERIES: Final = 6
_HOST: Final = "localhost"
ACTOR: Final = system_actor("bench")


@dataclass(frozen=True, slots=True)
class Figure:
    """Of one address: seconds of the middle one and of the slowest twentieth, and its queries."""

    name: str
    p50: float
    p95: float
    queries: int

    @property
    def is_met(self) -> bool:
        return self.p95 * 1000 <= _GOAL_MS and self.queries <= _GOAL_QUERIES


def main(rows: int, times: int, only: str) -> int:
    began = time.monotonic()
    tenant, key = _cast()
    for first in range(0, rows, _AT_ONCE):
        _calls(first, min(first + _AT_ONCE, rows), rows)
    _say(
        f"{rows:,} calls of {_KEYS} keys of {_TENANTS} tenants, in {time.monotonic() - began:.0f} s"
    )
    began = time.monotonic()
    sweep = Sweep(ACTOR)
    sweep.do(CLOSING, SYSTEM.now())
    left = CLOSING.count(SYSTEM.now())
    _say(
        f"{sweep.rows[CLOSING.name]} quarters of a day closed in {time.monotonic() - began:.0f} s, {left} left;"
        f" the longest writing took {1000 * sweep.longest:.0f} ms"
    )
    _say(f"{'':>2} {'p50 ms':>8} {'p95 ms':>8} {'queries':>8}")
    missed = 0
    for name, client, path in _addresses(tenant, key):
        if only in name:
            found = _measured(name, client, path, times)
            missed += not found.is_met
            mark = " " if found.is_met else "!"
            p50, p95 = found.p50 * 1000, found.p95 * 1000
            _say(f"{mark:>2} {p50:8.1f} {p95:8.1f} {found.queries:8}  {name}")
    _say(f"{missed} beyond {_GOAL_MS:.0f} ms or {_GOAL_QUERIES} queries")
    return 0


# --- what there is ------------------------------------------------------------------------------------------------------


def _cast() -> tuple[UUID, UUID]:
    """The ids of a tenant and of one of its keys. Every list of configuration has more than a page."""
    tenants = [
        create_tenant(actor=ACTOR, name=f"Tenant {n}", slug=f"t-{n}") for n in range(_TENANTS)
    ]
    keys = [
        issue_key(actor=ACTOR, tenant_id=tenants[n % _TENANTS].id, name=f"key {n}").key
        for n in range(_KEYS)
    ]
    provider = create_provider(actor=ACTOR, name="main", kind="demo")
    for n in range(60):
        create_project(actor=ACTOR, tenant_id=tenants[n % _TENANTS].id, name=f"project {n}")
        create_model(
            actor=ACTOR,
            id=f"model-{n}",
            capability="chat",
            targets=[{"provider": str(provider.id), "upstream_model": "echo"}],
            prices=[{"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}],
        )
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE cast_of (n INTEGER PRIMARY KEY, key_id, tenant_id, tenant)"
        )
        cursor.executemany(
            "INSERT INTO cast_of VALUES (%s, %s, %s, %s)",
            [(n, key.id.hex, key.tenant_id.hex, key.tenant.slug) for n, key in enumerate(keys)],
        )
    return tenants[0].id, keys[0].id


def _calls(first: int, end: int, rows: int) -> None:
    """By the database itself, with the columns as Django writes them: spread over ninety days up to now, one in twenty failed."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE n(i) AS (SELECT %s UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %s),"
            " at(i, moment) AS (SELECT i, strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-' || ((%s - i) * %s / %s) || ' seconds')"
            " FROM n)"
            " INSERT INTO usage_requestlog (month, request_id, tenant_id, tenant, project_id, project, account_id, account,"
            " key_id, key_prefix, team, correlation_id, created_at, kind, model, provider_id, provider, target, dialect_in,"
            " dialect_out, stream, status, error_code, dispatched, attempts, tokens_in, tokens_cached, tokens_out,"
            " tokens_reasoning, cost_nano_usd, usage_source, duration_us, ttfb_us, overhead_us, idempotent_replay, why,"
            " trace_id)"
            " SELECT substr(moment, 1, 7), printf('%%032x', i), c.tenant_id, c.tenant, printf('%%032x', 0), '',"
            " printf('%%032x', 0), '', c.key_id, 'gwk_abcdef', '', printf('%%032x', i), moment, 'model',"
            " 'model-' || (i * 7 %% 20), printf('%%032x', 1), 'main', 'echo', 'openai', 'openai', i %% 2,"
            " CASE WHEN i %% 20 = 3 THEN 502 ELSE 200 END, CASE WHEN i %% 20 = 3 THEN 'upstream_error' ELSE '' END, 'yes', 1,"
            " 10 + i %% 90, 0, 20 + i %% 70, 0, 12000, 'provider', 100000 + i %% 50000, 90000, 300 + i %% 99, 0, '', NULL"
            " FROM at JOIN cast_of c ON c.n = (i * 13) %% %s",
            [first, end, rows, _DAYS * 86_400, rows, _KEYS],
        )
        cursor.execute(
            "INSERT INTO usage_ledgerentry (month, request_id, tenant_id, tenant, project_id, project, account_id, account,"
            " key_id, key_prefix, team, line, created_at, day, model, model_id, provider_id, tokens_in, tokens_cached,"
            " tokens_out, tokens_reasoning, tokens_cache_write, images, audio_ms, cost_nano_usd, price_id, usage_source,"
            " dispatched, overrun, correction_id, reason, corrected_by)"
            " SELECT month, request_id, tenant_id, tenant, project_id, project, account_id, account, key_id, key_prefix, team,"
            " 1, created_at, substr(created_at, 1, 10), model, printf('%%032x', 0), provider_id, tokens_in, tokens_cached,"
            " tokens_out, tokens_reasoning, 0, 0, 0, cost_nano_usd, NULL, usage_source, 'yes', 0, printf('%%032x', 0), '', ''"
            " FROM usage_requestlog WHERE id > (SELECT max(id) - %s FROM usage_requestlog)",
            [end - first],
        )


# --- what is asked ------------------------------------------------------------------------------------------------------


_LISTS: Final = (
    *("tenants", "tenants?status=active", "tenants/{tenant}/api-keys", "tenants/{tenant}/members"),
    *("keys", "keys?active_only=true", "keys?tenant={tenant}", "projects", "users", "providers"),
    *("models", "stores", "operators", "sessions", "tokens", "invitations", "settings"),
    *("holds", "holds/slices", "config/revisions", "audit", "audit?action=key.issued"),
    *("audit?tenant={tenant}", "audit?outcome=refused"),
    *("logs", "logs?tenant={tenant}", "logs?key={key}", "logs?model=model-3", "logs?status=502"),
    *("logs?provider=main", "logs?until={old}", "logs?tenant={tenant}&status=502&model=model-3"),
    *("logs?model=nobody-has-it", "logs?status=418", "logs?provider=nobody-has-it"),
    *("logs?project={nobody}", "logs?account={nobody}", "logs?team=nobody-has-it"),
    *("keys/{key}/usage", "stats?window=24h", "stats?tenant={tenant}&window=7d", "stats"),
    *(
        f"analytics/{what}?window={window}"
        for what in ("summary", "timeseries", "models")
        for window in ("1h", "24h", "7d", "30d")
    ),
)
_PAGES: Final = (
    *("", "tenants/", "keys/", "models/", "providers/", "requests/", "audit/", "projects/"),
    *("accounts/", "requests/?tenant={tenant}", "requests/?status=502"),
)


def _addresses(tenant: UUID, key: UUID) -> Iterator[tuple[str, Client, str]]:
    """Each with who asks: an owner, by a token and by a cookie."""
    api, console = _signed_in()
    old = f"{SYSTEM.now() - timedelta(days=45):%Y-%m-%dT%H:%M:%SZ}"
    ids = {"tenant": str(tenant), "key": str(key), "nobody": str(UUID(int=9)), "old": old}
    told = ids | {"tenant": "…", "key": "…"}
    for path in _LISTS:
        yield path.format(**told), api, f"/v1/admin/{path.format(**ids)}"
    cursor = api.get(f"/v1/admin/logs?until={old}").json()["next_cursor"]
    yield "logs?cursor=…", api, f"/v1/admin/logs?cursor={cursor}"
    for path in _PAGES:
        yield f"console/{path.format(**told)}", console, f"/console/{path.format(**ids)}"


def _signed_in() -> tuple[Client, Client]:
    password = secrets.token_urlsafe(24)
    create_operator(actor=ACTOR, username="bench", password=password, role="owner")
    answer = Client(SERVER_NAME=_HOST).post(
        "/v1/admin/auth/login",
        {"username": "bench", "password": password},
        content_type="application/json",
    )
    api = Client(SERVER_NAME=_HOST, headers={"authorization": f"Bearer {answer.json()['token']}"})
    static_files.ensure_built()
    console = Client(SERVER_NAME=_HOST)
    sent: dict[str, Any] = {"username": "bench", "password": password}
    entered = console.post("/console/sign-in/", sent, headers={"origin": f"http://{_HOST}"})
    if entered.status_code != 302:
        raise SystemExit(f"The console lets nobody in: {entered.status_code}.")
    return api, console


def _measured(name: str, client: Client, path: str, times: int) -> Figure:
    with CaptureQueriesContext(connection):
        connection.queries_log.clear()
        answer = client.get(path)
        asked = sum("SAVEPOINT" not in query["sql"] for query in connection.queries)
    if answer.status_code != 200:
        raise SystemExit(f"{name}: {answer.status_code}")
    took = []
    for _ in range(times):
        began = time.perf_counter()
        client.get(path)
        took.append(time.perf_counter() - began)
    took.sort()
    return Figure(name, took[times // 2], took[min(times - 1, times * 95 // 100)], asked)


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
