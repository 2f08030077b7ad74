"""What accounts and models of other gateways are called here: a provider for each account, with a name that says which it is."""

import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.imports.plan import Plan, PlannedProvider
from keys.services import pepper
from providers import presets, price_table, services
from providers.models import Model, Provider
from providers.price_import import complete, listed_for
from tenants.clock import SYSTEM
from tenants.errors import Invalid
from tenants.outbound import OutboundError

_TAG_BYTES: Final = 3
#: How models are called of which nobody says what they are for.
_EMBEDDING: Final = "embed"

ReadVariable = Callable[[str], str]


def provider(
    plan: Plan, *, kind: str, base_url: str = "", api_key: str = "", api_version: str = ""
) -> str:
    """The reference of the account, which is in the plan from then on. Raises `Invalid` for one that cannot be had here."""
    known = presets.PRESETS.get(kind)
    if known is None:
        raise Invalid.field("model", f"{kind} is no kind of provider here.")
    kind, base_url = _placed(kind, base_url.strip().rstrip("/"))
    whole = f"{kind}|{base_url}|{api_version}|{api_key}".encode()
    # Always the same for the same account, and it tells nothing of the credential.
    tag = hmac.digest(pepper()[1].reveal(), whole, "sha256")[:_TAG_BYTES].hex()
    reference = f"{plan.source}-{kind}-{tag}"
    if reference in plan.providers:
        return reference
    fields: dict[str, Any] = {"name": reference, "kind": kind}
    given = {"base_url": base_url, "api_key": api_key, "api_version": api_version}
    fields |= {name: value for name, value in given.items() if value}
    _check(fields)
    plan.providers[reference] = PlannedProvider(fields)
    if known.needs_key and not api_key:
        why = "none was given; `provider rotate-credential` enters one."
        plan.leave(f"provider {reference}", "credential", why)
    return reference


def _placed(kind: str, base_url: str) -> tuple[str, str]:
    """Whoever speaks as OpenAI does from elsewhere is not OpenAI; and an address that the preset has need not be said."""
    own = presets.PRESETS[kind].base_url
    if base_url == own.rstrip("/"):
        return kind, ""
    if kind == "openai" and base_url and urlsplit(base_url).hostname != urlsplit(own).hostname:
        return "openai-compatible", base_url
    return kind, base_url


def _check(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        services.CREATE_RULES[name](name, value)
    if not fields.get("base_url") and not presets.PRESETS[fields["kind"]].base_url:
        raise Invalid.field("api_base", "must be given for this kind.")
    try:
        if fields.get("base_url"):
            services.address_filter().check_destination(fields["base_url"])
    except OutboundError as fault:
        raise Invalid.field("api_base", str(fault)) from None


def capability_of(name: str, mode: object = None) -> str | None:
    """What a model is for by LiteLLM's word, else by its name; None: nothing that a model here can be for."""
    word = {
        None: "embedding" if _EMBEDDING in name.lower() else "chat",
        "completion": "chat",
        "responses": "chat",
        "image_generation": "image",
        "audio_speech": "speech",
        "audio_transcription": "transcription",
    }.get(mode if isinstance(mode, str) else None, str(mode))
    return word if word in Model.Capability.values else None


def listed_facts(plan: Plan, reference: str, upstream: str, capability: str) -> dict[str, Any]:
    """Price and window of a model by the price list, as far as it knows them."""
    fields = plan.providers[reference].fields
    asked = Provider(kind=fields["kind"], base_url=fields.get("base_url", ""))
    listed = listed_for(price_table.built_in(), asked, upstream, SYSTEM.now())
    if listed is None:
        return {}
    facts: dict[str, Any] = {}
    if listed.context_window:
        facts["context_window"] = listed.context_window
    price = complete(listed.fields, capability) if listed.fields else None
    return facts if price is None else {**facts, "prices": [price]}
