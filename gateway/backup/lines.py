"""The file: one JSON object a line. The head says what it is, then a line for each row, and the last one says how many there were
and what they come to, so that a file which was cut or edited is noticed.

    {"format":"gatehouse-backup","version":1,"created_at":…,"product":…,"keks":[…],"tenant":null,"with_logs":false}
    {"table":"tenants.tenant","row":{…}}
    {"table":"providers.provider","id":…,"name":…}     a backup of one tenant: what its rows refer to and is not its own
    {"end":{"rows":…,"tables":{…},"sha256":…,"mac":…}}

The SHA-256 is of all lines before the last. The MAC of it is under a key that only the master key leads to, so that who can edit
the file and reckon a digest still cannot pass it off as ours where that key is at hand.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any, Final
from uuid import UUID

from gateway.api.parsers import parsed
from gateway.backup import values
from gateway.backup.tables import BY_LABEL, Row, Table
from gateway.backup.values import BadValue
from gateway.version import VERSION as PRODUCT
from tenants import sealing, validation
from tenants.clock import SYSTEM
from tenants.errors import Invalid
from tenants.sealing import Secret

FORMAT: Final = "gatehouse-backup"
VERSION: Final = 1
#: Bytes of one line. The longest are bodies of calls that a tenant asked to be kept.
MAX_LINE: Final = 8 * 1024 * 1024
_MAX_KEKS: Final = 1_000
_HEAD: Final = ("format", "version", "created_at", "product", "keks", "tenant", "with_logs")
_MAC_LABEL: Final = b"gwbak1"


@dataclass(frozen=True, slots=True)
class Head:
    """`keks`: which KEKs wrapped the secrets in it, by the ids that those name them with. `tenant`: whose alone it is."""

    created_at: datetime
    product: str
    keks: tuple[str, ...]
    tenant: UUID | None
    with_logs: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table; or with a `name` the mention of one that is not in the backup."""

    number: int
    table: Table
    row: Row
    name: str = ""


@dataclass(slots=True)
class End:
    """What the lines before it came to."""

    tables: "Counter[str]" = field(default_factory=Counter)
    digest: bytes = b""
    mac: str = ""

    @property
    def rows(self) -> int:
        return self.tables.total()

    def is_ours(self, key: Secret) -> bool:
        made = sealing.mac(key, _MAC_LABEL, self.digest).hex()
        return Secret(made.encode()) == Secret(self.mac.encode())


def fault(number: int, sentence: str) -> Invalid:
    """A refusal that names the line."""
    return Invalid(f"Line {number}: {sentence}", fields={"file": f"line {number}: {sentence}"})


# --- writing ----------------------------------------------------------------------------------------------------------


class Writer:
    """Writes lines and keeps count. `key`: what the MAC is made with."""

    def __init__(self, file: IO[bytes], key: Secret) -> None:
        self._file = file
        self._key = key
        self._hash = hashlib.sha256()
        self.written = End()

    def head(self, keks: list[str], tenant: UUID | None, with_logs: bool) -> None:
        self._line(
            {
                "format": FORMAT,
                "version": VERSION,
                "created_at": SYSTEM.now(),
                "product": PRODUCT,
                "keks": keks,
                "tenant": tenant,
                "with_logs": with_logs,
            }
        )

    def row(self, table: Table, row: Row) -> None:
        self.written.tables[table.label] += 1
        self._line({"table": table.label, "row": row})

    def mention(self, table: Table, row_id: UUID, name: str) -> None:
        self._line({"table": table.label, "id": row_id, "name": name})

    def end(self) -> End:
        """The last line."""
        end = self.written
        end.digest = self._hash.digest()
        end.mac = sealing.mac(self._key, _MAC_LABEL, end.digest).hex()
        told = {
            "rows": end.rows,
            "tables": dict(end.tables),
            "sha256": end.digest.hex(),
            "mac": end.mac,
        }
        self._line({"end": told})
        return end

    def _line(self, value: dict[str, Any]) -> None:
        raw = json.dumps(value, default=values.plain, separators=(",", ":")).encode() + b"\n"
        self._hash.update(raw)
        self._file.write(raw)


# --- reading ----------------------------------------------------------------------------------------------------------


class Backup:
    """A backup to be read, as often as need be. Everything that is wrong with the file is an `Invalid` that names the line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        file.seek(0)
        self.head = _head(_value(1, file.readline(MAX_LINE + 1)))
        #: What the last reading came to; nothing of it may be kept before `lines` has ended.
        self.end = End()

    def lines(self) -> Iterator[Line]:
        """All lines between head and end. Whoever stops early has not heard whether the file is whole."""
        self._file.seek(0)
        raw = self._file.readline(MAX_LINE + 1)
        digest = hashlib.sha256(raw)
        counts: Counter[str] = Counter()
        number = 1
        while raw := self._file.readline(MAX_LINE + 1):
            number += 1
            value = _value(number, raw)
            if "end" in value:
                self.end = _end(number, value, digest.digest(), counts)
                if self._file.read(1):
                    raise fault(number + 1, "there is something after the end.")
                return
            digest.update(raw)
            line = _line(number, value)
            counts[line.table.label] += not line.name
            yield line
        raise fault(number + 1, "the file ends here, without its last line: it was cut.")


def _value(number: int, raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_LINE:
        raise fault(number, f"it has more than {MAX_LINE} bytes.")
    if not raw.endswith(b"\n"):
        raise fault(number, "the file ends in the middle of it: it was cut, or is no backup.")
    try:
        value = parsed(raw)
    except Invalid as refusal:
        raise fault(number, refusal.message.replace("The body", "it", 1)) from None
    if not isinstance(value, dict):
        raise fault(number, "it is no JSON object.")
    return value


def _head(value: dict[str, Any]) -> Head:
    if value.get("format") != FORMAT:
        raise fault(1, f"the file is no backup: it does not begin with the format {FORMAT!r}.")
    version = value.get("version")
    if version != VERSION or isinstance(version, bool):
        raise fault(
            1, f"version: this release reads version {VERSION} of the format, and no other."
        )
    if set(value) != set(_HEAD):
        raise fault(1, f"the head must have {', '.join(_HEAD)}, and nothing else.")
    try:
        created_at = validation.moment("created_at", value["created_at"])
        tenant = None if value["tenant"] is None else UUID(value["tenant"])
    except (Invalid, ValueError, TypeError, AttributeError):
        raise fault(1, "created_at or tenant cannot be read.") from None
    keks = value["keks"]
    is_list = isinstance(keks, list) and len(keks) <= _MAX_KEKS
    if not is_list or not all(_is_kek_id(each) for each in keks) or created_at is None:
        raise fault(1, "keks or created_at cannot be read.")
    return Head(
        created_at, str(value["product"])[:64], tuple(keks), tenant, value["with_logs"] is True
    )


def _is_kek_id(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{16}", value) is not None


def _line(number: int, value: dict[str, Any]) -> Line:
    label = value.get("table")
    table = BY_LABEL.get(label) if isinstance(label, str) else None
    if table is None:
        raise fault(number, f"there is no table {str(label)[:64]!r} here.")
    if set(value) == {"table", "id", "name"}:
        return _mention(number, table, value)
    row = value.get("row")
    if set(value) != {"table", "row"} or not isinstance(row, dict):
        raise fault(number, f"{table.label}: it must have a table and a row, and nothing else.")
    return Line(number, table, _row(number, table, row))


def _mention(number: int, table: Table, value: dict[str, Any]) -> Line:
    try:
        row_id = UUID(value["id"])
    except (ValueError, TypeError, AttributeError):
        raise fault(number, f"{table.label}, id: must be a UUID.") from None
    if not isinstance(value["name"], str) or not value["name"]:
        raise fault(number, f"{table.label}, name: must be a text.")
    return Line(number, table, {"id": row_id}, value["name"])


def _row(number: int, table: Table, given: dict[str, Any]) -> Row:
    unknown = next((name for name in given if name not in table.columns), None)
    if unknown is not None:
        raise fault(number, f"{table.label}, {unknown[:64]}: is not a field of this.")
    row = {}
    for name, column in table.columns.items():
        if name not in given:
            # A backup of an older release does not know what was added since.
            if column.primary_key or not column.has_default():
                raise fault(number, f"{table.label}, {name}: is missing.")
            row[name] = column.get_default()
            continue
        try:
            row[name] = values.read(column, given[name])
        except BadValue as bad:
            raise fault(number, f"{table.label}, {name}: {bad}") from None
    return row


def _end(number: int, value: dict[str, Any], digest: bytes, counts: "Counter[str]") -> End:
    told = value["end"]
    if not isinstance(told, dict) or not isinstance(told.get("mac"), str):
        raise fault(number, "the end cannot be read.")
    if told.get("sha256") != digest.hex():
        raise fault(
            number, "sha256: the lines before are not those that were written: edited, or cut."
        )
    if told.get("tables") != dict(counts) or told.get("rows") != counts.total():
        raise fault(number, "tables: the counts are not those of the lines before.")
    return End(counts, digest, told["mac"])
