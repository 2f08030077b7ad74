"""How one call is to be answered, read from the model's name. Pure.

A name is `script`, or `anything~script`; parts are joined by `+` (`drip:20x0.05+usage:none`). A name that is no script and
has no `~` is simply `ok`.

| part | what happens |
|---|---|
| `ok` | five tokens, at once |
| `slow:S` | S seconds before the head |
| `drip:NxS` | N tokens, S seconds before each |
| `status:N[:name=value[,name=value]]` | that status with an error body and those headers |
| `cut:N` | the connection ends after N tokens (not streaming: within the body) |
| `cut-utf8` | the connection ends inside a UTF-8 character |
| `stall:N` | N tokens, then silence until the caller leaves |
| `error-event:N` | N tokens, then an error event and no `[DONE]` |
| `no-done` | a stream that ends cleanly but without `[DONE]` |
| `crlf` | events end in CR LF |
| `split:N` | the body is written in pieces of N bytes |
| `usage:KIND` | see `USAGE_KINDS` |
| `late-usage:S` | S seconds between all else of a stream and its usage |
| `tools` | calls the first tool offered |
| `html` `empty` `garbage` | a web page with 200; no body; bytes that are not HTTP |
| `redirect:URL` | 302 (takes the rest of the name) |
| `bomb:SIZE` `gzip-bomb:SIZE` `endless-headers` | too much of the body, of what it unpacks to, of the head |
| `echo-auth-in-error` | an error body (400 unless `status`) that repeats the credential |
| `hang` `close` `reset` | no answer until the caller leaves; end, or TCP reset, without an answer |
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

# Not ASCII throughout, so that whoever cuts between bytes shows.
WORDS = ("gate", "naïve", "ledger", "über", "exact", "—", "count", "日本", "seal", "🔑")

USAGE_KINDS = {
    "exact": "the truth, where OpenAI would tell it",
    "none": "no usage anywhere",
    "null": "usage is null",
    "zero": "zero of everything",
    "cached": "all input but one token came from a cache",
    "reasoning": "half of the output was reasoning",
    "running": "every chunk carries the usage so far",
    "unasked": "streams carry usage even if nobody asked",
    "negative": "minus the truth",
    "nan": "NaN (not JSON, but Python writes it)",
    "huge": "10^30 tokens",
    "string": "numbers as text",
    "float": "numbers with a fraction",
    "bool": "true and false",
    "list": "usage is a list",
    "partial": "input only",
    "lying-total": "a total that is not the sum",
}


class UnknownScript(ValueError):
    """The text names no behaviour; the message is the text."""


@dataclass(frozen=True)
class Script:
    """One behaviour. `plan` names an answer that replaces the ordinary one."""

    delay: float = 0.0
    tokens: int = 5
    interval: float = 0.0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    plan: str = ""
    cut_after: int | None = None
    cut_utf8: bool = False
    stall_after: int | None = None
    error_after: int | None = None
    done: bool = True
    newline: bytes = b"\n"
    split: int = 0
    usage: str = "exact"
    usage_delay: float = 0.0
    tools: bool = False
    size: int = 0
    url: str = ""
    raw: tuple[bytes | float, ...] = field(default=())


def parse(model: str) -> Script:
    """The script in a model's name. Raises UnknownScript for what follows a `~` and is none."""
    _, marked, text = model.rpartition("~")
    try:
        return _read(text)
    except UnknownScript:
        if marked:
            raise
        return Script()


def _read(text: str) -> Script:
    script = Script()
    while text:
        if text.startswith("redirect:"):
            return replace(script, plan="redirect", status=302, url=text.removeprefix("redirect:"))
        part, _, text = text.partition("+")
        name, _, argument = part.partition(":")
        reader = _PARTS.get(name)
        if reader is None:
            raise UnknownScript(part)
        try:
            script = replace(script, **reader(argument))
        except ValueError as error:
            raise UnknownScript(part) from error
    return script


def _drip(argument: str) -> dict[str, Any]:
    tokens, _, interval = argument.partition("x")
    return {"tokens": int(tokens), "interval": float(interval or 0)}


def _status(argument: str) -> dict[str, Any]:
    status, _, rest = argument.partition(":")
    headers = tuple(
        (name, value)
        for name, _, value in (pair.partition("=") for pair in rest.split(",") if pair)
    )
    return {"status": int(status), "headers": headers, "plan": "error"}


def _usage(argument: str) -> dict[str, Any]:
    if argument not in USAGE_KINDS:
        raise UnknownScript(argument)
    return {"usage": argument}


def _bytes(argument: str) -> int:
    found = re.fullmatch(r"(\d+)(B|KiB|MiB|GiB)?", argument)
    if not found:
        raise UnknownScript(argument)
    unit: int = 1024 ** ("B", "KiB", "MiB", "GiB").index(found[2] or "B")
    return int(found[1]) * unit


def _count(field_name: str) -> Callable[[str], dict[str, Any]]:
    return lambda argument: {field_name: int(argument)}


def _plan(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda argument: {"plan": name}


_PARTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "ok": lambda argument: {},
    "slow": lambda argument: {"delay": float(argument)},
    "drip": _drip,
    "status": _status,
    "cut": _count("cut_after"),
    "cut-utf8": lambda argument: {"cut_utf8": True},
    "stall": _count("stall_after"),
    "error-event": _count("error_after"),
    "no-done": lambda argument: {"done": False},
    "crlf": lambda argument: {"newline": b"\r\n"},
    "split": _count("split"),
    "usage": _usage,
    "late-usage": lambda argument: {"usage_delay": float(argument)},
    "tools": lambda argument: {"tools": True},
    "bomb": lambda argument: {"plan": "bomb", "size": _bytes(argument)},
    "gzip-bomb": lambda argument: {"plan": "gzip-bomb", "size": _bytes(argument or "256MiB")},
    "echo-auth-in-error": lambda argument: {"plan": "echo-auth"},
    **{
        name: _plan(name)
        for name in ("html", "empty", "garbage", "endless-headers", "hang", "close", "reset")
    },
}


def text_of(tokens: int) -> list[str]:
    """The same `tokens` pieces of text every time; one piece is one token."""
    return [f"{WORDS[n % len(WORDS)]} " for n in range(tokens)]
