"""The log: one JSON object per line on standard error, without secrets, and nothing in it can break or forge a line.

What arrives here was written for people and may hold anything a caller sent. Credentials are replaced by `***`, control,
direction and line-separating characters by their escape (also for whoever prints the message after parsing the line), and a
record that cannot be formatted is still logged: its arguments then stay out.
"""

import json
import logging
import re
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from gateway.context import request_id
from tenants.redaction import MASK, masked, visible

_MESSAGE_CHARACTERS: Final = 8_192
_FRAMES: Final = 40
_CHAIN: Final = 5

_NAMES: Final = (
    r"x-api-key|x-goog-api-key|x-admin-key|api[-_]?key|authorization|proxy-authorization|set-cookie|cookie"
    r"|password|passwd|secret(?:[-_]key)?|client[-_]secret|(?:access|refresh|id)[-_]token|token"
)
#: Each with what stands in its place: what is named a secret. What merely looks like one comes after (tenants/redaction.py).
_REPLACEMENTS: Final = (
    # Authorization: Bearer x · b'authorization', b'Basic x'
    (re.compile(r"(?i)\b(bearer|basic)(\s+|%20)[^\s\"',;)]+"), rf"\1 {MASK}"),
    # ('x-api-key', b'v')
    (re.compile(rf"(?i)({_NAMES})(['\"]\s*,\s*b?['\"])[^'\"]*"), rf"\1\2{MASK}"),
    # x-api-key: v · "password": "v w" · token=v
    (
        re.compile(
            rf"(?i)(?<![a-z0-9])({_NAMES})(['\"]?\s*[:=]\s*b?)"
            r"(?:'[^']*'|\"[^\"]*\"|['\"]?[^\s'\",;&)\]}]+)"
        ),
        rf"\1\2{MASK}",
    ),
    # scheme://user:password@host
    (re.compile(r"(?i)([a-z][a-z0-9+.-]{0,20}://[^\s/:@]{0,256}):[^\s@]+@"), rf"\1:{MASK}@"),
    (re.compile(r"gw[kma]_[0-9A-Za-z]+"), MASK),
)


def redact(text: str) -> str:
    """The text without anything that is, is named as, or looks like a credential."""
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return masked(text)


def _clean(text: str) -> str:
    # Cut first, so that no input is long; redact before and after, for an escape may have kept a pattern from matching.
    shown = redact(visible(redact(text[: _MESSAGE_CHARACTERS * 2])))
    return shown if len(shown) <= _MESSAGE_CHARACTERS else shown[:_MESSAGE_CHARACTERS] + "…"


def _message_of(record: logging.LogRecord) -> str:
    """The formatted message; formatting must never raise, for logging would then print the raw arguments."""
    try:
        return record.getMessage()
    except Exception as fault:  # noqa: BLE001 - any object's __str__ may run here and raise anything
        text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        return f"{text[:500]} (the arguments do not fit: {type(fault).__name__})"


class RedactionFilter(logging.Filter):
    """Formats the message and takes the secrets out, before any handler of any kind sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _clean(_message_of(record)), None
        return True


class JSONFormatter(logging.Formatter):
    """One line: time (UTC, microseconds), level, logger, message, request_id, and an exception as type, message, stack."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": visible(record.name),
            "message": _clean(_message_of(record)),
        }
        line["time"] = line["time"].replace("+00:00", "Z")
        # A line may be about another request than the one in hand: callbacks and threads have none, or somebody else's.
        if identity := getattr(record, "request_id", "") or request_id.get():
            line["request_id"] = visible(str(identity))
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = _exception(record.exc_info[1], _CHAIN)
        return json.dumps(line, ensure_ascii=False)


def _exception(fault: BaseException | None, depth: int) -> dict[str, Any]:
    if fault is None:
        return {}
    try:
        message = str(fault)
    except Exception as worse:  # noqa: BLE001 - an exception's own __str__ may raise anything
        message = f"(its text cannot be made: {type(worse).__name__})"
    told: dict[str, Any] = {
        "type": f"{type(fault).__module__}.{type(fault).__qualname__}",
        "message": _clean(message),
        "stack": _stack(fault.__traceback__),
    }
    before = fault.__cause__ or (None if fault.__suppress_context__ else fault.__context__)
    if before is not None and depth > 1:
        told["cause"] = _exception(before, depth - 1)
    return told


def _stack(tail: TracebackType | None) -> list[str]:
    """The innermost frames, by place and name only: source lines and local variables may hold secrets."""
    frames = traceback.extract_tb(tail)[-_FRAMES:]
    return [visible(f"{frame.filename}:{frame.lineno} {frame.name}") for frame in frames]
