"""Bodies in OpenAI's format that we write ourselves: errors and lists of models. Pure.

Reference: https://platform.openai.com/docs/guides/error-codes and https://platform.openai.com/docs/api-reference/models.
"""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from providers.dialects.scrub import scrub
from tenants.sealing import Secret

_MAX_ERROR_BODY = 64 * 1024
_WORD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")

_encoder = msgspec.json.Encoder()


class _Error(msgspec.Struct):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class _Upstreams(msgspec.Struct):
    """An error as an upstream writes it: anything may be missing or of another type."""

    message: Any = None
    type: Any = None
    param: Any = None
    code: Any = None


class _UpstreamsBody(_Upstreams):
    object: Any = None
    error: _Upstreams | str | None = None


_UPSTREAMS_BODY = msgspec.json.Decoder(_UpstreamsBody)


class _Model(msgspec.Struct):
    id: str
    created: int
    owned_by: str
    object: str = "model"


def models_list(entries: Iterable[tuple[str, int, str]]) -> bytes:
    """The body of `GET /v1/models` for (id, created in seconds since 1970, owner)."""
    models = [_Model(*entry) for entry in entries]
    return _encoder.encode({"object": "list", "data": models})


def model_entry(model_id: str, created: int, owned_by: str) -> bytes:
    """The body of `GET /v1/models/{id}`; `created` in seconds since 1970."""
    return _encoder.encode(_Model(model_id, created, owned_by))


def error_body(message: str, type: str, param: str | None = None, code: str | None = None) -> bytes:
    """The body of an error answer."""
    return _encoder.encode({"error": _Error(message, type, param, code)})


def stream_error(message: str, type: str, code: str | None = None) -> bytes:
    """The event that ends a stream which cannot be finished; no `[DONE]` follows it."""
    return _event(error_body(message, type, None, code))


def clean_error(
    status: int, body: bytes, content_type: bytes, secrets: Sequence[Secret] = ()
) -> bytes:
    """An upstream's error body, fit for passing on: an error in this format keeps its scrubbed message and its words;
    anything else (a web page, a proxy's text, a stack trace, nothing) becomes one fixed sentence.
    """
    found = None
    if content_type.split(b";")[0].strip().lower() in (b"application/json", b""):
        found = _read(body, secrets)
    return _encoder.encode({"error": found or _fixed(status)})


def clean_stream_error(payload: bytes, secrets: Sequence[Secret] = ()) -> bytes:
    """The error event for a stream in which the upstream sent an error with this payload."""
    found = _read(payload, secrets)
    fixed = _Error("The provider broke off the stream.", "upstream_error", None, "upstream_error")
    return _event(_encoder.encode({"error": found or fixed}))


def _event(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


def _fixed(status: int) -> _Error:
    message = f"The provider answered with status {status}."
    return _Error(message, _type_for(status), None, "upstream_error")


def _type_for(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "invalid_request_error" if 400 <= status < 500 else "upstream_error"


def _read(body: bytes, secrets: Sequence[Secret]) -> _Error | None:
    """OpenAI's `{"error": {…}}`, Ollama's `{"error": "…"}`, or Mistral's and vLLM's `{"object": "error", "message": …}`."""
    if len(body) > _MAX_ERROR_BODY:
        return None
    try:
        answer = _UPSTREAMS_BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    told: _Upstreams
    if isinstance(answer.error, str):
        told = _Upstreams(message=answer.error)
    elif answer.error is not None:
        told = answer.error
    elif answer.object == "error":
        told = answer
    else:
        return None
    message = scrub(told.message, secrets) if isinstance(told.message, str) else None
    if message is None:
        return None
    return _Error(
        message,
        _word(told.type, secrets) or "upstream_error",
        _word(told.param, secrets),
        _word(told.code, secrets),
    )


def _word(value: object, secrets: Sequence[Secret]) -> str | None:
    """A type, parameter or code, if it is one plain word that hides nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        return None
    return value if scrub(value, secrets) == value else None
