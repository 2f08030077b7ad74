"""Houses to move between: a furnished one that serves and has history, and empty ones, just migrated."""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.gateway.door import PRICE, PROMPT, Door, Key, Tenant, eventually, opened
from tests.support import environment, services
from tests.support.server import Server, Yard

Row = dict[str, Any]


@dataclass
class Backed:
    """A house with something in every table, and the backup of it with its logs."""

    door: Door
    tenant: Tenant
    key: Key
    paused: Key
    account: str
    file: Path
    prompt: str


def rows_of(file: Path) -> dict[str, list[Row]]:
    """The rows of a backup by table, in an order of their own."""
    found: dict[str, list[Row]] = {}
    for text in file.read_text().splitlines():
        line = json.loads(text)
        if "row" in line:
            found.setdefault(line["table"], []).append(line["row"])
    return {
        table: sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
        for table, rows in found.items()
    }


def exported(server: Server, file: Path, *options: str) -> Path:
    server.run("backup", "export", "--output", str(file), *options)
    return file


@pytest.fixture(scope="module")
def backed(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    folder = tmp_path_factory.mktemp("backed")
    with opened(yard, folder) as door:
        tenant = door.new_tenant("moving", content_logging=True, cost_budget_usd="100")
        place = {"tenant": tenant.id}
        account = door.admin.call("POST", "users", {**place, "username": "payer"})["id"]
        project = door.admin.call("POST", "projects", {**place, "name": "Röntgen"})["id"]
        door.admin.call("POST", f"users/{account}/top-up", {"amount_usd": "12.500000001"})
        fields = {"account": account, "project": project, "log_content": True}
        key = door.new_key(tenant, cost_budget_day_usd="3", **fields)
        paused = door.new_key(tenant, name="paused", team="night")
        door.change("PATCH", f"keys/{paused.id}", {"is_active": False})
        own = {
            "provider": "openai-compatible",
            "base_url": door.oracle.api,
            "api_key": "sk-of-its-own",
        }
        door.change("PUT", f"tenants/{tenant.id}/provider-config", own)
        providers = door.admin.call("GET", "providers")["data"]
        [provider] = [each["id"] for each in providers if each["tenant"] == tenant.id]
        target = {"provider": provider, "upstream_model": "ok"}
        model = {"id": "of-its-own", **place, "targets": [target], "prices": [PRICE]}
        door.change("POST", "models", model)
        prompt = f"prompt {secrets.token_hex(16)}"
        for stream in (False, True):
            body = {"messages": [{**PROMPT[0], "content": prompt}], "stream": stream}
            door.row(door.chat("oracle/ok", key=key, **body))
        door.assert_nothing_left()
        eventually(lambda: door.count("usage_requestcontent") == 2)
        eventually(lambda: _all_given_back(door))
        file = exported(door.server, folder / "whole.jsonl", "--with-logs")
        yield Backed(door, tenant, key, paused, account, file, prompt)


def _all_given_back(door: Door) -> bool:
    return bool(door.server.query("SELECT SUM(held) FROM usage_balance")[0][0] == 0)


Empty = Callable[..., Server]


@pytest.fixture(scope="session")
def blank(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The address of a database that was migrated and nothing else, made once for each kind."""
    made: dict[str, str] = {}
    with ExitStack() as kept:

        def of(kind: str) -> str:
            if kind not in made:
                folder = tmp_path_factory.mktemp(f"blank-{kind}")
                server = kept.enter_context(
                    yard.server(folder, kind=kind, redis=None, env={}, seed=False)
                )
                server.run("migrate", "--no-input")
                made[kind] = server.database_url
            return made[kind]

        yield of


@pytest.fixture
def empty(yard: Yard, blank: Callable[[str], str], tmp_path: Path) -> Iterator[Empty]:
    """Makes servers on empty databases; they do not serve yet. `kind` is that of this run unless given."""
    with ExitStack() as stack:
        number = 0

        def make(kind: str | None = None, **env: str) -> Server:
            nonlocal number
            number += 1
            folder = tmp_path / f"empty-{number}"
            folder.mkdir()
            template = blank(kind or environment.database())
            if urlsplit(template).scheme == "sqlite":
                path = folder / "gatehouse.sqlite3"
                shutil.copyfile(urlsplit(template).path[1:], path)
                url = f"sqlite:///{path}"
            else:
                url = stack.enter_context(services.postgres_database(template=template))
            server = Server(folder, url, yard._secrets | env)
            server.var.mkdir()
            stack.callback(server.kill)
            return server

        yield make
