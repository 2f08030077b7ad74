"""The tables of one-api and new-api: tokens as keys, users as accounts, channels as providers and models.

A token stands there in clear, and clients send it with `sk-` before it; what comes after a further hyphen picks a channel, and
is no part of the key. 500,000 of quota are a dollar. Source: model/token.go, channel.go and user.go and middleware/auth.go of
songquanpeng/one-api, and the same of QuantumNous/new-api, which numbers some kinds of channels otherwise.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from gateway.imports import amounts, upstreams
from gateway.imports.files import Row
from gateway.imports.plan import Plan, PlannedGroup, PlannedModel, Used
from providers import model_services, presets
from tenants.errors import Invalid
from tenants.models import MAX_BUDGET_NANO
from usage.money import NANO_PER_USD, usd_text

TOKENS: Final = "tokens"
USERS: Final = "users"
CHANNELS: Final = "channels"
TABLES: Final = (TOKENS, USERS, CHANNELS)

_NANO_PER_QUOTA: Final = NANO_PER_USD // 500_000
_ENABLED: Final = 1
_EXPIRED: Final = 3
_EXHAUSTED: Final = 4
_NEVER: Final = -1
#: The kind of channel of one-api whose address has all that comes before the endpoint.
_WHOLE: Final = 50
#: Kinds of channels that both number alike, then those of each.
_ALIKE: Final = {
    1: "openai",
    3: "azure",
    8: "openai-compatible",
    14: "anthropic",
    20: "openrouter",
    24: "gemini",
}
_ONE_API: Final = {
    **_ALIKE,
    28: "mistral",
    29: "groq",
    30: "ollama",
    36: "deepseek",
    39: "together",
    45: "xai",
    _WHOLE: "openai-compatible",
}
_NEW_API: Final = {**_ALIKE, 4: "ollama", 42: "mistral", 43: "deepseek", 48: "xai"}
#: Columns that only new-api has.
_NEWER: Final = frozenset(("model_limits_enabled", "allow_ips", "channel_info"))
_SHOWN: Final = 9


def read(plan: Plan, tables: Mapping[str, Sequence[Row]]) -> None:
    """Into the plan."""
    columns = {name for rows in tables.values() for row in rows[:1] for name in row.values}
    kinds = _NEW_API if columns & _NEWER else _ONE_API
    users = {str(row.values.get("id")): row for row in tables.get(USERS, ())}
    # The channel of the highest priority is asked first, as it is there.
    for row in sorted(tables.get(CHANNELS, ()), key=_rank):
        try:
            _channel(plan, row, kinds)
        except Invalid as fault:
            plan.fault(row.where, fault)
    for row in tables.get(TOKENS, ()):
        try:
            _token(plan, row, users)
        except Invalid as fault:
            plan.fault(row.where, fault)


# --- tokens and users -------------------------------------------------------------------------------------------------


def _token(plan: Plan, row: Row, users: Mapping[str, Row]) -> None:
    values = row.values
    if not amounts.is_nothing(values.get("deleted_at")):
        return
    text = str(values.get("key") or "").strip().removeprefix("sk-")
    if not text or not text.isascii() or not text.isalnum():
        raise Invalid.field("key", "must be letters and digits.")
    secret = f"sk-{text}"
    name = str(values.get("name") or "").strip() or secret[:_SHOWN]
    whose = f"key {name}"
    account, is_stopped = _account(plan, whose, values, users)
    budget, used = _quota(whose, plan, values)
    expires = amounts.whole("expired_time", values.get("expired_time"))
    group = str(values.get("group") or "")
    if group:
        plan.leave(whose, f"group {group}", "groups have no place here.")
    plan.add_key(
        row.where,
        sha256(secret.encode()).digest(),
        {
            "name": name,
            "allowed_models": _models(values),
            "allowed_addresses": _addresses(values),
            "expires_at": _moment(expires),
            "is_active": not is_stopped and _is_enabled(values, expires),
            **budget,
        },
        shown=secret[:_SHOWN],
        account=account,
        used=used,
    )


def _is_enabled(values: Mapping[str, Any], expires: int | None) -> bool:
    """An exhausted or expired one is that here as well, and is turned off only if nothing else would say so."""
    status = amounts.whole("status", values.get("status"))
    if status == _EXHAUSTED:
        is_unlimited = amounts.truth("unlimited_quota", values.get("unlimited_quota"))
        return not is_unlimited and not amounts.whole("remain_quota", values.get("remain_quota"))
    if status == _EXPIRED:
        return expires not in (None, _NEVER)
    return status in (None, _ENABLED)


def _moment(seconds: int | None) -> datetime | None:
    if seconds is None or seconds == _NEVER:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise Invalid.field("expired_time", "lies outside of the calendar.") from None


def _quota(whose: str, plan: Plan, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Used]]:
    """What is left and what was used are the budget together, of which so much was used."""
    if amounts.truth("unlimited_quota", values.get("unlimited_quota")):
        return {}, []
    left = max(0, amounts.whole("remain_quota", values.get("remain_quota")) or 0)
    spent = max(0, amounts.whole("used_quota", values.get("used_quota")) or 0)
    # A budget is more than nothing: one of nothing is the smallest there is, and used.
    nano = max(1, (left + spent) * _NANO_PER_QUOTA)
    used = nano if not left else spent * _NANO_PER_QUOTA
    if nano > MAX_BUDGET_NANO:
        plan.leave(whose, "remain_quota", "is more than any budget here, so it is none.")
        return {}, []
    return {"cost_budget_total_usd": usd_text(nano)}, [Used("total", used)] if used else []


def _account(
    plan: Plan, whose: str, values: Mapping[str, Any], users: Mapping[str, Row]
) -> tuple[str, bool]:
    """The account of a token's user, paid in with what the user has left; and whether the user may not call at all."""
    reference = str(values.get("user_id") or "")
    row = users.get(reference)
    if row is None:
        if users:
            plan.leave(whose, f"user {reference}", "is not in these tables.")
        return "", False
    user = row.values
    name = str(user.get("username") or reference)
    if reference not in plan.accounts:
        left = max(0, amounts.whole("quota", user.get("quota")) or 0) * _NANO_PER_QUOTA
        group = PlannedGroup(name, _email(user), paid_in=min(left, MAX_BUDGET_NANO))
        plan.accounts[reference] = group
    return reference, amounts.whole("status", user.get("status")) not in (None, _ENABLED)


def _email(user: Mapping[str, Any]) -> dict[str, str]:
    email = str(user.get("email") or "")
    return {"email": email} if email else {}


def _models(values: Mapping[str, Any]) -> list[str] | None:
    """A list between commas; new-api has a switch beside it."""
    text = values.get("models")
    if amounts.truth("model_limits_enabled", values.get("model_limits_enabled")):
        text = values.get("model_limits")
    names = [name.strip() for name in str(text or "").split(",")]
    return [name for name in names if name] or None


def _addresses(values: Mapping[str, Any]) -> list[str] | None:
    """Subnets between commas, or lines of new-api's."""
    text = str(values.get("subnet") or values.get("allow_ips") or "").replace("\n", ",")
    found = [part.strip() for part in text.split(",")]
    return [part for part in found if part] or None


# --- channels ---------------------------------------------------------------------------------------------------------


def _rank(row: Row) -> tuple[int, str]:
    try:
        return -(amounts.whole("priority", row.values.get("priority")) or 0), row.where
    except Invalid:
        return 0, row.where


def _channel(plan: Plan, row: Row, kinds: Mapping[int, str]) -> None:
    values = row.values
    whose = f"channel {values.get('name') or values.get('id')}"
    number = amounts.whole("type", values.get("type"))
    kind = kinds.get(number or 0)
    if kind is None or kind not in presets.PRESETS:
        plan.leave(whose, f"type {number}", "no provider here speaks that.")
        return
    if amounts.whole("status", values.get("status")) not in (None, _ENABLED):
        plan.leave(whose, "status", "it is turned off there.")
        return
    key = str(values.get("key") or "").strip()
    if "\n" in key or key.startswith("["):
        plan.leave(whose, "key", "is several; the first one comes along.")
        key = key.strip("[]").replace('"', "").replace(",", "\n").split("\n")[0].strip()
    config = amounts.mapping("config", values.get("config"))
    version = config.get("api_version") or values.get("other") or ""
    reference = upstreams.provider(
        plan,
        kind=kind,
        base_url=_base_url(kind, str(values.get("base_url") or ""), is_whole=number == _WHOLE),
        api_key=key,
        api_version=str(version) if kind == "azure" else "",
    )
    for name in ("system_prompt", "param_override", "header_override", "status_code_mapping"):
        if not amounts.is_nothing(values.get(name)):
            plan.leave(whose, name, "has no place here.")
    mapping = amounts.mapping("model_mapping", values.get("model_mapping"))
    # one-api asks Azure for deployments without the dots of a model's name.
    drops_dots = kind == "azure" and kinds is _ONE_API
    names = [name.strip() for name in str(values.get("models") or "").split(",")]
    for name in dict.fromkeys(name for name in names if name):
        upstream = str(mapping.get(name, name))
        _model(plan, row, reference, name, upstream.replace(".", "") if drops_dots else upstream)


def _base_url(kind: str, text: str, *, is_whole: bool) -> str:
    """There `/v1` is put behind an address, but for one kind; here it is part of it. Ollama's and Azure's are as here."""
    base = text.strip().rstrip("/")
    if not base or is_whole or kind in {"ollama", "azure"} or base.endswith("/v1"):
        return base
    return f"{base}/v1"


def _model(plan: Plan, row: Row, reference: str, name: str, upstream: str) -> None:
    capability = upstreams.capability_of(upstream)
    if capability is None:
        return
    model_services.CREATE_RULES["id"]("models", name)
    model = plan.models.get(name)
    if model is None:
        facts = upstreams.listed_facts(plan, reference, upstream, capability)
        fields = {"id": name, "capability": capability, **facts}
        model = plan.models[name] = PlannedModel(row.where, fields)
    if (reference, upstream) not in model.targets:
        model.targets.append((reference, upstream))
