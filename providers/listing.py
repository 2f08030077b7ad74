"""What an upstream answers when it is asked for its models, which costs nothing anywhere."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import msgspec

from providers import credentials, presets
from providers.models import Provider
from providers.services import address_filter, destination, dialect_of
from tenants import audit, fetch
from tenants.clock import SYSTEM
from tenants.fetch import Answer
from tenants.outbound import OutboundError
from tenants.sealing import Secret

ANSWER_SECONDS: Final = 10.0
_MAX_ANSWER: Final = 8 * 1024 * 1024
_MAX_MODELS: Final = 2_000
_MAX_ID: Final = 256
_SHOWN_CHARACTERS: Final = 200
_SPACES: Final = re.compile(r"\s+")
#: Families of models, as Ollama names them, that turn text into vectors and nothing else.
_EMBEDDING_FAMILIES: Final = ("bert",)


@dataclass(frozen=True, slots=True)
class Reply:
    """`status` is the upstream's own, null when there was none; `models` are its ids, null when it gave no list.

    `embedding` are those of them of which it says that they make vectors.
    """

    status: int | None
    latency_ms: int
    sentence: str
    models: list[str] | None = None
    embedding: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Account:
    """A provider as its dialect asks for it."""

    path: str
    deployment: str
    api_version: str


def ask(provider: Provider) -> Reply:
    """Raises `CredentialUnreadable`, `Invalid` (no usable address)."""
    return asking(provider)()


def asking(provider: Provider) -> Callable[[], Reply]:
    """The question, with everything that it needs of the database; to be asked within `ANSWER_SECONDS` or a little more.

    Raises `CredentialUnreadable`, `Invalid` (no usable address).
    """
    preset = presets.preset(provider.kind)
    if preset.in_process:
        known = [model.upstream_id for model in preset.models]
        return partial(Reply, 200, 0, "It is built in and needs no account.", known)
    where = destination(provider)
    door = _Door(str(replace(where, path="")), _credential(provider), provider)
    account = _Account(where.path, provider.deployment, provider.api_version)
    target = dialect_of(provider.kind).models_path(account).decode()
    also = preset.also_lists_at and where.path.removesuffix(preset.path) + preset.also_lists_at
    return partial(_asked, door, target, also)


def _asked(door: "_Door", target: str, also: str) -> Reply:
    reply = door.list(target)
    return _completed(reply, door, also) if also and reply.status is not None else reply


def _credential(provider: Provider) -> Secret | None:
    row = credentials.current(provider)
    return credentials.open_sealed(credentials.sealed(row, provider)) if row else None


class _Door:
    """The upstream, with what it knows us by."""

    def __init__(self, origin: str, secret: Secret | None, provider: Provider) -> None:
        self._origin = origin
        self._secret = secret.reveal().decode() if secret else ""
        self._headers = {"accept": "application/json"}
        if secret is not None:
            told = dialect_of(provider.kind).credential(secret)
            self._headers |= {name.decode(): value.decode() for name, value in told}

    def get(self, target: str) -> Answer:
        """Raises OutboundError."""
        path, _, query = target.partition("?")
        return fetch.get(
            self._origin + path,
            query=query,
            addresses=address_filter(),
            headers=self._headers,
            max_bytes=_MAX_ANSWER,
            timeout=ANSWER_SECONDS,
        )

    def list(self, target: str) -> Reply:
        began = SYSTEM.monotonic()
        try:
            answer = self.get(target)
        except OutboundError as fault:
            return Reply(None, _since(began), str(fault))
        return _judged(answer, _since(began), self._secret)


def _since(began: float) -> int:
    return round((SYSTEM.monotonic() - began) * 1000)


def _judged(answer: Answer, latency_ms: int, secret: str) -> Reply:
    if answer.status != 200:
        said = _shown(answer.body, secret)
        sentence = f"The upstream answered with status {answer.status}{': ' if said else '.'}{said}"
        return Reply(answer.status, latency_ms, sentence)
    models = _ids(answer.body)
    if models is None:
        return Reply(200, latency_ms, "The upstream answered something that is no list of models.")
    return _told(latency_ms, models)


def _told(latency_ms: int, models: list[str], embedding: frozenset[str] = frozenset()) -> Reply:
    sentence = f"The upstream answered with {len(models)} models."
    return Reply(200, latency_ms, sentence, models, embedding)


def _shown(body: bytes, secret: str) -> str:
    """The beginning of an error body as one safe line: upstreams like to repeat the credential they were sent."""
    text = body[: _SHOWN_CHARACTERS * 8].decode("utf-8", "replace")
    if secret:
        text = text.replace(secret, "***")
    return audit.clean_text(_SPACES.sub(" ", text).strip(), _SHOWN_CHARACTERS)


def _ids(body: bytes) -> list[str] | None:
    """`{"data": [{"id"}]}`, or a bare list as some servers have it. Null when it is neither."""
    value = _json(body)
    listed = value.get("data") if isinstance(value, dict) else value
    if not isinstance(listed, list):
        return None
    ids = [item["id"] for item in listed if isinstance(item, dict) and _is_id(item.get("id"))]
    return list(dict.fromkeys(ids))[:_MAX_MODELS]


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID and value.isprintable()


# --- Ollama's own list ------------------------------------------------------------------------------------------------


def _completed(reply: Reply, door: _Door, target: str) -> Reply:
    """The reply, with what Ollama's own list tells besides: models where its OpenAI door has no list (older versions),
    and which of them make vectors. https://github.com/ollama/ollama/blob/main/docs/api.md#list-local-models
    """
    try:
        answer = door.get(target)
    except OutboundError:
        return reply
    tags = dict(_tags(answer.body)) if answer.status == 200 else {}
    if not tags:
        return reply
    models = list(dict.fromkeys([*(reply.models or []), *tags]))[:_MAX_MODELS]
    embedding = frozenset(name for name, makes_vectors in tags.items() if makes_vectors)
    return _told(reply.latency_ms, models, embedding)


def _tags(body: bytes) -> Iterator[tuple[str, bool]]:
    """Names in `{"models": [{"name", "details": {"family"}}]}`, and whether they only make vectors."""
    value = _json(body)
    listed = value.get("models") if isinstance(value, dict) else None
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, dict) and _is_id(item.get("name")):
            details = item.get("details")
            family = details.get("family") if isinstance(details, dict) else ""
            yield item["name"], str(family).endswith(_EMBEDDING_FAMILIES)
