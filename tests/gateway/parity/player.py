"""Sends the corpus to one server and writes down what came of it, without what two servers cannot have in common."""

import json
import re
import socket
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any
from uuid import uuid4

from keys import tokens
from tests.gateway.door import PRICE, Door, Json, eventually, opened
from tests.gateway.parity.corpus import MAX_BODY, Case
from tests.support.server import Yard

#: Long enough for a busy machine not to pass them by accident: several cases wait for one of these to end.
ENV = {
    "GATEHOUSE_TIMEOUT_FIRST_BYTE": "2.5",
    "GATEHOUSE_TIMEOUT_BETWEEN_CHUNKS": "2.5",
    "GATEHOUSE_TIMEOUT_BODY_IDLE": "2.5",
    "GATEHOUSE_MAX_BODY": str(MAX_BODY),
}
#: What an answer's head is compared by. The server's own name and the date are not ours to promise.
HEADERS = (
    *(
        "content-type",
        "content-length",
        "transfer-encoding",
        "content-encoding",
        "connection",
        "allow",
    ),
    *(
        "cache-control",
        "vary",
        "location",
        "set-cookie",
        "www-authenticate",
        "retry-after",
        "x-should-retry",
    ),
    *("x-request-id", "request-id", "x-upstream-request-id", "x-injected", "openai-processing-ms"),
    *(f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")),
    *(
        f"x-gatehouse-{what}"
        for what in ("provider", "target", "attempts", "cost-usd", "upstream-status", "overhead-ms")
    ),
)
_AT_ONCE = 6
_PATIENCE = 30.0
_SERIAL = re.compile(rb"(oracle|demo-)\d+")
_MADE_AT = re.compile(rb'"created": ?\d+')
_BOOKS = {
    "usage_requestlog": (
        *(
            "tenant",
            "model",
            "provider",
            "target",
            "dialect_in",
            "dialect_out",
            "stream",
            "status",
            "error_code",
        ),
        *(
            "dispatched",
            "attempts",
            "tokens_in",
            "tokens_cached",
            "tokens_out",
            "tokens_reasoning",
            "cost_nano_usd",
        ),
        *("usage_source", "ttfb_us", "overhead_us"),
    ),
    "usage_ledgerentry": (
        *(
            "line",
            "model",
            "tokens_in",
            "tokens_cached",
            "tokens_out",
            "tokens_reasoning",
            "cost_nano_usd",
        ),
        *("price_id", "usage_source", "dispatched"),
    ),
    "usage_attempt": (
        "n",
        "provider",
        "target",
        "dialect_out",
        "outcome",
        "status",
        "credential_id",
        "price_id",
    ),
}
#: Whether there is one, and not which: names of things in one database, and times.
_ONLY_WHETHER = {"ttfb_us", "overhead_us", "price_id", "credential_id"}


@dataclass
class Outcome:
    """What one exchange came to. A caller who left has neither status nor head; `rows` are the books, by table."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = True
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    upstream: list[tuple[str, str, bytes]] = field(default_factory=list)


def play(
    yard: Yard, folder: Path, mode: Mapping[str, str], cases: list[Case]
) -> dict[str, Outcome]:
    """The outcomes by the names of the cases, from a server of its own in that mode."""
    with opened(yard, folder, {**ENV, **mode}) as door:
        player = _Player(door)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            played = dict(
                zip([case.name for case in cases], pool.map(player.play, cases), strict=True)
            )
        player.add_books(played)
        door.assert_nothing_left()
        return {name: outcome for name, (_, outcome) in played.items()}


class _Player:
    def __init__(self, door: Door) -> None:
        self._door = door
        self._secrets = _cast(door)

    def play(self, case: Case) -> tuple[str, Outcome]:
        """The id that the call is in the books by, and what it came to."""
        for _ in range(case.times - 1):
            self._send(case)
        return self._send(case)

    def _send(self, case: Case) -> tuple[str, Outcome]:
        connection = HTTPConnection("127.0.0.1", self._door.server.port, timeout=_PATIENCE)
        own = uuid4().hex
        try:
            self._ask(connection, case, own)
            if case.leave is not None:
                self._leave(connection, case)
                return own, Outcome()
            return _read(connection, case, own)
        finally:
            connection.close()

    def _ask(self, connection: HTTPConnection, case: Case, own: str) -> None:
        content = case.content
        connection.putrequest(case.method, case.path, skip_accept_encoding=True)
        for name, value in case.headers:
            connection.putheader(name, value.format_map(self._secrets) if "{" in value else value)
        if not any(name == "x-request-id" for name, _ in case.headers):
            connection.putheader("x-request-id", own)
        if case.is_chunked:
            connection.putheader("transfer-encoding", "chunked")
        elif content is not None:
            length = len(content) if case.announced is None else case.announced
            connection.putheader("content-length", str(length))
        pieces = [content[n : n + 65536] for n in range(0, len(content), 65536)] if content else []
        connection.endheaders(pieces or None, encode_chunked=case.is_chunked)

    def _leave(self, connection: HTTPConnection, case: Case) -> None:
        if case.leave == "asked":
            model = _model_of(case)
            eventually(lambda: any(call.model == model for call in self._door.oracle.made()))
        elif isinstance(case.leave, int):
            seen = b""
            while seen.count(b"data: ") < case.leave or not seen.endswith(b"\n\n\r\n"):
                piece = connection.sock.recv(4096)
                assert piece, seen
                seen += piece

    # --- the books

    def add_books(self, played: dict[str, tuple[str, Outcome]]) -> None:
        """What the tables say of each call, and what its upstream was sent."""
        # Calls are moved to the tables in their order: once this one is there, all are.
        self._door.assert_nothing_left()
        self._door.row(self._door.chat("oracle/ok"))
        by_id = dict(played.values())
        for table, columns in _BOOKS.items():
            for own, row in self._rows(table, columns):
                if own in by_id:
                    by_id[own].rows.setdefault(table, []).append(row)
        names = dict(
            self._door.server.query("SELECT request_id, correlation_id FROM usage_requestlog")
        )
        owners = {str(request_id).replace("-", ""): own for request_id, own in names.items()}
        for call in self._door.oracle.made():
            own = owners.get((call.attempt_id or "").partition("-")[0], "")
            if own in by_id:
                by_id[own].upstream.append((call.method, call.path, call.body))

    def _rows(self, table: str, columns: tuple[str, ...]) -> list[tuple[str, tuple[Any, ...]]]:
        chosen = ", ".join(f"t.{column}" for column in columns)
        found = self._door.server.query(
            f"SELECT l.correlation_id, {chosen} FROM {table} t JOIN usage_requestlog l"
            f" ON l.request_id = t.request_id AND l.month = t.month ORDER BY l.created_at, t.id"
        )
        return [
            (own, tuple(_comparable(name, value) for name, value in zip(columns, row, strict=True)))
            for own, *row in found
        ]


def _comparable(column: str, value: Any) -> Any:
    return value is not None if column in _ONLY_WHETHER else value


def _model_of(case: Case) -> str:

    return str(json.loads(case.content or b"{}")["model"]).partition("/")[2]


def _read(connection: HTTPConnection, case: Case, own: str) -> tuple[str, Outcome]:
    answer: HTTPResponse = connection.getresponse()
    try:
        body, is_whole = answer.read(), True
    except IncompleteRead as cut:
        body, is_whole = cut.partial, False
    found: dict[str, list[str]] = defaultdict(list)
    for name, value in answer.getheaders():
        found[name.lower()].append(value)
    given = found.get("x-request-id", [""])[0]
    headers = {name: _header(name, found[name], body, own) for name in HEADERS if name in found}
    return given, Outcome(answer.status, headers, _steady(body), is_whole)


def _steady(body: bytes) -> bytes:
    """A body without what is another each time. A lease that was long in coming counts for longer, so a minute may be 61 s."""
    body = _MADE_AT.sub(b"", _SERIAL.sub(rb"\1", body))
    return re.sub(rb"again in 6[01] s", b"again in a minute", body)


def _header(name: str, values: list[str], body: bytes, own: str) -> str:
    """Its value, or what can be said of it if that is another each time."""
    value = " and ".join(values)
    if name in {"x-request-id", "request-id"}:
        return "ours" if value == own else f"{len(value)} made" if len(value) == 32 else value
    if name == "content-length" and value == str(len(body)):
        return "right"
    if name == "x-upstream-request-id":
        return _SERIAL.sub(rb"\1", value.encode()).decode()
    if name == "retry-after" and value in {"60", "61"}:
        return "a minute"
    if name in {"x-gatehouse-overhead-ms", "x-ratelimit-reset-requests"}:
        return "there"
    return value


# --- the cast ---------------------------------------------------------------------------------------------------------


def _cast(door: Door) -> Mapping[str, str]:
    """Every secret that a case may name."""
    fields: dict[str, Json] = {
        "narrow-oracle": {"allowed_models": ["oracle/ok"]},
        "narrow-free": {"allowed_models": ["free/*"]},
        "without scope": {"scopes": ["usage"]},
        "inference only": {"scopes": ["inference"]},
        "elsewhere": {"allowed_addresses": ["203.0.113.0/24"]},
        "embedding only": {"allowed_capabilities": ["embedding"]},
        "one a minute": {"rate_limit_rpm": 1},
        "one a minute, too": {"rate_limit_rpm": 1},
        "paused": {},
        "revoked": {},
    }
    keys = {name: door.new_key(**given) for name, given in fields.items()}
    door.admin.call("PATCH", f"keys/{keys['paused'].id}", {"is_active": False})
    door.admin.call("POST", f"keys/{keys['revoked'].id}/revoke", {})
    _models(door)
    return {
        "main": door.key.secret,
        "operator": door.admin.token,
        "unknown": tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode(),
        "master key": tokens.generate(tokens.Kind.MASTER_KEY).reveal().decode(),
        "service token": tokens.generate(tokens.Kind.SERVICE_TOKEN).reveal().decode(),
        **{name: key.secret for name, key in keys.items()},
    }


def _models(door: Door) -> None:
    """A demo, a provider where nobody listens, and one who comes after it."""
    demo = door.admin.call("POST", "providers", {"name": "demo", "kind": "demo"})["id"]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    nobody = door.new_provider(f"http://127.0.0.1:{port}/v1", None, name="nobody")
    for name in ("echo", "cut", "fail-503"):
        door.new_model(f"demo/{name}", demo, name, prices=[PRICE])
    door.new_model("nobody", nobody, "ok")
    targets = [
        {"provider": nobody, "upstream_model": "ok", "priority": 0},
        {"provider": door.provider_id, "upstream_model": "ok", "priority": 1},
    ]
    door.change("POST", "models", {"id": "second", "targets": targets, "prices": [PRICE]})
