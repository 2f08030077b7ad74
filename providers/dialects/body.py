"""A caller's JSON body, read once and strictly, whatever the dialect. Pure.

The same decoding that we authorise by is what goes upstream: top-level names to raw values, duplicate and escaped names
collapsed (the last one wins). What an upstream's parser could read differently is refused: bad UTF-8, NaN, lone surrogates,
control characters in strings, a nesting that some parsers cannot follow.

    DialectError
    ├── BadBody               the caller's body cannot be served; `message` and `param` are for the caller
    └── UnusableCredential    our own credential cannot travel in a header
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Raw

MAX_DEPTH = 64
MAX_NODES = 100_000  # objects and arrays, or members, or strings with brackets in them

Fields = dict[str, Raw]
JsonType = Literal["object", "array", "string", "number", "true", "false", "null"]

_FIELDS: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(Fields)
_TEXT = msgspec.json.Decoder(str)
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}:"'))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_MAX_INTEGER_DIGITS = 15
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
    # A million members must not become a million objects first; nor must a reader that stops at once be given a long look.
    has_many_members = body.count(b":") > MAX_NODES
    if has_many_members:
        _check_structure(body)
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
    if not has_many_members and body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_structure(body)
    return fields


def _check_structure(body: bytes) -> None:
    """Raises BadBody for too deep or too large a tree. Bounded before anything is built from it; a few passes at the speed
    of `bytes`. Right for valid JSON; what it says of anything else does not matter, for that is refused in any case.
    """
    if b"\\" in body:  # pairs first: then a backslash before a quote is an escape
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = body.translate(_ONE_KIND, _NOT_STRUCTURE).replace(b'""', b"")
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


def size_of(raw: Raw) -> int:
    """The bytes of a raw value, without a copy."""
    return memoryview(raw).nbytes


def type_of(raw: Raw) -> JsonType:
    """What a raw value is, told by its first byte."""
    return _TYPES[memoryview(raw)[0]]


def is_null(fields: Mapping[str, Raw], name: str) -> bool:
    """Whether the member is absent or null."""
    return name not in fields or type_of(fields[name]) == "null"


def read_bool(fields: Mapping[str, Raw], name: str) -> bool:
    """A boolean member; absent and null are false. Raises BadBody."""
    if is_null(fields, name):
        return False
    value = type_of(fields[name])
    if value not in ("true", "false"):
        raise BadBody(f"{name} must be true or false.", name)
    return value == "true"


def read_integer(fields: Mapping[str, Raw], name: str, most: int | None = None) -> int | None:
    """A positive integer member written as digits (10.0 and 1e1 are none); absent and null are None. Raises BadBody."""
    if is_null(fields, name):
        return None
    raw = fields[name]
    text = bytes(raw) if size_of(raw) <= _MAX_INTEGER_DIGITS else b""
    number = int(text) if text.isdigit() else 0
    if number < 1 or (most is not None and number > most):
        wanted = "a positive integer" if most is None else f"an integer from 1 to {most}"
        raise BadBody(f"{name} must be {wanted}.", name)
    return number


def read_name(fields: Mapping[str, Raw], name: str, longest: int) -> str:
    """A printable, non-empty text member. Raises BadBody."""
    if is_null(fields, name):
        raise BadBody(f"{name} is required.", name)
    try:
        text = _TEXT.decode(fields[name])
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
