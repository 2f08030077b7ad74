"""What an upstream says in an error, made fit for a caller: no credential, no address, no stack, bounded. Pure."""

import base64
import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from tenants.sealing import Secret

MAX_MESSAGE = 2000  # characters

_LONGEST_READ = 2 * MAX_MESSAGE  # characters looked at; what is taken out may make room
_GRAM = 8  # this many characters of a secret in a row are a leak
_SHORTEST_SECRET = 4
_REDACTED = "[redacted]"
_ADDRESS = "[address]"

_STACK = re.compile(
    r"Traceback \(most recent|\bFile \"[^\"]+\", line \d+|^\s+at \S+ ?\(|\bgoroutine \d+ \[|panicked at |"
    r"Exception in thread|\.(?:py|js|ts|go|rs|java|cpp):\d+",
    re.MULTILINE,
)
_KEY_LIKE = (
    re.compile(r"\b(?:bearer|basic)\s+[^\s\"',;]{6,}", re.IGNORECASE),
    # Typed prefixes of the well-known issuers, our own among them; `*` because some mask the middle of a key.
    re.compile(
        r"\b(?:sk|pk|rk|gw[kma]|gsk|xai|pplx|hf|r8|nvapi|fw|tgp|csk|AIza|AKIA|ASIA|ABSK|gh[pousr]|glpat|xox[abp])"
        r"[-_*A-Z0-9][\w*.\-]{5,}"
    ),
    re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}"),  # a JSON web token
    re.compile(r"\b[0-9a-fA-F]{32,}\b"),
    # Long base64: a path or a model's name has no such mixture in one run.
    re.compile(r"(?<![\w+/=-])(?=[\w+/=-]*[A-Z])(?=[\w+/=-]*[a-z])(?=[\w+/=-]*\d)[\w+/=-]{32,}"),
)
_ADDRESS_LIKE = (
    re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s\"'<>)\]}]+"),
    re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?(?![\w.]\d)"),
    re.compile(r"(?<![\w:])\[?(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F.]{0,15}\]?(?::\d{1,5})?"),
    # Names, told by a port or by how they end. They begin where a word begins, so that no text is read twice.
    re.compile(r"(?<![\w.-])[\w-]{1,63}(?:\.[\w-]{1,63}){0,9}:\d{2,5}\b"),
    re.compile(
        r"(?<![\w.-])(?:[\w-]{1,63}\.){1,9}"
        r"(?:internal|local|localdomain|lan|corp|svc|com|net|org|io|ai|dev|cloud|app)\b(?::\d{1,5})?",
        re.IGNORECASE,
    ),
    re.compile(r"\blocalhost\b", re.IGNORECASE),
)
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def scrub(text: str, secrets: Sequence[Secret]) -> str | None:
    """`text` on one line of at most `MAX_MESSAGE` characters, without secrets and addresses; None if it is a stack trace.

    `secrets` are taken out in any usual form, in parts too: plain, percent-encoded, hex, base64. Whatever else looks like a
    key or an address goes as well, for an upstream may have secrets that we do not know.
    """
    text = text[:_LONGEST_READ]
    if _STACK.search(text):
        return None
    text = _without(text, secrets)
    for pattern in _KEY_LIKE:
        text = pattern.sub(_REDACTED, text)
    for pattern in _ADDRESS_LIKE:
        text = pattern.sub(_ADDRESS, text)
    return _SPACE.sub(" ", text).strip()[:MAX_MESSAGE] or None


def _without(text: str, secrets: Iterable[Secret]) -> str:
    """`text` with every stretch that also stands in a form of a secret replaced."""
    lowered = text.lower()
    if len(lowered) != len(
        text
    ):  # a few letters change their length; then only the plain ones are compared
        lowered = "".join(c.lower() if c.isascii() else c for c in text)
    hidden = [False] * len(text)
    for secret in secrets:
        value = secret.reveal()
        if len(value) < _SHORTEST_SECRET:
            continue
        for form in _forms(value):
            _hide(form.lower(), lowered, hidden)
    pieces: list[str] = []
    for at, character in enumerate(text):
        if not hidden[at]:
            pieces.append(character)
        elif at == 0 or not hidden[at - 1]:
            pieces.append(_REDACTED)
    return "".join(pieces)


def _hide(form: str, text: str, hidden: list[bool]) -> None:
    size = min(_GRAM, len(form))
    grams = {form[at : at + size] for at in range(len(form) - size + 1)}
    for at in range(len(text) - size + 1):
        if text[at : at + size] in grams:
            hidden[at : at + size] = [True] * size


def _forms(secret: bytes) -> set[str]:
    forms = {
        secret.decode("latin-1"),
        secret.decode("utf-8", "replace"),
        secret.decode("latin-1")[::-1],
        quote(secret, safe=""),
        secret.hex(),
    }
    for offset in range(
        3
    ):  # base64 of something that contains the secret looks different at each of three offsets
        padded = b"\0" * offset + secret
        inner = base64.b64encode(padded)[4 if offset else 0 :].rstrip(b"=")
        # The last character or two also depend on what follows.
        text = inner[: -2 if len(padded) % 3 else None].decode()
        forms |= {text, text.replace("+", "-").replace("/", "_")}
    return {form for form in forms if len(form) >= _SHORTEST_SECRET}
