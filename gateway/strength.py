"""Whether a secret from the environment is one: missing or weak ones stop the start."""

import base64
import binascii
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from django.core.exceptions import ImproperlyConfigured

from tenants.sealing import KEY_BYTES, Secret

#: Long enough that no random text holds one by chance.
_WEAK_WORDS: Final = (
    *("changeme", "change-me", "change_me", "changeit", "replace", "insecure", "secret"),
    *("password", "passw0rd", "letmein", "default", "example", "gatehouse", "development"),
    *("12345678", "qwerty", "asdfgh"),
)
_SECRET_KEY_CHARACTERS: Final = 32
_DISTINCT_CHARACTERS: Final = 10
#: Without them nothing starts, so `quickstart` makes them.
_REQUIRED: Final = frozenset(("SECRET_KEY", "GATEHOUSE_KEK"))


def refusal(name: str, fault: str) -> ImproperlyConfigured:
    """The sentence names the variable and the fault, never the value."""
    remedy = (
        "or run `manage.py quickstart` once, which makes it"
        if name in _REQUIRED
        else "or leave it out"
    )
    return ImproperlyConfigured(
        f"{name} {fault}. Set it in the environment (or {name}_FILE), {remedy}."
    )


def _is_guessable(value: Sequence[int]) -> bool:
    """Few different characters or bytes, one part over and over, or mostly neighbours as in `abcd` and `4321`."""
    length = len(value)
    repeats = any(value[start:] == value[: length - start] for start in range(1, length // 2 + 1))
    steps = [abs(after - before) <= 1 for before, after in pairwise(value)]
    return len(set(value)) < _DISTINCT_CHARACTERS or repeats or 2 * sum(steps) > len(steps)


def strong(name: str, value: str) -> str:
    """The same value. Raises `ImproperlyConfigured` for one that is short or guessable."""
    if len(value) < _SECRET_KEY_CHARACTERS:
        raise refusal(name, f"is too short: it needs at least {_SECRET_KEY_CHARACTERS} characters")
    lowered = value.lower()
    known = any(word in lowered for word in _WEAK_WORDS)
    if known or _is_guessable([ord(character) for character in value]):
        raise refusal(name, "is a known or guessable value")
    return value


def master_key(name: str, text: str) -> Secret:
    """32 bytes in hex or base64. Raises `ImproperlyConfigured` for what is none, or guessable."""
    try:
        raw = (
            bytes.fromhex(text)
            if len(text) == KEY_BYTES * 2
            else base64.b64decode(text, validate=True)
        )
    except (ValueError, binascii.Error):
        raise refusal(name, "is neither hex nor base64") from None
    if len(raw) != KEY_BYTES:
        raise refusal(name, f"must be exactly {KEY_BYTES} bytes")
    # Thirty-two random bytes are practically never all printable: that is a passphrase.
    if _is_guessable(raw) or all(0x20 <= byte < 0x7F for byte in raw):
        raise refusal(name, "is a known or guessable value")
    return Secret(raw)
