"""Strict JSON: one meaning or none.

Refused: duplicate names, NaN and Infinity, numbers of more digits than any field of ours can hold, nesting past 64 levels, NUL
characters and half surrogates (no database stores them), bytes that are not UTF-8, and bodies past the limit of the route.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final, NoReturn

from rest_framework.parsers import BaseParser

from gateway.api.errors import BodyTooLarge
from tenants.errors import Invalid

#: Bytes of a body, unless the view says otherwise.
MAX_BODY: Final = 256 * 1024
_MAX_DEPTH: Final = 64
_MAX_DIGITS: Final = 20

#: A text that never ends runs to the end of the body, so that the scan reads every character once.
_TEXT_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class StrictJSONParser(BaseParser):
    """The body as a value; an empty body is `{}`. Raises `Invalid` (400) and `BodyTooLarge` (413)."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        view = (parser_context or {}).get("view")
        limit = getattr(view, "max_body", MAX_BODY)
        raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise BodyTooLarge(limit)
        return parsed(raw) if raw else {}


def parsed(raw: bytes) -> Any:
    """The value that the bytes stand for. Raises `Invalid`."""
    try:
        text = raw.decode()
        _check_depth(text)
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_fraction,
        )
    except (ValueError, RecursionError):
        raise Invalid("The body is not valid JSON.") from None
    _check_texts(value)
    return value


def _check_texts(value: Any) -> None:
    sentence = "holds a NUL character or half a surrogate pair."
    if isinstance(value, dict):
        for name, member in value.items():
            if not _UNSTORABLE.search(name) and any(map(_UNSTORABLE.search, _texts(member))):
                raise Invalid.field(name, sentence)
    if any(map(_UNSTORABLE.search, _texts(value))):
        raise Invalid(f"The body {sentence}")


def _check_depth(text: str) -> None:
    """Counted before anything is built, so that no nesting reaches the recursion of the decoder."""
    depth = 0
    for match in _TEXT_OR_BRACKET.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
            if depth > _MAX_DEPTH:
                raise Invalid(f"The body is nested deeper than {_MAX_DEPTH} levels.")
        elif mark in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise Invalid("A name stands twice in one object of the body.")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise Invalid(f"{name} is not a number of JSON.")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise Invalid(f"A number of the body has more than {_MAX_DIGITS} digits.")
    return int(digits)


def _fraction(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise Invalid("A number of the body is too large.")
    return number


def _texts(value: Any) -> Iterator[str]:
    """Every text in it, names of members included."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            yield from item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
