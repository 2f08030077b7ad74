"""The headers of a request upstream, whatever the dialect. Pure."""

import re
from typing import Final

from providers.dialects.body import UnusableCredential
from providers.types import Headers
from tenants.sealing import Secret

# What a caller's client may tell the provider. Not its organisation or project: those choose who pays at the provider, and the
# credential is ours. Not its trace, cookies, addresses or SDK fingerprint: nobody asked for them to leave the house.
_FORWARDED: Final = frozenset({b"accept", b"openai-beta"})
_HEADER_VALUE: Final = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,510}[\x21-\x7e])?")


def credential_header(name: bytes, api_key: Secret, scheme: bytes = b"") -> tuple[bytes, bytes]:
    """The header that a credential travels in. Raises UnusableCredential."""
    value = scheme + api_key.reveal()
    if not _HEADER_VALUE.fullmatch(value):
        raise UnusableCredential("The credential has characters that a header cannot carry.")
    return name, value


def request_headers(credential: Headers, forwarded: Headers) -> Headers:
    """By an allow-list. Compression is refused: bytes are relayed and watched as they are."""
    made: Headers = [
        (b"content-type", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"user-agent", b"gatehouse"),
        *credential,
    ]
    seen: set[bytes] = set()
    for name, value in forwarded:
        name = name.lower()
        if name in _FORWARDED and name not in seen and _HEADER_VALUE.fullmatch(value):
            made.append((name, value))
            seen.add(name)
    return made
