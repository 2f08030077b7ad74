"""The form of our credentials: prefix, 43 base62 characters (256 random bits), 6 base62 characters of CRC32. Pure.

The checksum finds typos and lets scanners recognise a leaked key offline; it protects nothing. What protects is that only
an HMAC under a pepper is stored, and that the look-up goes by that HMAC.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from enum import StrEnum
from typing import Final

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


# --- credentials that another gateway made ----------------------------------------------------------------------------

#: What the look-up value of one begins with; 32 bytes follow, as of our own ones.
_IMPORTED: Final = b"i"
#: Visible characters, and not what our own credentials of today or of later look like.
_FOREIGN: Final = re.compile(r"(?!gw[a-z0-9]_)[!-~]{8,512}", re.ASCII)
#: Three parts in base64url between dots: a signed token, which says itself who made it.
_SIGNED: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)


def could_be_imported(text: str) -> bool:
    """Whether this could be a credential that another gateway made and that we know by its SHA-256."""
    return _FOREIGN.fullmatch(text) is not None and _SIGNED.fullmatch(text) is None


def imported_fingerprint(pepper: Secret, sha256: bytes) -> bytes:
    """What a credential with that SHA-256 is stored and looked up by. The pepper is in it: whoever has the other gateway's table
    and a copy of ours cannot tell which of its keys came here.
    """
    return _IMPORTED + hmac.digest(pepper.reveal(), b"imported|" + sha256, "sha256")


def is_imported(fingerprint: bytes) -> bool:
    return len(fingerprint) == 1 + hashlib.sha256().digest_size


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_CHARACTERS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
