"""Whose budget a round is about: a key, a project, a tenant, an account; and the model that all calls go to."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from gateway.proofs.house import AdminAPI
from gateway.proofs.upstream import COMPLETION_TOKENS
from gateway.proofs.witness import Name
from usage.money import NANO_PER_USD, usd_text

#: USD per million tokens of output, and nano-USD per token. The input is free: then a bound is known to the last nano-USD.
_PRICE: Final = {"input_usd_per_mtok": "0", "output_usd_per_mtok": "10"}
_TOKEN_NANO: Final = 10 * NANO_PER_USD // 1_000_000
COST: Final = COMPLETION_TOKENS * _TOKEN_NANO
MODEL: Final = "prove"
_KEYS_OF_A_GROUP: Final = 3
#: The default would let through no more than so many a minute.
_NO_RATE: Final[dict[str, Any]] = {"rate_limit_rpm": None}


@dataclass(frozen=True)
class Budget:
    """What a round is about: `name` the balance that is watched, `credentials` the keys that share it."""

    name: Name
    credentials: Sequence[str]
    final_code: str = "budget_exhausted"


async def furnish(api: AdminAPI, upstream: int) -> None:
    """One provider on this port, one model."""
    provider = await api.post(
        "providers",
        name=MODEL,
        kind="openai-compatible",
        base_url=f"http://127.0.0.1:{upstream}/v1",
        api_key=f"sk-{secrets.token_hex(16)}",
    )
    target = {"provider": provider["id"], "upstream_model": MODEL}
    await api.post("models", id=MODEL, targets=[target], prices=[_PRICE])


#: Sets a budget of so many nano-USD on something new of that name.
Maker = Callable[[AdminAPI, str, int], Awaitable[Budget]]


async def _tenant(api: AdminAPI, label: str, **limits: Any) -> str:
    return str((await api.post("tenants", name=label, slug=label, **_NO_RATE, **limits))["id"])


async def _keys(api: AdminAPI, tenant: str, count: int = 1, **fields: Any) -> list[Any]:
    return [
        await api.post(f"tenants/{tenant}/api-keys", name=f"k{number}", **fields)
        for number in range(count)
    ]


def _of_a_key(column: str, window: str) -> Maker:
    async def made(api: AdminAPI, label: str, limit: int) -> Budget:
        tenant = await _tenant(api, label)
        limits: dict[str, Any] = {column: usd_text(limit)}
        (key,) = await _keys(api, tenant, **limits)
        return Budget(Name(UUID(key["id"]), "nano_usd", window), [key["key"]])

    return made


async def _of_a_project(api: AdminAPI, label: str, limit: int) -> Budget:
    tenant = await _tenant(api, label)
    project = await api.post(
        "projects", tenant=tenant, name=label, cost_budget_total_usd=usd_text(limit)
    )
    keys = await _keys(api, tenant, _KEYS_OF_A_GROUP, project=project["id"])
    return Budget(Name(UUID(project["id"]), "nano_usd", "total"), [key["key"] for key in keys])


async def _of_a_tenant(api: AdminAPI, label: str, limit: int) -> Budget:
    tenant = await _tenant(api, label, cost_budget_usd=usd_text(limit))
    keys = await _keys(api, tenant, _KEYS_OF_A_GROUP)
    return Budget(Name(UUID(tenant), "nano_usd", "month"), [key["key"] for key in keys])


async def _of_an_account(api: AdminAPI, label: str, limit: int) -> Budget:
    tenant = await _tenant(api, label)
    account = await api.post("users", tenant=tenant, username=label)
    await api.post(f"users/{account['id']}/top-up", amount_usd=usd_text(limit))
    keys = await _keys(api, tenant, _KEYS_OF_A_GROUP, account=account["id"])
    name = Name(UUID(account["id"]), "nano_usd", "prepaid")
    return Budget(name, [key["key"] for key in keys], "balance_exhausted")


KINDS: Final[dict[str, Maker]] = {
    "key": _of_a_key("cost_budget_usd", "month"),
    "account": _of_an_account,
    "project": _of_a_project,
    "tenant": _of_a_tenant,
    "key-day": _of_a_key("cost_budget_day_usd", "day"),
}
