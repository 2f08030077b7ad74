"""How an answer of ours is put together: the headers every answer carries, whole answers, the list of models."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from gateway.relay import errors
from gateway.relay.errors import Problem
from gateway.relay.facts import Head, Told
from gateway.relay.ports import Actions
from gateway.snapshot import Known
from providers import routing
from providers.dialects.base import Dialect
from providers.routing import Serving
from providers.types import Headers
from usage import money
from usage.hands import Lease

_PLAIN: Final = re.compile(r"[!-~]{1,128}")


def told(headers: Headers) -> Told:
    """Names must be lower case."""
    found = dict(headers)
    return Told(
        found.get(b"content-type", b"")[:256],
        found.get(b"retry-after", b"")[:64],
        found.get(b"x-request-id", b"")[:128],
    )


def labels(
    head: Head, serving: Serving | None = None, tries: int = 0, lease: Lease | None = None
) -> Headers:
    """Which request this answers, who served it, and what is left of the tightest limits, of requests and of tokens a minute."""
    known_as = head.correlation_id.encode()
    headers: Headers = [
        (b"x-request-id", known_as),
        (b"request-id", known_as),
        (b"cache-control", b"no-store"),
    ]
    if serving is not None:
        headers.append((b"x-gatehouse-provider", _header_text(serving.upstream.name)))
        headers.append((b"x-gatehouse-target", _header_text(serving.name)))
        headers.append((b"x-gatehouse-attempts", b"%d" % tries))
    if lease is None:
        return headers
    return headers + errors.limit_headers(lease.requests, lease.tokens)


def passed_on(told: Told, overhead: float) -> Headers:
    """What we say of an upstream's answer. `overhead`: seconds of it that were ours."""
    headers = [
        (b"content-type", told.content_type or b"application/json"),
        (b"x-gatehouse-overhead-ms", b"%.3f" % (overhead * 1000)),
    ]
    if told.request_id:
        headers.append((b"x-upstream-request-id", told.request_id))
    return headers


@lru_cache(maxsize=4096)
def _header_text(text: str) -> bytes:
    """A name as a header can carry it: as it is, or percent-encoded."""
    return text.encode() if _PLAIN.fullmatch(text) else quote(text, safe="")[:384].encode()


def length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


def cost(nano_usd: int | None) -> Headers:
    return (
        [] if nano_usd is None else [(b"x-gatehouse-cost-usd", money.usd_text(nano_usd).encode())]
    )


def whole(actions: Actions, status: int, headers: Headers, body: bytes) -> None:
    """A JSON answer in one piece, and the end of the exchange."""
    actions.reply(status, [*headers, (b"content-type", b"application/json"), length(body)], body)


def problem(actions: Actions, head: Head, what: Problem, *, lease: Lease | None = None) -> None:
    """A refusal in the caller's dialect. Headers of the problem itself win over the general ones."""
    special = {name for name, _ in what.headers}
    general = [pair for pair in labels(head, lease=lease) if pair[0] not in special]
    whole(actions, what.status, [*general, *what.headers], what.body(head.asked.endpoint.dialect))


def models(dialect: Dialect, known: Known, item: str) -> bytes | None:
    """The body of `GET /v1/models[/{id}]`: only what this key may call. None when the one asked for is not among them."""
    identity = known.identity
    entries = [
        (route.name, route.created_at, route.targets[0].upstream.name)
        for route in routing.visible(known.shared, known.own)
        if identity.may_use_model(route.name) and identity.may_use_capability(route.capability)
    ]
    if not item:
        return dialect.models_list(entries)
    wanted = next((entry for entry in entries if entry[0] == item), None)
    return None if wanted is None else dialect.model_entry(*wanted)
