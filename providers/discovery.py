"""Asking an upstream what it has: the test of a provider, the list of its models, and taking those over as models of ours."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final
from uuid import UUID

from providers import health, listing, model_services, presets, price_table
from providers.listing import Reply
from providers.models import Model, Provider
from providers.presets import PresetModel
from providers.price_import import complete, listed_for
from providers.services import dialect_of, target_of
from tenants import audit
from tenants.actor import Actor
from tenants.audit import Entry
from tenants.changes import note
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound, Unavailable
from tenants.models import AuditEvent

MATCH_CHARACTERS: Final = 128
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


#: Hears how many of how many ids have been looked at.
Progress = Callable[[int, int], object]


def test_provider(*, actor: Actor, provider_id: UUID) -> TestResult:
    """Ask for the list of models, which costs nothing anywhere, and write down how it went.

    Raises `NotFound`, `CredentialUnreadable`, `Invalid` (no usable address).
    """
    provider = _provider(provider_id)
    reply = listing.ask(provider)
    health.record(provider.id, reply)
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


def _provider(provider_id: UUID) -> Provider:
    found = Provider.objects.filter(pk=provider_id).first()
    if found is None:
        raise NotFound
    return found


# --- taking models over -----------------------------------------------------------------------------------------------


def import_models(
    *,
    actor: Actor,
    provider_id: UUID,
    match: object = "*",
    progress: Progress = lambda done, of: None,
) -> ImportResult:
    """Add what the upstream lists and `match` (a glob on its ids) fits, as `<provider>/<id>` and as `<id>` where that is free.

    Shared models for a shared provider, the tenant's own for a tenant's. Each is a change of its own, so what an
    interruption left out comes with the next import. An upstream that cannot be reached gives its preset's short list, and
    one whose list does not say what it serves is not asked: its deployment is what it has.

    Raises `UpstreamSilent` when there is no list or it refuses us, `CredentialUnreadable`, `Invalid`, `NotFound`.
    """
    if not isinstance(match, str) or not 1 <= len(match) <= MATCH_CHARACTERS:
        raise Invalid.field("match", f"must be a text of 1 to {MATCH_CHARACTERS} characters.")
    provider = _provider(provider_id)
    reply = _offered(provider)
    offline = reply.models is None and reply.status is None and bool(_known(provider))
    if reply.models is None and not offline:
        raise UpstreamSilent(reply.sentence)
    ids = [it for it in reply.models or _known_ids(provider) if fnmatchcase(it, match)]
    result = ImportResult(offline=offline)
    for done, upstream_id in enumerate(ids):
        progress(done, len(ids))
        for name in _names(provider, upstream_id):
            added = _add(actor, provider, name, upstream_id, reply.embedding)
            (result.added if added else result.skipped).append(name)
    return result


def _offered(provider: Provider) -> Reply:
    """What can be called there."""
    if dialect_of(provider.kind).LISTS_WHAT_IT_SERVES:
        return listing.ask(provider)
    if not provider.deployment:
        raise Invalid.field(
            "deployment",
            "must be set to import: the upstream lists what it could deploy, not what is deployed. "
            "Or add models whose targets name deployments.",
        )
    return Reply(None, 0, "", [provider.deployment])


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


def _add(
    actor: Actor, provider: Provider, name: str, upstream_id: str, embedding: frozenset[str]
) -> bool:
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
            **_facts(provider, upstream_id, upstream_id in embedding),
        )
    except (Conflict, Invalid):
        return False
    return True


def _facts(provider: Provider, upstream_id: str, makes_vectors: bool) -> dict[str, Any]:
    """Capability and windows as far as the preset knows them, price and window as far as the price table does; of an unknown
    id, what its name says.
    """
    known = _known(provider).get(upstream_id)
    listed = listed_for(price_table.built_in(), provider, upstream_id, SYSTEM.now())
    if known is not None:
        facts: dict[str, Any] = {
            "capability": known.capability,
            "context_window": known.context_window,
            "max_output_tokens": known.max_output,
        }
    else:
        is_embedding = makes_vectors or "embed" in upstream_id.lower()
        facts = {"capability": str(_EMBEDDING if is_embedding else _CHAT)}
        if listed is not None and listed.context_window:
            facts["context_window"] = listed.context_window
    price = complete(listed.fields, facts["capability"]) if listed and listed.fields else None
    return facts if price is None else {**facts, "prices": [price]}
