"""The exact table of (method, path) that is a call, on either edge. Everything else, unknown `/v1/*` included, is Django's."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from providers.dialects import openai
from providers.dialects.base import Dialect


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`operation` is what the dialect calls it, None for reading the list of models; `capability` what a model must have."""

    operation: str | None
    capability: str
    dialect: Dialect


_CHAT: Final = Endpoint("chat", "chat", openai)
_COMPLETION: Final = Endpoint("completion", "chat", openai)
_EMBEDDING: Final = Endpoint("embedding", "embedding", openai)
_MODELS: Final = Endpoint(None, "", openai)

#: People mix up base URLs, so a missing and a doubled `/v1` both work; the last two are where Azure's clients look.
BASES: Final = ("/v1", "", "/v1/v1", "/openai", "/openai/v1")
_CALLS: Final = {
    "/chat/completions": _CHAT,
    "/completions": _COMPLETION,
    "/embeddings": _EMBEDDING,
}
_TABLE: Final[dict[tuple[str, str], Endpoint]] = {
    **{("POST", base + path): endpoint for base in BASES for path, endpoint in _CALLS.items()},
    **{("GET", f"{base}/models"): _MODELS for base in BASES},
}
#: Azure's clients name the model behind this, with every `/` that is in its name.
DEPLOYMENTS: Final = "/openai/deployments/"
_MODEL_PREFIXES: Final = tuple(f"{base}/models/" for base in BASES)


#: The lines that a request to one of these usually begins with.
_LINES: Final = {
    f"{method} {path} HTTP/1.1".encode(): (endpoint, "")
    for (method, path), endpoint in _TABLE.items()
}
_METHODS: Final = frozenset((b"GET", b"POST"))


def on_line(line: bytes) -> tuple[Endpoint, str] | None:
    """What `find` finds for a request line, without its end. None also for what only looks like one."""
    usual = _LINES.get(line)
    if usual is not None:
        return usual
    parts = line.split(b" ")
    if len(parts) != 3 or parts[0] not in _METHODS or parts[2] != b"HTTP/1.1":
        return None
    path = parts[1].partition(b"?")[0]
    if not path.startswith(b"/"):
        return None
    return find(parts[0].decode(), unquote_to_bytes(path).decode("utf-8", "replace"))


def may_begin(line: bytes) -> bool:
    """Whether what has come of a request line may become one of these."""
    return b"POST /".startswith(line[:6]) or b"GET /".startswith(line[:5])


def find(method: str, path: str) -> tuple[Endpoint, str] | None:
    """The endpoint and the model that the path names: in `GET /v1/models/{id}` and `POST /openai/deployments/{id}/…`, else none.

    None when it is no call.
    """
    endpoint = _TABLE.get((method, path))
    if endpoint is not None:
        return endpoint, ""
    if method == "GET":
        for prefix in _MODEL_PREFIXES:
            if path.startswith(prefix) and len(path) > len(prefix):
                return _MODELS, path[len(prefix) :]
    elif method == "POST" and path.startswith(DEPLOYMENTS):
        return _deployed(path.removeprefix(DEPLOYMENTS))
    return None


def _deployed(rest: str) -> tuple[Endpoint, str] | None:
    for path, endpoint in _CALLS.items():  # the longest first, for one ends like another
        name = rest.removesuffix(path)
        if name and name != rest:
            return endpoint, name
    return None
