"""Moving here from another gateway: its keys, tables of them, and what the door says to whoever holds one."""

import csv
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from tests.gateway.door import Door, Key


def new_secret() -> str:
    """As LiteLLM makes them."""
    return f"sk-{secrets.token_urlsafe(16)}"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def table(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def bring(door: Door, *arguments: str, tenant: str) -> dict[str, Any]:
    done = door.server.manage("import_from", *arguments, "--tenant", tenant)
    door.wait_seen()
    return dict(done)


def call(door: Door, secret: str, model: str = "oracle/tokens:3", **body: Any) -> httpx.Response:
    return door.chat(model, key=Key("", "", secret), **body)


def refused(door: Door, secret: str) -> bytes:
    """The body of a 401, without what is different in each."""
    answer = call(door, secret)
    assert answer.status_code == 401, answer.text
    return answer.content


def state(door: Door, secret: str) -> dict[str, Any]:
    """What the key is told of itself."""
    answer = door.client.get("/v1/key", headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def budget_of(door: Door, secret: str, level: str, window: str) -> dict[str, Any]:
    [found] = [
        it
        for it in state(door, secret)["budgets"]
        if (it["level"], it["window"]) == (level, window)
    ]
    return dict(found)


def database(path: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A SQLite file with these tables; lists and objects are JSON there."""
    with closing(sqlite3.connect(path)) as connection:
        for name, rows in tables.items():
            columns = list(dict.fromkeys(column for row in rows for column in row))
            named = ", ".join(f'"{column}"' for column in columns)
            connection.execute(f'CREATE TABLE "{name}" ({named})')
            holes = ", ".join("?" for _ in columns)
            for row in rows:
                cells = [row.get(column) for column in columns]
                texts = [json.dumps(it) if isinstance(it, list | dict) else it for it in cells]
                connection.execute(f'INSERT INTO "{name}" VALUES ({holes})', texts)
        connection.commit()
    return f"sqlite:///{path}"
