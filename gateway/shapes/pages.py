"""Lists that come a page at a time: gateway/api/paging.py cuts them."""

from typing import Final

from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    TEXT,
    Schema,
    answer,
    array,
    constant,
    integer,
    maybe,
    shown,
    told,
)

DEFAULT_LIMIT: Final = 50
MOST_LIMIT: Final = 200
#: Of a query.
PAGES: Final[dict[str, Schema]] = {
    "limit": told({**integer(1, MOST_LIMIT), "default": DEFAULT_LIMIT}, "Rows of a page."),
    "cursor": told({**TEXT, "format": "cursor"}, "The `next_cursor` of the page before."),
}


def page_of(row: Schema) -> Schema:
    return answer(
        object=constant("list"),
        data=array(row),
        has_more=shown(FLAG, False),
        next_cursor=told(maybe(TEXT), "For `cursor`, to get the next page; null on the last."),
        total=told(
            shown(maybe(COUNT), 1), "How many there are; null where counting would read all."
        ),
    )
