"""Rows out of a file: CSV with a head line, a JSON array, an object with one list in it, or JSON lines. All bounded."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tenants.errors import Invalid

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_ROWS: Final = 100_000
_MAX_CELL: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """`where` says where it stands (`line 3`). Numbers with a point are `Decimal`s; of CSV everything is a text."""

    where: str
    values: Mapping[str, Any]


def read_text(path: str, what: str) -> str:
    """A whole file of UTF-8, at most `MAX_BYTES`. Raises `Invalid`."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise Invalid.field(what, f"the file is larger than {MAX_BYTES} bytes.")
        return content.decode("utf-8-sig")
    except OSError as fault:
        raise Invalid.field(what, f"the file cannot be read: {fault.strerror}.") from None
    except UnicodeDecodeError:
        raise Invalid.field(what, "the file is not UTF-8 text.") from None


def read_rows(path: str, what: str) -> list[Row]:
    """The rows of a file. Raises `Invalid` for one that is none of the forms, or has more than `MAX_ROWS`."""
    text = read_text(path, what)
    document = _document(text)
    if isinstance(document, dict) and not _is_row(document):
        lists = [value for value in document.values() if isinstance(value, list)]
        document = lists[0] if len(lists) == 1 else document
    if isinstance(document, list):
        rows = _numbered("row", document, what)
    elif text.lstrip().startswith("["):
        raise Invalid.field(what, "the file is no JSON.")
    elif text.lstrip().startswith("{"):
        rows = _json_lines(text, what)
    else:
        rows = _csv(text, what)
    found: list[Row] = []
    for row in rows:
        if len(found) >= MAX_ROWS:
            raise Invalid.field(what, f"the file has more than {MAX_ROWS} rows.")
        found.append(row)
    return found


def read_tables(path: str, what: str) -> dict[str, list[Row]] | None:
    """The lists of a JSON object that has several, by their names; None if the file is no such object."""
    document = _document(read_text(path, what))
    if not isinstance(document, dict) or _is_row(document):
        return None
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    if any(len(each) > MAX_ROWS for each in lists.values()):
        raise Invalid.field(what, f"the file has more than {MAX_ROWS} rows of one table.")
    return {name: list(_numbered(f"{name}, row", each, what)) for name, each in lists.items()}


def _is_row(document: Mapping[str, Any]) -> bool:
    """One row alone in a file is the shortest list of JSON lines."""
    return any(name in document for name in ("token", "hash", "sha256", "key"))


def _document(text: str) -> Any:
    """The file as one JSON value, None if it is none."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        return _json(text)
    except ValueError:
        return None


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _numbered(word: str, items: list[Any], what: str) -> Iterator[Row]:
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise Invalid.field(what, f"{word} {number} is no JSON object.")
        yield Row(f"{word} {number}", item)


def _json_lines(text: str, what: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            item = _json(line)
        except ValueError:
            item = None
        if not isinstance(item, dict):
            raise Invalid.field(what, f"line {number} is no JSON object.")
        yield Row(f"line {number}", item)


def _csv(text: str, what: str) -> Iterator[Row]:
    csv.field_size_limit(_MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        if len(set(head)) != len(head) or not all(head):
            raise Invalid.field(what, "the first line must name each column, once.")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(head):
                raise Invalid.field(
                    what, f"line {reader.line_num} has {len(cells)} cells, not {len(head)}."
                )
            yield Row(f"line {reader.line_num}", dict(zip(head, cells, strict=True)))
    except csv.Error as fault:
        raise Invalid.field(what, f"line {reader.line_num} is no CSV: {fault}.") from None
