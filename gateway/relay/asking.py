"""What a request's head asks for, read from its headers once: who calls, how, once or again, and what the provider is told.

A value without a secret in it: of the credential only what its caller is looked up by. So whoever sees the same head again may
hand over the same value.
"""

import re
from typing import Final
from uuid import UUID

from gateway import context
from gateway.relay import errors
from gateway.relay.endpoints import Endpoint
from gateway.relay.errors import Problem
from gateway.relay.facts import Asked
from keys.chain import Chain, CredentialError
from providers.types import Headers

EXPLAIN: Final = b"x-gatehouse-explain"
_DRY_RUN: Final = b"dry-run"
_JSON: Final = b"application/json"
#: W3C Trace Context: version, trace, the caller's own span, flags. A later version may say more behind them.
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x20-\x7e]*)?"
)
#: What a caller's client may tell the provider, and bytes of one such header: longer ones say nothing, and are more than some
#: providers read.
_FORWARDED: Final = frozenset((b"accept", b"openai-beta"))
_MAX_FORWARDED: Final = 1024


def asked(chain: Chain, endpoint: Endpoint, item: str, headers: Headers) -> Asked:
    """Names must be lower case."""
    fingerprint, unknown = b"", None
    try:
        fingerprint = chain.lookup_value(headers)
    except CredentialError as fault:
        unknown = errors.of(fault)
    return Asked(
        endpoint=endpoint,
        item=item,
        fingerprint=fingerprint,
        unknown=unknown,
        unfit=next(filter(None, (_unfit(name, value) for name, value in headers)), None),
        is_dry=any(name == EXPLAIN for name, _ in headers),
        forwarded=tuple(
            (name, value)
            for name, value in headers
            if name in _FORWARDED and len(value) <= _MAX_FORWARDED
        ),
        once=tuple(value.strip() for name, value in headers if name == b"idempotency-key"),
        offered_id=_offered_id(headers),
        trace_id=_trace_id(headers),
    )


def _unfit(name: bytes, value: bytes) -> Problem | None:
    """What is wrong with a header that says how the body is to be read."""
    if name == b"content-type" and value.split(b";", 1)[0].strip().lower() != _JSON:
        return errors.unsupported_media("The body must be application/json.")
    if name == b"content-encoding" and value.strip().lower() != b"identity":
        return errors.unsupported_media("A compressed body is not accepted.")
    if name == EXPLAIN and value.strip().lower() != _DRY_RUN:
        text = f"{EXPLAIN.decode()} must be {_DRY_RUN.decode()}."
        return Problem(400, "invalid_request", text, EXPLAIN.decode())
    return None


def _offered_id(headers: Headers) -> str | None:
    """The first that is offered, if it has the form that we keep."""
    offered = next((value for name, value in headers if name == b"x-request-id"), b"")
    return offered.decode() if context.is_callers_own(offered) else None


def _trace_id(headers: Headers) -> UUID | None:
    """Of the one valid `traceparent`. Any other, and more than one, is as good as none: the standard has it so."""
    offered = [value for name, value in headers if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(offered[0].strip()) if len(offered) == 1 else None
    if match is None or (match[1] == b"00" and match[3] is not None):
        return None
    return UUID(match[2].decode())
