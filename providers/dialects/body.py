"""A caller's JSON body, read once and strictly, whatever the dialect. Pure.

The same decoding that we authorise by is what goes upstream: top-level names to raw values, duplicate and escaped names
collapsed (the last one wins). What an upstream's parser could read differently is refused: bad UTF-8, NaN, lone surrogates,
control characters in strings, a nesting that some parsers cannot follow.

    DialectError
    ├── BadBody               the caller's body cannot be served; `message` and `param` are for the caller
    └── UnusableCredential    our own credential cannot travel in a header
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw

MAX_DEPTH = 64
MAX_NODES = 100_000  # objects and arrays, or members, or strings with brackets in them

Fields = dict[str, Raw]
JsonType = Literal["object", "array", "string", "number", "true", "false", "null"]

NULL = Raw(b"null")

_FIELDS: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(Fields)
_TEXT = msgspec.json.Decoder(str)
_FLAG: msgspec.json.Decoder[bool | None] = msgspec.json.Decoder(bool | None)
# Strict: it takes digits only, not 10.0 or 1e1.
_POSITIVE: msgspec.json.Decoder[int | None] = msgspec.json.Decoder(
    Annotated[int, Meta(ge=1, lt=10**15)] | None
)
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}:"'))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_TYPES: dict[int, JsonType] = {
    ord("{"): "object",
    ord("["): "array",
    ord('"'): "string",
    ord("t"): "true",
    ord("f"): "false",
    ord("n"): "null",
    **dict.fromkeys(b"-0123456789", "number"),
}


class DialectError(Exception):
    """Something that a dialect cannot read or write."""


class BadBody(DialectError):
    """The caller's body cannot be served. `param` names the member that is wrong, if it is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class UnusableCredential(DialectError):
    """Our own credential cannot travel in a header."""


def read_object(body: bytes) -> Fields:
    """The top level of a JSON object: each name to the bytes of its value. Raises BadBody."""
    # One pass that tells how many members and levels there are at most, those in strings included: seldom too many.
    marks = body.translate(_ONE_KIND, _NOT_STRUCTURE)
    # A million members must not become a million objects first; nor must a reader that stops at once be given a long look.
    has_many_members = marks.count(b":") > MAX_NODES
    if has_many_members:
        _check_structure(body, marks)
    try:
        fields = _FIELDS.decode(body)
        # msgspec checks the grammar of what it skips, but not its UTF-8.
        if not body.isascii():
            body.decode()
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise BadBody("The body is not valid UTF-8.") from None
    except msgspec.ValidationError:
        raise BadBody("The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise BadBody(f"The body is not valid JSON: {error}.") from None
    if not has_many_members and marks.count(b"[") > MAX_DEPTH:
        _check_structure(body, marks)
    return fields


def _check_structure(body: bytes, marks: bytes) -> None:
    """Raises BadBody for too deep or too large a tree. Bounded before anything is built from it; a few passes at the speed
    of `bytes`. Right for valid JSON; what it says of anything else does not matter, for that is refused in any case.

    `marks` are the brackets (of one kind), colons and quotes of the body.
    """
    if b'\\"' in body:  # pairs first: then a backslash before a quote is an escape
        unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
        marks = unescaped.translate(_ONE_KIND, _NOT_STRUCTURE)
    marks = marks.replace(b'""', b"")
    if marks.count(b'"') > 2 * MAX_NODES:
        raise _too_many()
    outside_strings = b"".join(marks.split(b'"')[::2])
    brackets = outside_strings.replace(b":", b"")
    if max(len(brackets) // 2, len(outside_strings) - len(brackets)) > MAX_NODES:
        raise _too_many()
    for _ in range(MAX_DEPTH):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")  # the innermost level
    if brackets:
        raise _too_deep()


def _too_deep() -> BadBody:
    return BadBody(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _too_many() -> BadBody:
    return BadBody(f"The body has more than {MAX_NODES} objects, arrays or members.")


def type_of(raw: Raw) -> JsonType:
    """What a raw value is, told by its first byte."""
    return _TYPES[memoryview(raw)[0]]


def read_bool(fields: Mapping[str, Raw], name: str) -> bool:
    """A boolean member; absent and null are false. Raises BadBody."""
    try:
        return bool(_FLAG.decode(fields.get(name, NULL)))
    except msgspec.DecodeError:
        raise BadBody(f"{name} must be true or false.", name) from None


def read_largest(
    fields: Mapping[str, Raw], names: Sequence[str], most: int | None = None
) -> int | None:
    """The largest of some positive integer members, each written as digits (10.0 and 1e1 are none); None if all of them are
    absent or null. Raises BadBody.
    """
    largest = 0
    for name in names:
        if name not in fields:
            continue
        try:
            number = _POSITIVE.decode(fields[name])
        except msgspec.DecodeError:
            number = 0
        if number is None:
            continue
        if number < 1 or (most is not None and number > most):
            wanted = "a positive integer" if most is None else f"an integer from 1 to {most}"
            raise BadBody(f"{name} must be {wanted}.", name)
        largest = max(largest, number)
    return largest or None


def read_fields(fields: Mapping[str, Raw], name: str) -> Fields:
    """An object member, each name of it to the bytes of its value; absent and null are empty. Raises BadBody."""
    raw = fields.get(name, NULL)
    if raw == NULL:
        return {}
    try:
        return _FIELDS.decode(raw)
    except msgspec.DecodeError:
        raise BadBody(f"{name} must be an object.", name) from None


def read_name(fields: Mapping[str, Raw], name: str, longest: int) -> str:
    """A printable, non-empty text member. Raises BadBody."""
    raw = fields.get(name, NULL)
    if raw == NULL:
        raise BadBody(f"{name} is required.", name)
    try:
        text = _TEXT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadBody(f"{name} must be a string.", name) from None
    check_name(name, text, longest)
    return text


def check_name(name: str, text: str, longest: int) -> None:
    """Raises BadBody unless `text`, which is called `name`, has so many printable characters and at least one."""
    if not 1 <= len(text) <= longest:
        raise BadBody(f"{name} must have 1 to {longest} characters.", name)
    if not text.isprintable():
        raise BadBody(f"{name} must not have control or invisible characters in it.", name)
