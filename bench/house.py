"""An installation of Gatehouse of its own, in a folder that is thrown away: secrets, database, tenants, keys, one model.

Whatever a key's limits, what costs is on: a key that is checked, a price, holds, the journal, the ledger, the log.
It is set up once; each server that is measured gets a copy of the database and begins with empty books.
"""

import contextlib
import http.client
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psycopg

from bench.processes import BenchFailed, Process, cores_for, running
from bench.upstream import Upstream
from gateway.proofs.grounds import ROOT, Grounds, ProofFailed, free_port

START_SECONDS: Final = 60.0
BOOKS_SECONDS: Final = 120.0
_TEMPLATE: Final = "template"
_HOUSE: Final = "house"
#: Counted for every call and never reached: a burst as large as the limit, or a sixth of it could be gone in a second.
_RATES: Final = {
    "rate_limit_rpm": 1_000_000,
    "burst": 1_000_000,
    "rate_limit_tpm": 10**12,
    "max_concurrency": 100_000,
}
_BUDGETS: Final = {"cost_budget_usd": "1000000", "tokens_budget": 10**12}
#: What limits a key, and its tenant as much again.
LIMITS: Final[Mapping[str, dict[str, Any]]] = MappingProxyType(
    {"none": {}, "limits": {**_RATES}, "budget": {**_RATES, **_BUDGETS}}
)
_PRICE: Final = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
_OPERATOR: Final = "bench"


@dataclass
class House:
    """A server that is ready. `keys`, by what limits them (`LIMITS`), open its data plane."""

    port: int
    keys: dict[str, str]
    process: Process
    started_in: float
    database_url: str

    def wait_for_books(self, calls: int) -> None:
        """Until the log holds every call that was made, and not one more. Raises BenchFailed."""
        deadline = time.monotonic() + BOOKS_SECONDS
        while (rows := _count_rows(self.database_url)) != calls:
            self.process.check_alive()
            if rows > calls or time.monotonic() > deadline:
                raise BenchFailed(f"{calls} calls were made, and the log holds {rows}")
            time.sleep(0.02)


class Houses:
    """Gives servers, one at a time. `database` is `sqlite`, or the address of a PostgreSQL that lets us make databases."""

    def __init__(self, folder: Path, database: str, upstream: Upstream) -> None:
        self._grounds = Grounds(folder, database, "gatehouse_bench")
        self._upstream = upstream
        self._keys: dict[str, str] = {}

    @contextmanager
    def prepared(self) -> Iterator["Houses"]:
        """Migrate and furnish the database that all others are copies of. Raises BenchFailed."""
        try:
            template = self._grounds.fresh(_TEMPLATE)
            self._migrate(template)
            with self._serving(_TEMPLATE, template, 1, {}) as house:
                self._keys = _furnish(house, self._password_file(), self._upstream)
            yield self
        except ProofFailed as failure:
            raise BenchFailed(str(failure)) from failure
        finally:
            self._grounds.drop(_TEMPLATE)

    @contextmanager
    def serving(self, workers: int, env: dict[str, str]) -> Iterator[House]:
        """A server with empty books. Raises BenchFailed."""
        copy = self._grounds.fresh(_HOUSE, _TEMPLATE)
        try:
            with self._serving(_HOUSE, copy, workers, env) as house:
                yield house
        finally:
            self._grounds.drop(_HOUSE)

    @contextmanager
    def ground(self) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        """The environment of an installation with empty books that nobody serves, and its keys."""
        copy = self._grounds.fresh(_HOUSE, _TEMPLATE)
        try:
            yield self._grounds.environment(_HOUSE, copy), self._keys
        finally:
            self._grounds.drop(_HOUSE)

    # --- processes

    def _password_file(self) -> Path:
        return self._grounds.folder / _TEMPLATE / "password"

    def _migrate(self, database_url: str) -> None:
        self._password_file().write_text(secrets.token_urlsafe(24))
        operator = ("--username", _OPERATOR, "--password-file", str(self._password_file()))
        for arguments in (("migrate", "--no-input"), ("operator", "create", *operator)):
            done = subprocess.run(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env=self._grounds.environment(_TEMPLATE, database_url),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise BenchFailed(f"manage.py {arguments[0]}:\n{done.stdout}{done.stderr}")

    @contextmanager
    def _serving(
        self, place: str, database_url: str, workers: int, env: dict[str, str]
    ) -> Iterator[House]:
        port = free_port()
        command = [sys.executable, "manage.py", "serve", "--workers", str(workers)]
        started = time.monotonic()
        with running(
            [*command, "--bind", f"127.0.0.1:{port}"],
            cores_for(workers).server,
            self._grounds.folder / place / "server.log",
            self._grounds.environment(place, database_url) | self._upstream.trust | env,
        ) as process:
            _wait_ready(process, port)
            yield House(port, self._keys, process, time.monotonic() - started, database_url)
        if database_url.startswith("sqlite"):
            _fold_wal(database_url)


def _wait_ready(process: Process, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        process.check_alive()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        connection.close()
        time.sleep(0.01)
    raise BenchFailed(f"Gatehouse was not ready within {START_SECONDS:.0f} s")


def _furnish(house: House, password_file: Path, upstream: Upstream) -> dict[str, str]:
    """A provider, a model, and a tenant with a key for each of `LIMITS`, made by the admin API; the keys."""
    with httpx.Client(
        base_url=f"http://127.0.0.1:{house.port}/v1/admin/", trust_env=False, timeout=30
    ) as client:

        def post(path: str, **body: Any) -> Any:
            answer = client.post(path, json=body)
            if not answer.is_success:
                raise BenchFailed(f"{path}: {answer.status_code} {answer.text}")
            return answer.json()

        def key(name: str, limits: dict[str, Any]) -> str:
            tenant = post("tenants", name=name, slug=name, **{"rate_limit_rpm": None, **limits})
            return str(post(f"tenants/{tenant['id']}/api-keys", name=name, **limits)["key"])

        login = post("auth/login", username=_OPERATOR, password=password_file.read_text())
        client.headers["authorization"] = f"Bearer {login['token']}"
        provider = post(
            "providers",
            name="bench",
            kind="openai-compatible",
            base_url=upstream.base_url,
            api_key=f"sk-{secrets.token_hex(16)}",
        )
        target = {"provider": provider["id"], "upstream_model": "bench-upstream"}
        post("models", id="bench", targets=[target], prices=[_PRICE])
        return {name: key(name, limits) for name, limits in LIMITS.items()}


def _count_rows(database_url: str) -> int:
    statement = "SELECT COUNT(*) FROM usage_requestlog"
    if not database_url.startswith("sqlite"):
        with psycopg.connect(database_url) as server:
            [(rows,)] = server.execute(statement).fetchall()
            return int(rows)
    path = urlsplit(database_url).path[1:]
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as file:
        return int(file.execute(statement).fetchone()[0])


def _fold_wal(database_url: str) -> None:
    """Bring everything into the one file, so that copying that file copies everything."""
    with contextlib.closing(sqlite3.connect(urlsplit(database_url).path[1:])) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
