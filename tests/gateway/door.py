"""The public door with everything behind it: a real server, the oracle as its upstream, a tenant with a key; and looks inside.

Public names under `oracle/` reach the oracle under what follows (`oracle/status:429` → `status:429`) and have a price, those
under `free/` have none, those under `embed/` are for embeddings. `PROMPT` is worth exactly `PROMPT_TOKENS` there.
"""

import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx

from tests.support import environment
from tests.support.addresses import new_address
from tests.support.oracle import Call, Oracle
from tests.support.server import Server, Yard

PROMPT = [{"role": "user", "content": "say something to me"}]
PROMPT_TOKENS = 4
PRICE = {
    "input_usd_per_mtok": "1",
    "output_usd_per_mtok": "2",
    "cached_input_usd_per_mtok": "0.5",
    "reasoning_usd_per_mtok": "3",
}
#: Seconds in which a change must be seen: none at all on SQLite.
SEEN_WITHIN = 1.0
SETTLED_WITHIN = 10.0

T = TypeVar("T")
Json = dict[str, Any]

_LOG = [
    "correlation_id",
    "request_id",
    "month",
    "tenant",
    "key_prefix",
    "model",
    "provider",
    "target",
    "dialect_in",
    "dialect_out",
    "stream",
    "status",
    "error_code",
    "dispatched",
    "attempts",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "tokens_reasoning",
    "cost_nano_usd",
    "usage_source",
    "duration_us",
    "ttfb_us",
    "overhead_us",
]
_ENTRY = [
    "line",
    "model",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "tokens_reasoning",
    "cost_nano_usd",
    "price_id",
    "usage_source",
    "dispatched",
]
_ATTEMPT = [
    "n",
    "provider",
    "target",
    "outcome",
    "status",
    "duration_us",
    "ttfb_us",
    "credential_id",
    "price_id",
]


@dataclass(frozen=True)
class Tenant:
    id: str
    slug: str


@dataclass(frozen=True)
class Key:
    id: str
    prefix: str
    secret: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"}


class Admin:
    """The admin API over HTTP, signed in as the first operator. Whatever is no success is an AssertionError with its text."""

    def __init__(self, server: Server, password: str) -> None:
        self._client = httpx.Client(
            base_url=f"{server.url}/v1/admin/", trust_env=False, timeout=30.0
        )
        credentials = {"username": Server.operator, "password": password}
        self.token = self._signed_in(credentials)
        self._client.headers["authorization"] = f"Bearer {self.token}"

    def _signed_in(self, credentials: Json) -> str:
        """From an address of its own: of so many sign-ins from one, the sixth in a minute is refused."""
        way = httpx.HTTPTransport(local_address=new_address())
        with httpx.Client(base_url=self._client.base_url, transport=way, timeout=30.0) as client:
            answer = client.post("auth/login", json=credentials)
        assert answer.is_success, answer.text
        return str(answer.json()["token"])

    def call(self, method: str, path: str, body: Json | None = None) -> Any:
        answer = self._client.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def detail(self) -> Json:
        answer = self._client.get(self._client.base_url.join("/health/detail"))
        return dict(answer.json())

    def close(self) -> None:
        self._client.close()


@dataclass
class Door:
    """What `opened` gives. Answers are httpx's, unread streams aside; ids that callers send are fresh ones of 32 characters."""

    server: Server
    oracle: Oracle
    admin: Admin
    tenant: Tenant
    key: Key
    provider_id: str
    upstream_key: str
    client: httpx.Client = field(repr=False)

    # --- the cast

    def new_tenant(self, slug: str = "", **fields: Any) -> Tenant:
        """A tenant without a limit on requests."""
        slug = slug or f"t-{secrets.token_hex(6)}"
        fields = {"name": slug, "slug": slug, "rate_limit_rpm": None, **fields}
        return Tenant(self.admin.call("POST", "tenants", fields)["id"], slug)

    def new_key(self, tenant: Tenant | None = None, **fields: Any) -> Key:
        owner = tenant or self.tenant
        body = {"name": "k", **fields}
        made = self.admin.call("POST", f"tenants/{owner.id}/api-keys", body)
        return Key(made["id"], made["key_prefix"], made["key"])

    def new_provider(self, base_url: str, api_key: str | None, **fields: Any) -> str:
        """The id of an OpenAI-compatible provider. Calls know of it when a model of it is known."""
        name = f"p-{secrets.token_hex(6)}"
        body = {"name": name, "kind": "openai-compatible", "base_url": base_url, **fields}
        return str(self.admin.call("POST", "providers", {**body, "api_key": api_key})["id"])

    def new_model(self, name: str, provider_id: str, upstream_model: str, **fields: Any) -> str:
        target = {"provider": provider_id, "upstream_model": upstream_model}
        self.change("POST", "models", {"id": name, "targets": [target], **fields})
        return name

    def change(self, method: str, path: str, body: Json | None = None) -> Any:
        """An admin call, and as much patience as the contract allows before it must be seen."""
        answer = self.admin.call(method, path, body)
        self.wait_seen()
        return answer

    def wait_seen(self) -> None:
        """On PostgreSQL until every change so far is seen, which must be within its second. On SQLite it is seen already."""
        if self.on_sqlite:
            return
        [(newest,)] = self.server.query("SELECT max(seq) FROM tenants_configchange")
        eventually(lambda: self._epoch() >= newest, SEEN_WITHIN)

    def _epoch(self) -> int:
        return int(self.admin.detail()["reports"]["relay"]["snapshot_epoch"])

    @property
    def on_sqlite(self) -> bool:
        return self.server.database_url.startswith("sqlite")

    # --- calls

    def post(
        self,
        path: str,
        body: Json | bytes,
        *,
        key: Key | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """`body` is sent as it is if it is bytes. `headers` replace ours of the same name."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**(key or self.key).bearer, "content-type": "application/json"}
        sent |= {"x-request-id": uuid4().hex, **(headers or {})}
        return self.client.post(path, content=content, headers=sent)

    def chat(self, model: str, *, key: Key | None = None, **body: Any) -> httpx.Response:
        """A chat completion of `PROMPT` unless other messages are given."""
        whole = {"model": model, "messages": PROMPT, **body}
        return self.post("/v1/chat/completions", whole, key=key)

    def upstream_call(self, answer: httpx.Response) -> Call:
        """What the oracle received for this answer, which came at the first try."""
        return self.oracle.call(f"{self.row(answer)['request_id']}-1")

    # --- looks inside

    def row(self, answer: httpx.Response | str) -> Json:
        """The log row of an answer, by its request id. Waits for it. UUIDs are given as 32 hex digits."""
        correlation_id = answer if isinstance(answer, str) else answer.headers["x-request-id"]
        return eventually(lambda: self._rows("usage_requestlog", _LOG, correlation_id))[0]

    def has_row(self, correlation_id: str) -> bool:
        return bool(self._rows("usage_requestlog", _LOG, correlation_id))

    def entries(self, answer: httpx.Response | str) -> list[Json]:
        """The ledger's lines of a call that is in the log."""
        return self._joined("usage_ledgerentry", _ENTRY, self.row(answer))

    def attempts(self, answer: httpx.Response | str) -> list[Json]:
        return self._joined("usage_attempt", _ATTEMPT, self.row(answer))

    def _joined(self, table: str, columns: list[str], row: Json) -> list[Json]:
        chosen = ", ".join(f"t.{column}" for column in columns)
        found = self.server.query(
            f"SELECT {chosen} FROM {table} t JOIN usage_requestlog l ON l.request_id = t.request_id AND l.month = t.month"
            f" WHERE l.correlation_id = %s ORDER BY t.{columns[0]}",
            [row["correlation_id"]],
        )
        return [_named(columns, values) for values in found]

    def _rows(self, table: str, columns: list[str], correlation_id: str) -> list[Json]:
        found = self.server.query(
            f"SELECT {', '.join(columns)} FROM {table} WHERE correlation_id = %s", [correlation_id]
        )
        return [_named(columns, values) for values in found]

    def count(self, table: str) -> int:
        return int(self.server.query(f"SELECT COUNT(*) FROM {table}")[0][0])

    def assert_nothing_left(self) -> None:
        """No call runs, no seat is taken, no hold is open, and the oracle waits for nobody."""
        eventually(lambda: self._running() == 0)
        eventually(lambda: self.count("usage_hold") == 0)
        assert all(call.finished.wait(1.0) for call in self.oracle.calls)

    def _running(self) -> int:
        return int(self.admin.detail()["reports"]["relay"]["calls_running"])

    def connect(self) -> socket.socket:
        """A bare connection to the server."""
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=20.0)


@contextmanager
def opened(
    yard: Yard, folder: Path, env: dict[str, str] | None = None, workers: int = 1
) -> Iterator[Door]:
    """A server with its oracle and the standard cast. At the end it is stopped, and what it leaves behind fails the test."""
    with (
        Oracle() as oracle,
        yard.server(
            folder, kind=environment.database(), redis=None, env=env or {}, seed=True
        ) as server,
    ):
        server.start(workers)
        admin = Admin(server, yard.operator_password)
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30.0) as client:
            yield _furnished(server, oracle, admin, client)
        admin.close()
        server.finish()


def _furnished(server: Server, oracle: Oracle, admin: Admin, client: httpx.Client) -> Door:
    upstream_key = f"sk-oracle-{secrets.token_hex(16)}"
    nobody = Tenant("", "")
    door = Door(server, oracle, admin, nobody, Key("", "", ""), "", upstream_key, client)
    door.tenant = door.new_tenant("acme")
    door.key = door.new_key()
    door.provider_id = door.new_provider(oracle.api, upstream_key, name="oracle")
    target = {"provider": door.provider_id, "upstream_model": "*"}
    for name, fields in (
        ("oracle/*", {"prices": [PRICE]}),
        ("free/*", {}),
        ("embed/*", {"prices": [PRICE], "capability": "embedding"}),
    ):
        admin.call("POST", "models", {"id": name, "targets": [target], **fields})
    door.wait_seen()
    return door


def eventually(look: Callable[[], T], within: float = SETTLED_WITHIN) -> T:
    """What `look` gives once it is true. Raises AssertionError."""
    deadline = time.monotonic() + within
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {within} s: {seen!r}"
        time.sleep(0.02)
    return seen


def _named(columns: list[str], values: tuple[Any, ...]) -> Json:
    return {
        name: value.hex if isinstance(value, UUID) else value
        for name, value in zip(columns, values, strict=True)
    }


def error_of(answer: httpx.Response) -> Json:
    """The error in OpenAI's shape, complete and with nothing beside it."""
    body = answer.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"message", "type", "param", "code"}, body
    return dict(body["error"])


@contextmanager
def nothing_sent(door: Door) -> Iterator[None]:
    """No upstream hears of what happens in here, nothing stays open, and no refused call has a line in the books."""
    calls = len(door.oracle.calls)
    yield
    door.assert_nothing_left()
    assert len(door.oracle.calls) == calls
    for table in ("usage_ledgerentry", "usage_attempt"):
        strays = door.server.query(
            f"SELECT COUNT(*) FROM {table} t JOIN usage_requestlog l ON l.request_id = t.request_id"
            " WHERE l.dispatched = 'no'"
        )
        assert strays == [(0,)]


def refused(door: Door, answer: httpx.Response, status: int, code: str) -> Json:
    """The error of a refusal, whose log row is there and says that nothing was sent."""
    assert answer.status_code == status, answer.text
    error = error_of(answer)
    assert error["code"] == code
    assert error["message"].endswith((".", "…`."))
    assert answer.headers["content-type"] == "application/json"
    row = door.row(answer)
    assert (row["status"], row["error_code"], row["dispatched"]) == (status, code, "no")
    assert (row["attempts"], row["cost_nano_usd"], row["usage_source"]) == (0, 0, "none")
    return error
