"""Lists: newest first, a page at a time, by a cursor that stays where it is while rows are added in front of it."""

import base64
import binascii
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from rest_framework.response import Response

from gateway.api import requests
from gateway.shapes.pages import DEFAULT_LIMIT, MOST_LIMIT
from tenants.errors import Invalid

PARAMETERS: Final = ("limit", "cursor")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
#: Microseconds, in the year 5138: no arithmetic with it leaves the calendar.
_LATEST: Final = 10**17
_FORM: Final = struct.Struct(">q16s")

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row that was shown: rows made at its moment come in the order of their ids."""

    moment: datetime
    id: UUID

    def text(self) -> str:
        micros = (self.moment - _EPOCH) // _MICROSECOND
        return base64.urlsafe_b64encode(_FORM.pack(micros, self.id.bytes)).decode()

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        try:
            raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
            micros, identity = _FORM.unpack(raw)
        except (ValueError, binascii.Error, struct.error):
            micros, identity = -1, b""
        if not 0 <= micros <= _LATEST:
            raise Invalid.field("cursor", "is not one that this list gave out.")
        return cls(_EPOCH + micros * _MICROSECOND, UUID(bytes=identity))

    def older(self, tie: str) -> Q:
        """The rows after this one, newest first.

        SQLite keeps times as text, to the millisecond where the database wrote them and to the microsecond where we did;
        the two compare right only past each other's digits. Hence one microsecond to either side instead of equality.
        """
        newest = Q(created_at__lt=self.moment + _MICROSECOND)
        same_moment = Q(created_at__gt=self.moment - _MICROSECOND)
        return newest & ~(same_moment & Q(**{f"{tie}__gte": self.id}))


@dataclass(frozen=True, slots=True)
class Slice(Generic[M]):
    """A page of rows, and the cursor that leads to the next; null on the last."""

    rows: list[M]
    next_cursor: str | None


def cut(rows: "QuerySet[M]", query: Mapping[str, str], *, tie: str = "id") -> Slice[M]:
    """The rows that `limit` and `cursor` ask for, newest first. Raises `Invalid` for a limit or cursor that is none."""
    limit = requests.number(query, "limit", 1, MOST_LIMIT) or DEFAULT_LIMIT
    if "cursor" in query:
        rows = rows.filter(Cursor.parse(query["cursor"]).older(tie))
    found = list(rows.order_by("-created_at", f"-{tie}")[: limit + 1])
    shown = found[:limit]
    return Slice(shown, _after(shown[-1], tie) if len(found) > limit else None)


def page(
    rows: "QuerySet[M]",
    query: Mapping[str, str],
    render: Callable[[M], dict[str, Any]],
    *,
    tie: str = "id",
    counted: bool = True,
) -> Response:
    """One page of `rows`. `total` is counted for small tables only; null where counting would read them all."""
    return page_of(rows, query, lambda found: list(map(render, found)), tie=tie, counted=counted)


def page_of(
    rows: "QuerySet[M]",
    query: Mapping[str, str],
    render: Callable[[Sequence[M]], list[dict[str, Any]]],
    *,
    tie: str = "id",
    counted: bool = True,
) -> Response:
    """The same for bodies that need something looked up for all rows at once."""
    found = cut(rows, query, tie=tie)
    return Response(
        {
            "object": "list",
            "data": render(found.rows),
            "has_more": found.next_cursor is not None,
            "next_cursor": found.next_cursor,
            "total": rows.order_by().count() if counted else None,
        }
    )


def _after(row: Model, tie: str) -> str:
    moment: datetime = getattr(row, "created_at")  # noqa: B009 - every paged table has one, `Model` does not say so
    return Cursor(moment, getattr(row, tie)).text()
