"""Everything a database holds, as bytes, and whether a planted secret is in there in any disguise."""

import base64
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_from_bytes, urlsplit

import psycopg
from psycopg import sql


def of_database(url: str) -> bytes:
    """The whole content behind a DATABASE_URL: SQLite's files as they lie on the disk, PostgreSQL's tables as text."""
    if urlsplit(url).scheme == "sqlite":
        return of_sqlite(Path(urlsplit(url).path[1:]))
    return of_postgres(url)


def of_sqlite(path: Path) -> bytes:
    """The raw file and its write-ahead log (which also hold what was deleted), then every row as SQL text."""
    raw = b"".join(file.read_bytes() for file in (path, Path(f"{path}-wal")) if file.exists())
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return raw + "\n".join(connection.iterdump()).encode()
    finally:
        connection.close()


def of_postgres(url: str) -> bytes:
    """Every table of every own schema in COPY's text format; bytea is hex there."""
    parts: list[bytes] = []
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, tablename FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
        )
        for schema, table in cursor.fetchall():
            parts.append(f"\n-- {schema}.{table}\n".encode())
            copy = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema, table))
            with cursor.copy(copy) as rows:
                parts.extend(bytes(block) for block in rows)
    return b"".join(parts)


class Occurrence(NamedTuple):
    """One find: which of the planted secrets, in which disguise, at which byte. Never the secret itself."""

    secret: int
    disguise: str
    offset: int


def occurrences(planted: list[bytes], haystack: bytes) -> list[Occurrence]:
    """The first find of each secret in each disguise; empty is what one hopes for. Secrets need 8 bytes at least."""
    folded = haystack.lower()
    found = []
    for number, secret in enumerate(planted):
        assert len(secret) >= 8, "a short secret is found everywhere"
        for disguise, needle in disguises(secret).items():
            where = (folded if disguise == "hex" else haystack).find(needle)
            if where >= 0:
                found.append(Occurrence(number, disguise, where))
    return found


def disguises(secret: bytes) -> dict[str, bytes]:
    """The forms in which a secret turns up; `hex` is lower case, to be sought without regard to case."""
    forms = {
        "raw": secret,
        "reversed": secret[::-1],
        "hex": secret.hex().encode(),
        "url": quote_from_bytes(secret, safe="").encode(),
        "utf-16": secret.decode("latin-1").encode("utf-16-le"),
        "json": json.dumps(secret.decode("utf-8", "replace"))[1:-1].encode(),
        "repr": repr(secret)[2:-1].encode(),
    }
    for shift in range(3):
        forms[f"base64+{shift}"] = _base64_core(secret, shift, base64.b64encode)
        forms[f"base64url+{shift}"] = _base64_core(secret, shift, base64.urlsafe_b64encode)
    return forms


def _base64_core(secret: bytes, shift: int, encode: Callable[[bytes], bytes]) -> bytes:
    """The characters that depend on the secret alone when it begins `shift` bytes after a multiple of three."""
    encoded = encode(b"\0" * shift + secret)
    return encoded[-(-shift * 8 // 6) : (shift + len(secret)) * 8 // 6]
