"""The head of a request as HTTP/1.1 spells it. Pure: no socket, no clock, and no types but the standard library's."""

import re
from collections.abc import Sequence
from typing import Final

_METHODS: Final = frozenset((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"))
_PATH: Final = re.compile(rb"/[\x21-\x7e]*")
_HOST: Final = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\x20-\x7e]*")
_THE_TRANSPORTS_OWN: Final = frozenset(
    b"connection content-length expect host keep-alive proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade x-request-id".split()
)


class Unwritable(ValueError):
    """It cannot be written as exactly one HTTP request. The message quotes no value."""


def host_header(scheme: str, host: str, port: int) -> bytes:
    """The value of `host`: the port only where it is not the scheme's own, an IPv6 literal in brackets.

    Raises Unwritable for what is no lower-case host name or literal address.
    """
    name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    if _HOST.fullmatch(name) is None:
        raise Unwritable("not a host name")
    is_default = port == (443 if scheme == "https" else 80)
    return (name if is_default else f"{name}:{port}").encode("ascii")


def letterhead(
    method: bytes, path: bytes, host: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """A head up to the value of its `x-request-id`, which comes last but for `content-length`. `host` is from `host_header`.

    Raises Unwritable if anything in it could be read as more than one request or header (CR, LF, NUL, other controls, tabs too,
    bytes over 126, a name that is no token) or names a header that only the transport may set.
    """
    if method not in _METHODS or _PATH.fullmatch(path) is None:
        raise Unwritable("not a method and a path")
    lines = [b"%b %b HTTP/1.1" % (method, path), b"host: %b" % host]
    lines += [_line(name, value) for name, value in headers]
    if not any(line.startswith(b"accept-encoding:") for line in lines):
        lines.append(b"accept-encoding: identity")
    return b"\r\n".join([*lines, b"x-request-id: "])


def _line(name: bytes, value: bytes) -> bytes:
    lowered = name.lower()
    if _TOKEN.fullmatch(name) is None or lowered in _THE_TRANSPORTS_OWN:
        raise Unwritable("a header's name is none, or the transport's own")
    if _VALUE.fullmatch(value) is None:
        raise Unwritable("a header's value holds bytes that HTTP does not allow")
    return b"%b: %b" % (lowered, value)
