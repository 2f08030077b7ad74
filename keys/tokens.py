"""The form of our credentials: prefix, 43 base62 characters (256 random bits), 6 base62 characters of CRC32. Pure.

The checksum finds typos and lets scanners recognise a leaked key offline; it protects nothing. What protects is that only
an HMAC under a pepper is stored, and that the look-up goes by that HMAC.
"""

import hmac
import secrets
import zlib
from enum import StrEnum

from tenants.sealing import Secret

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE62 = frozenset(_ALPHABET)
_RANDOM_CHARACTERS = 43  # 62**43 > 2**256
_CHECKSUM_CHARACTERS = 6  # 62**6 > 2**32
_PREFIX_CHARACTERS = 4
_SHOWN_CHARACTERS = 6
LENGTH = _PREFIX_CHARACTERS + _RANDOM_CHARACTERS + _CHECKSUM_CHARACTERS

#: What a secret scanner looks for; `is_well_formed` then checks the sum.
PATTERN = r"gw[kma]_[0-9A-Za-z]{49}"


class Kind(StrEnum):
    """A credential's prefix. Each opens one plane and is refused on the others by its prefix alone."""

    TENANT_KEY = "gwk_"
    MASTER_KEY = "gwm_"
    SERVICE_TOKEN = "gwa_"  # noqa: S105 - a prefix


_PREFIXES = frozenset(kind.value for kind in Kind)


def generate(kind: Kind) -> Secret:
    """A new credential. It exists in clear here and in the one answer that shows it."""
    number = int.from_bytes(secrets.token_bytes(32))
    body = kind + _base62(number, _RANDOM_CHARACTERS)
    return Secret((body + _checksum(body)).encode())


def is_well_formed(text: str, kind: Kind) -> bool:
    """Length, prefix, alphabet and checksum, in that order of price. Says nothing about whether it was ever issued."""
    if len(text) != LENGTH or not text.startswith(kind):
        return False
    if not _BASE62.issuperset(text[_PREFIX_CHARACTERS:]):
        return False
    return _checksum(text[:-_CHECKSUM_CHARACTERS]) == text[-_CHECKSUM_CHARACTERS:]


def has_known_prefix(text: str) -> bool:
    """Whether the text claims to be one of our credentials, well formed or not."""
    return text[:_PREFIX_CHARACTERS] in _PREFIXES


def shown_part(token: Secret) -> str:
    """What may be seen of it for good: prefix and six characters (36 of 256 bits)."""
    return token.reveal()[: _PREFIX_CHARACTERS + _SHOWN_CHARACTERS].decode()


def fingerprint(pepper: Secret, text: str) -> bytes:
    """The 32-byte value a credential is stored and looked up by."""
    return hmac.digest(pepper.reveal(), text.encode(), "sha256")


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_CHARACTERS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
