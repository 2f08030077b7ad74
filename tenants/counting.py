"""How many rows there are of several kinds, in one query: pages that tell of everything would otherwise ask for each."""

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import F, Func, IntegerField, QuerySet


def counts(**kinds: "QuerySet[Any]") -> dict[str, int]:
    """Of each, by its name. None of them may be a slice, or group its rows."""
    texts: list[str] = []
    values: list[Any] = []
    for rows in kinds.values():
        number = Func(F("pk"), function="COUNT", output_field=IntegerField())
        counted = rows.order_by().annotate(number=number).values("number")
        try:
            text, its_values = counted.query.sql_with_params()
        except EmptyResultSet:
            text, its_values = "SELECT 0", ()
        texts.append(f"({text})")
        values += its_values
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(texts)}", values)
        return dict(zip(kinds, cursor.fetchone(), strict=True))
