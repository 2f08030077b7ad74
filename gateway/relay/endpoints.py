"""The exact table of (method, path) that the express edge takes. Everything else, unknown `/v1/*` included, is Django's."""

from dataclasses import dataclass
from typing import Final

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

#: People mix up base URLs, so a missing and a doubled `/v1` both work.
_BASES: Final = ("/v1", "", "/v1/v1")
_TABLE: Final[dict[tuple[str, str], Endpoint]] = {
    (method, base + path): endpoint
    for base in _BASES
    for method, path, endpoint in (
        ("POST", "/chat/completions", _CHAT),
        ("POST", "/completions", _COMPLETION),
        ("POST", "/embeddings", _EMBEDDING),
        ("GET", "/models", _MODELS),
    )
}
_MODEL_PREFIXES: Final = tuple(f"{base}/models/" for base in _BASES)


def find(method: str, path: str) -> tuple[Endpoint, str] | None:
    """The endpoint and, for `GET /v1/models/{id}`, the id; None when it is not the express edge's."""
    endpoint = _TABLE.get((method, path))
    if endpoint is not None:
        return endpoint, ""
    if method == "GET":
        for prefix in _MODEL_PREFIXES:
            if path.startswith(prefix) and len(path) > len(prefix):
                return _MODELS, path[len(prefix) :]
    return None
