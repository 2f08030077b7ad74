"""What looks like a credential, and what cannot be seen: taken out of every text that is kept (audit log and log).

Names of models and addresses are long as well, and must stay: `fireworks/accounts/fireworks/models/gpt-oss-120b` is no secret.
"""

import re
import unicodedata
from typing import Final

MASK: Final = "***"
_LONG_CHARACTERS: Final = 40
_LONG: Final = re.compile(rf"[A-Za-z0-9+/=_-]{{{_LONG_CHARACTERS},}}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_JWT: Final = re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)*")
#: Our own formats, and the prefixes that providers give their keys.
_PREFIXED: Final = re.compile(
    r"gw[kma]_[0-9A-Za-z]{20,}"
    r"|(?<![A-Za-z0-9])sk-[\w-]{8,}"
    r"|\bAIza[\w-]{20,}"
    r"|\b(?:gsk|hf)_\w{16,}"
    r"|\bxai-\w{16,}"
)
_SEPARATORS: Final = re.compile(r"[/_-]+")
#: `accounts`, `GGUF`, `DeepSeek`, `OpenAI`, `Qwen3`: what people name things with, humps included.
_WORD: Final = re.compile(
    r"(?:[A-Z]{2,6}|[A-Z]?[a-z]{2,}(?:[A-Z][a-z]+){0,2}(?:[A-Z]{2,6})?)[0-9]{0,2}"
)
_WORD_CHARACTERS: Final = 24
#: `20250514`, `480B`, `v1`, `8x22b`, `4bit`: sizes, dates and versions between the words.
_MEASURE: Final = re.compile(
    r"[0-9]{1,8}|[A-Za-z]{1,2}|[A-Za-z]{0,2}[0-9]{1,3}[a-z]?[0-9]{0,3}[A-Za-z]{0,2}"
)


def masked(text: str) -> str:
    """The text without what looks like a credential: known shapes, and long base64 or hex that is no name made of words."""
    # What goes by its length goes first and whole: it may hold by chance what looks like a prefix.
    return _PREFIXED.sub(MASK, _LONG.sub(_mask_unless_name, _JWT.sub(MASK, text)))


def _mask_unless_name(found: re.Match[str]) -> str:
    text = found.group()
    return text if _is_path(text) or _is_made_of_words(text) else MASK


def _is_path(text: str) -> bool:
    """An address like /v1/admin/tenants/<uuid>/api-keys; base64 has capitals and pluses among its slashes."""
    parts = text.split("/")
    return (
        len(parts) > 2
        and text == text.lower()
        and not {"+", "="} & set(text)
        and all(len(part) < _LONG_CHARACTERS for part in parts)
    )


def _is_made_of_words(text: str) -> bool:
    """Between separators only words, ids (UUIDs), sizes and dates, and of the characters at least a third in words.

    A random piece between two accidental separators of base64url is about thirty characters long: neither word nor measure.
    """
    pieces = [piece for piece in _SEPARATORS.split(_UUID.sub("", text)) if piece]
    words = [p for p in pieces if len(p) <= _WORD_CHARACTERS and _WORD.fullmatch(p)]
    if not all(piece in words or _MEASURE.fullmatch(piece) for piece in pieces):
        return False
    return 3 * sum(map(len, words)) >= sum(map(len, pieces)) > 0


def visible(text: str) -> str:
    """Control, direction and line-separating characters, and halves of surrogate pairs, as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"\\u{ord(character):04x}"
        if unicodedata.category(character)[0] == "C"
        or unicodedata.category(character) in {"Zl", "Zp"}
        else character
        for character in text
    )
