"""A running server set up for a story: signed in, the oracle as its provider, models that pass scripts through, keys."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.support import environment
from tests.support.environment import ROOT
from tests.support.oracle import Oracle
from tests.support.server import Server, Yard
from tests.support.services import RedisSpace

#: Nano-USD per token of the prices that `Stage` sets.
INPUT_NANO = 1_000
OUTPUT_NANO = 2_000
_PRICE = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
_LOCAL = "0100007F"
#: Seconds for the oracle to end.
_LAST_WORDS = 60
#: Reading the system's authorities for every client would take longer than most of the calls.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Key:
    """`id` and the one sight of its credential."""

    id: str
    credential: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.credential}"}


class Stage:
    """The admin API of a running server, as its operator."""

    def __init__(self, server: Server, password: str) -> None:
        self.server = server
        self.http = client(server)
        self.http.base_url = f"{server.url}/v1/admin/"
        signed_in = self.post("auth/login", username=server.operator, password=password)
        self.http.headers["authorization"] = f"Bearer {signed_in['token']}"
        self.tenant_id = self.get("tenants")["data"][0]["id"]

    def get(self, path: str) -> Any:
        return self._checked(self.http.get(path))

    def post(self, path: str, **fields: Any) -> Any:
        return self._checked(self.http.post(path, json=fields))

    def patch(self, path: str, **fields: Any) -> Any:
        return self._checked(self.http.patch(path, json=fields))

    @staticmethod
    def _checked(answer: httpx.Response) -> Any:
        assert answer.is_success, f"{answer.request.url}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def add_oracle(self, api: str) -> None:
        """`up/<script>` is answered by the oracle at `api` as scripted, `emb/<script>` are embeddings; no limit throttles."""
        self.patch(f"tenants/{self.tenant_id}", rate_limit_rpm=None)
        self.post(
            "providers", name="oracle", kind="openai-compatible", base_url=api, api_key="sk-o"
        )
        for name, capability in (("up/*", "chat"), ("emb/*", "embedding")):
            self.add_model(name, ["*"], capability)

    def add_model(
        self,
        name: str,
        upstream_models: list[str],
        capability: str = "chat",
        provider: str = "oracle",
    ) -> None:
        """A priced model that the oracle serves under these names, tried in this order."""
        targets = [
            {"provider": provider, "upstream_model": model, "priority": place}
            for place, model in enumerate(upstream_models)
        ]
        self.post("models", id=name, capability=capability, targets=targets, prices=[_PRICE])

    def tenant(self, name: str) -> str:
        """A new tenant without limits; its id."""
        return str(self.post("tenants", name=name, rate_limit_rpm=None)["id"])

    def account(self, name: str, amount_usd: str) -> str:
        """A new account with so much on it; its id."""
        made = self.post("users", tenant=self.tenant_id, username=name)
        self.post(f"users/{made['id']}/top-up", amount_usd=amount_usd)
        return str(made["id"])

    def key(self, tenant_id: str | None = None, **fields: Any) -> Key:
        made = self.post(
            f"tenants/{tenant_id or self.tenant_id}/api-keys", **{"name": "story", **fields}
        )
        return Key(made["id"], made["key"])

    def revoke(self, key: Key) -> None:
        self.post(f"keys/{key.id}/revoke")

    def rotate(self, key: Key, grace: int = 0) -> Key:
        made = self.post(f"keys/{key.id}/rotate", grace_period_seconds=grace)
        return Key(made["id"], made["key"])


@dataclass
class House:
    """A running gateway with the oracle behind it."""

    server: Server
    stage: Stage
    oracle: Oracle


@contextmanager
def opened(
    yard: Yard,
    folder: Path,
    *,
    workers: int = 2,
    env: dict[str, str] | None = None,
    redis: RedisSpace | None = None,
    database_port: int | None = None,
) -> Iterator[House]:
    """A gateway on the database of this run; what it leaves behind at its end is a failure.

    With `database_port` it reaches that database through this port of 127.0.0.1.
    """
    installation = yard.server(
        folder, kind=environment.database(), redis=redis, env=env or {}, seed=True
    )
    with Oracle() as oracle, installation as server:
        if database_port is not None:
            where = urlsplit(server.database_url)
            near = f"{where.username}@127.0.0.1:{database_port}"
            server.env["DATABASE_URL"] = where._replace(netloc=near).geturl()
        server.start(workers)
        stage = Stage(server, yard.operator_password)
        stage.add_oracle(oracle.api)
        yield House(server, stage, oracle)
        server.finish()


def chat(model: str, **more: Any) -> dict[str, Any]:
    """The body of a small call."""
    return {"model": model, "messages": [{"role": "user", "content": "who is at the gate"}], **more}


@contextmanager
def oracle_process(log: Path) -> Iterator[str]:
    """The oracle as a process of its own; its API address. It outlives whatever happens to the gateway."""
    command = [sys.executable, "-m", "tests.support.oracle", "--log", str(log)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.terminate()
        process.wait(_LAST_WORDS)  # it has every call of hours in memory, and lets go of each
        process.stdout.close()


# --- which worker has which connection (Linux) ------------------------------------------------------------------------


def worker_of(server: Server, client_port: int) -> int | None:
    """The worker that has accepted the connection from this local port; None while it waits in the kernel's queue."""
    inode = _server_side(server.port, client_port)
    for pid in server.worker_pids():
        if inode is not None and f"socket:[{inode}]" in _descriptors(pid):
            return pid
    return None


def _server_side(server_port: int, client_port: int) -> str | None:
    """The inode of the accepted socket (Linux: /proc/net/tcp, columns 1, 2 and 9)."""
    wanted = (f"{_LOCAL}:{server_port:04X}", f"{_LOCAL}:{client_port:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if (columns[1], columns[2]) == wanted:
            return columns[9]
    return None


def _descriptors(pid: int) -> set[str]:
    found = set()
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found.add(str(link.readlink()))
            except FileNotFoundError:
                continue
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return set()
    return found


def client(server: Server) -> httpx.Client:
    """It keeps exactly one connection, so that all its calls meet the same worker."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=60)
    return httpx.Client(
        base_url=server.url, limits=limits, timeout=30, trust_env=False, verify=_NO_TLS
    )


def port_of(answer: httpx.Response) -> int:
    """The local port of the connection that an answer came on."""
    return int(answer.extensions["network_stream"].get_extra_info("client_addr")[1])


@contextmanager
def wires(server: Server, key: Key) -> Iterator[list[httpx.Client]]:
    """One kept connection to every worker, warmed up with `key`."""
    found: dict[int, httpx.Client] = {}
    spare: list[httpx.Client] = []
    try:
        while len(found) < server.workers:
            assert len(spare) < 200, f"only the workers {list(found)} accept connections"
            one = client(server)
            spare.append(one)
            with one.stream("GET", "/v1/models", headers=key.headers) as answer:
                port = port_of(answer)
                answer.read()
            assert answer.status_code == 200, answer.text
            worker = worker_of(server, port)
            if worker is not None:
                found.setdefault(worker, one)
        yield list(found.values())
    finally:
        for one in spare:
            one.close()


def is_sqlite(server: Server) -> bool:
    return urlsplit(server.database_url).scheme == "sqlite"
