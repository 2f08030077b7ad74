"""One column's value in JSON, and back: strictly, for a backup may have been edited by hand."""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db import connection, models
from django.utils.dateparse import parse_date, parse_datetime

if TYPE_CHECKING:
    AnyField = models.Field[Any, Any]
else:
    AnyField = models.Field


class BadValue(Exception):
    """A value that its column cannot have; the text is a sentence about it."""


def plain(value: object) -> Any:
    """For `json.dumps(default=…)`: what JSON has no form of."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    raise TypeError(f"{type(value).__name__} has no form in a backup.")


def read(column: AnyField, value: Any) -> Any:
    """What the column is to hold. Raises `BadValue`."""
    if value is None:
        if not column.null:
            raise BadValue("must not be null.")
        return None
    return reader_of(column)(column, value)


def reader_of(column: AnyField) -> Callable[[AnyField, Any], Any]:
    """Raises `TypeError` for a sort of column that a backup knows nothing of."""
    kind: AnyField = column
    while isinstance(kind, models.ForeignKey):
        kind = kind.target_field
    for sort, reader in _READERS:
        if isinstance(kind, sort):
            return reader
    raise TypeError(f"{column} has no form in a backup: gateway/backup/values.py needs to know it.")


def _uuid(column: AnyField, value: Any) -> UUID:
    try:
        found = UUID(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or str(found) != value:
        raise BadValue("must be a UUID.")
    return found


def _flag(column: AnyField, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadValue("must be true or false.")
    return value


def _moment(column: AnyField, value: Any) -> datetime:
    try:
        found = parse_datetime(value) if isinstance(value, str) else None
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise BadValue("must be a time like 2026-01-31T12:00:00Z.")


def _day(column: AnyField, value: Any) -> date:
    try:
        found = parse_date(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None:
        raise BadValue("must be a day like 2026-01-31.")
    return found


def _integer(column: AnyField, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValue("must be an integer.")
    bounds: Any = connection.ops.integer_field_range(column.get_internal_type())
    lowest, highest = bounds
    if (lowest is not None and value < lowest) or (highest is not None and value > highest):
        raise BadValue("is out of range.")
    return value


def _text(column: AnyField, value: Any) -> str:
    if not isinstance(value, str):
        raise BadValue("must be a text.")
    if column.max_length is not None and len(value) > column.max_length:
        raise BadValue(f"must have at most {column.max_length} characters.")
    if column.choices and value not in dict(column.flatchoices):
        raise BadValue("is none of the words that stand there.")
    return value


def _bytes(column: AnyField, value: Any) -> bytes:
    try:
        found = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except binascii.Error:
        found = None
    if found is None:
        raise BadValue("must be base64.")
    if column.max_length is not None and len(found) > column.max_length:
        raise BadValue(f"must have at most {column.max_length} bytes.")
    return found


def _json(column: AnyField, value: Any) -> Any:
    return value


_READERS: Final[tuple[tuple[type[AnyField], Callable[[AnyField, Any], Any]], ...]] = (
    (models.UUIDField, _uuid),
    (models.BooleanField, _flag),
    (models.DateTimeField, _moment),
    (models.DateField, _day),
    (models.IntegerField, _integer),
    (models.CharField, _text),
    (models.TextField, _text),
    (models.BinaryField, _bytes),
    (models.JSONField, _json),
)
