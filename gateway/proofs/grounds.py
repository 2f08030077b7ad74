"""Where a proof or a benchmark happens: a folder, secrets and databases of its own. No operator's data is ever near.

Databases are SQLite files in that folder, or databases of a PostgreSQL that lets us make some; all are gone at the end.
"""

import os
import random
import secrets
import shutil
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

ROOT: Final = Path(__file__).resolve().parents[2]
SQLITE: Final = "sqlite"
_CONNECT_SECONDS: Final = 5
#: Below the range that the system hands out by itself.
_PORTS: Final = (15_000, 30_000)


class ProofFailed(Exception):
    """There is nothing to report; the message says why, in sentences."""


class Grounds:
    """`database` is `sqlite`, or the address of a PostgreSQL where we may make databases called `label`_<pid>_<place>."""

    def __init__(self, folder: Path, database: str, label: str) -> None:
        self.folder = folder
        self._database = database
        self._name = f"{label}_{os.getpid()}"
        self._secrets = {
            "SECRET_KEY": secrets.token_urlsafe(48),
            "GATEHOUSE_KEK": secrets.token_hex(32),
        }

    def fresh(self, place: str, template: str | None = None) -> str:
        """The address of a new database for `place`, empty or a copy of another place's. Raises ProofFailed."""
        self.drop(place)
        (self.folder / place / "var").mkdir(parents=True)
        if self._database == SQLITE:
            path = self.folder / place / "gatehouse.sqlite3"
            if template:
                shutil.copyfile(self.folder / template / path.name, path)
            return f"sqlite:///{path}"
        create = sql.SQL("CREATE DATABASE {}").format(self._identifier(place))
        if template:
            create += sql.SQL(" TEMPLATE {}").format(self._identifier(template))
        self._administer(create)
        return urlsplit(self._database)._replace(path=f"/{self._name}_{place}").geturl()

    def drop(self, place: str) -> None:
        """Its folder and its database, if there are any. Raises ProofFailed."""
        shutil.rmtree(self.folder / place, ignore_errors=True)
        if self._database != SQLITE:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            self._administer(drop.format(self._identifier(place)))

    def environment(self, place: str, database_url: str) -> dict[str, str]:
        """All that a process of ours there is told. Nothing comes from the environment of who started it."""
        return {
            "PATH": os.defpath,
            "DJANGO_SETTINGS_MODULE": "gateway.settings",
            "DATABASE_URL": database_url,
            "REDIS_URL": "",
            "GATEHOUSE_VAR": str(self.folder / place / "var"),
            "GATEHOUSE_ALLOWED_UPSTREAMS": "127.0.0.0/8",
            "GATEHOUSE_PROBE_SECONDS": "0",
            "GATEHOUSE_TIMEOUT_PRE_DRAIN": "0",
            **self._secrets,
        }

    def _identifier(self, place: str) -> sql.Identifier:
        return sql.Identifier(f"{self._name}_{place}")

    def _administer(self, statement: sql.Composed) -> None:
        try:
            with psycopg.connect(
                self._database, autocommit=True, connect_timeout=_CONNECT_SECONDS
            ) as server:
                server.execute(statement)
        except psycopg.Error as error:
            raise ProofFailed(f"PostgreSQL: {' '.join(str(error).split())}") from error


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(*_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
