"""Asking an upstream what it has: the test of a provider, the list of its models, and taking those over as models of ours."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final
from uuid import UUID

import msgspec

from providers import credentials, model_services, presets
from providers.models import Model, Provider
from providers.presets import PresetModel
from providers.services import address_filter, destination, target_of
from tenants import audit, fetch
from tenants.actor import Actor
from tenants.audit import Entry
from tenants.changes import note
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound, Unavailable
from tenants.fetch import Answer
from tenants.models import AuditEvent
from tenants.outbound import OutboundError

ANSWER_SECONDS: Final = 10.0
_MAX_ANSWER: Final = 8 * 1024 * 1024
_MAX_MODELS: Final = 2_000
_MAX_ID: Final = 256
_SHOWN_CHARACTERS: Final = 200
_MATCH_CHARACTERS: Final = 128
_SPACES: Final = re.compile(r"\s+")
_CHAT: Final = Model.Capability.CHAT
_EMBEDDING: Final = Model.Capability.EMBEDDING
#: Ids that say of themselves that they are neither chat nor embedding: nothing here could call them.
_OTHER_KINDS: Final = re.compile(
    r"(?i)(?:^|[/_-])(?:whisper|tts|dall-e|gpt-image|sora|imagen|veo|moderation|transcribe|realtime|rerank\w*)(?:$|[-_.\d])"
)


class UpstreamSilent(Unavailable):
    """The upstream gave no usable list of models; the message says why."""

    code = "upstream_error"


@dataclass(frozen=True, slots=True)
class TestResult:
    """`status` is the upstream's own, null when there was none; `models` are its ids, at most 2000."""

    __test__ = False  # the name is the contract's, and pytest collects classes that begin like this

    ok: bool
    status: int | None
    latency_ms: int
    sentence: str
    models: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Names of models: made now, and left out (taken already, or no name we accept)."""

    added: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    offline: bool = False


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int | None
    latency_ms: int
    sentence: str
    models: list[str] | None = None


#: Hears how many of how many ids have been looked at.
Progress = Callable[[int, int], object]


def test_provider(*, actor: Actor, provider_id: UUID) -> TestResult:
    """Ask for the list of models, which costs nothing anywhere, and write down how it went.

    Raises `NotFound`, `CredentialUnreadable`, `Invalid` (no usable address).
    """
    provider = _provider(provider_id)
    reply = _ask(provider)
    ok = reply.models is not None
    entry = Entry(
        actor,
        "provider.tested",
        target_of(provider),
        scope=audit.scope_of(provider.tenant_id),
        outcome=AuditEvent.Outcome.OK if ok else AuditEvent.Outcome.FAILED,
        error_code="" if ok else UpstreamSilent.code,
        duration_ms=reply.latency_ms,
        details={"status": reply.status},
    )
    note(entry)
    return TestResult(ok, reply.status, reply.latency_ms, reply.sentence, reply.models or [])


def list_upstream_models(provider: Provider) -> list[str]:
    """Ids in the upstream's order. Raises `UpstreamSilent`, `CredentialUnreadable`, `Invalid` (no usable address)."""
    reply = _ask(provider)
    if reply.models is None:
        raise UpstreamSilent(reply.sentence)
    return reply.models


def _provider(provider_id: UUID) -> Provider:
    found = Provider.objects.filter(pk=provider_id).first()
    if found is None:
        raise NotFound
    return found


def _ask(provider: Provider) -> _Reply:
    preset = presets.preset(provider.kind)
    if preset.in_process:
        return _Reply(200, 0, "It is built in and needs no account.", _known_ids(provider))
    where = destination(provider)
    row = credentials.current(provider)
    headers = {"accept": "application/json"}
    secret = credentials.open_sealed(credentials.sealed(row, provider)) if row else None
    if secret is not None:
        headers["authorization"] = f"Bearer {secret.reveal().decode()}"
    began = SYSTEM.monotonic()
    try:
        answer = fetch.get(
            f"{where}/models",
            addresses=address_filter(),
            headers=headers,
            max_bytes=_MAX_ANSWER,
            timeout=ANSWER_SECONDS,
        )
    except OutboundError as fault:
        return _Reply(None, _since(began), str(fault))
    known = secret.reveal().decode() if secret else ""
    return _judged(answer, _since(began), known)


def _since(began: float) -> int:
    return round((SYSTEM.monotonic() - began) * 1000)


def _judged(answer: Answer, latency_ms: int, secret: str) -> _Reply:
    if answer.status != 200:
        said = _shown(answer.body, secret)
        sentence = f"The upstream answered with status {answer.status}{': ' if said else '.'}{said}"
        return _Reply(answer.status, latency_ms, sentence)
    models = _ids(answer.body)
    if models is None:
        return _Reply(200, latency_ms, "The upstream answered something that is no list of models.")
    return _Reply(200, latency_ms, f"The upstream answered with {len(models)} models.", models)


def _shown(body: bytes, secret: str) -> str:
    """The beginning of an error body as one safe line: upstreams like to repeat the credential they were sent."""
    text = body[: _SHOWN_CHARACTERS * 8].decode("utf-8", "replace")
    if secret:
        text = text.replace(secret, "***")
    return audit.clean_text(_SPACES.sub(" ", text).strip(), _SHOWN_CHARACTERS)


def _ids(body: bytes) -> list[str] | None:
    """`{"data": [{"id"}]}`, or a bare list as some servers have it. Null when it is neither."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    listed = value.get("data") if isinstance(value, dict) else value
    if not isinstance(listed, list):
        return None
    ids = [item["id"] for item in listed if isinstance(item, dict) and _is_id(item.get("id"))]
    return list(dict.fromkeys(ids))[:_MAX_MODELS]


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID and value.isprintable()


# --- taking models over -----------------------------------------------------------------------------------------------


def import_models(
    *, actor: Actor, provider_id: UUID, match: str = "*", progress: Progress = lambda done, of: None
) -> ImportResult:
    """Add what the upstream lists and `match` (a glob on its ids) fits, as `<provider>/<id>` and as `<id>` where that is free.

    Shared models for a shared provider, the tenant's own for a tenant's. Each is a change of its own, so what an
    interruption left out comes with the next import. An upstream that cannot be reached gives its preset's short list;
    raises `UpstreamSilent` when there is none or it refuses us, `CredentialUnreadable`, `Invalid`, `NotFound`.
    """
    if not 1 <= len(match) <= _MATCH_CHARACTERS:
        raise Invalid.field("match", f"must be 1 to {_MATCH_CHARACTERS} characters.")
    provider = _provider(provider_id)
    reply = _ask(provider)
    offline = reply.models is None and reply.status is None and bool(_known(provider))
    if reply.models is None and not offline:
        raise UpstreamSilent(reply.sentence)
    ids = [it for it in reply.models or _known_ids(provider) if fnmatchcase(it, match)]
    result = ImportResult(offline=offline)
    for done, upstream_id in enumerate(ids):
        progress(done, len(ids))
        for name in _names(provider, upstream_id):
            added = _add(actor, provider, name, upstream_id)
            (result.added if added else result.skipped).append(name)
    return result


def _known(provider: Provider) -> dict[str, PresetModel]:
    """What the preset knows, by the upstream's ids."""
    return {model.upstream_id: model for model in presets.preset(provider.kind).models}


def _known_ids(provider: Provider) -> list[str]:
    return list(_known(provider))


def _names(provider: Provider, upstream_id: str) -> Iterator[str]:
    """Ours for an upstream's model. What is built in has no bare names: `echo` would say nothing about being a demo."""
    yield f"{_SPACES.sub('-', provider.name)}/{upstream_id}"
    if not presets.preset(provider.kind).in_process:
        yield upstream_id


def _add(actor: Actor, provider: Provider, name: str, upstream_id: str) -> bool:
    """False when the name is taken, or we have no use or no room for such a model."""
    if _OTHER_KINDS.search(upstream_id) and upstream_id not in _known(provider):
        return False
    # A refused creation is an audit row; a name that is taken, as most are the second time, is worth none.
    if Model.objects.filter(name=name, tenant=provider.tenant_id).exists():
        return False
    try:
        model_services.create_model(
            actor=actor,
            tenant_id=provider.tenant_id,
            id=name,
            targets=[{"provider": str(provider.id), "upstream_model": upstream_id}],
            **_facts(provider, upstream_id),
        )
    except (Conflict, Invalid):
        return False
    return True


def _facts(provider: Provider, upstream_id: str) -> dict[str, Any]:
    """Capability, windows and price as far as the preset knows them; of an unknown id, what its name says."""
    known = _known(provider).get(upstream_id)
    if known is None:
        is_embedding = "embed" in upstream_id.lower()
        return {"capability": str(_EMBEDDING if is_embedding else _CHAT)}
    facts: dict[str, Any] = {
        "capability": known.capability,
        "context_window": known.context_window,
        "max_output_tokens": known.max_output,
    }
    if known.input_usd is not None and known.output_usd is not None:
        price = {
            "input_usd_per_mtok": known.input_usd,
            "output_usd_per_mtok": known.output_usd,
            "cached_input_usd_per_mtok": known.cached_usd,
        }
        facts["prices"] = [price]
    return facts
