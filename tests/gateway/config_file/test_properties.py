"""Whatever two files say: the first is stable once applied, what is shown is as good as it, and the second can be taken back."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config_file import applying, exporting, shape, sources
from gateway.config_file.faults import ConfigInvalid
from keys import tokens
from tenants.actor import Actor
from tenants.models import AuditEvent
from tests.gateway.config_file.state import configured

# On one database: many files, each through the services that other tests take through both.
pytestmark = pytest.mark.sqlite

_SECRETS = [tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode() for _ in range(4)]
_LIMITS = {
    "rate_limit_rpm": st.none() | st.integers(1, 999),
    "rate_limits": st.none() | st.just(["5/s", "100/h"]),
    "cost_budget_usd": st.none() | st.sampled_from(["5", "0.50", "1000"]),
    "clamp_to_budget": st.booleans(),
    "max_concurrency": st.none() | st.integers(1, 50),
}


def some(fields: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


def each(
    names: list[str], made: Callable[[str], st.SearchStrategy[dict[str, Any]]]
) -> st.SearchStrategy[list[Any]]:
    """Entries for any of the names."""
    chosen = st.lists(st.sampled_from(names), unique=True)
    return chosen.flatmap(lambda found: st.tuples(*[made(name) for name in found]).map(list))


def provider(name: str) -> st.SearchStrategy[dict[str, Any]]:
    more = {
        "api_key": st.none() | st.sampled_from(["sk-one-0123456789", "sk-two-0123456789"]),
        "is_active": st.booleans(),
        "disconnect_policy": st.sampled_from(["cancel", "drain"]),
        **_LIMITS,
    }
    return some(more).map(lambda it: {"name": name, "kind": "openai", **it})


def model(providers: list[str]) -> Callable[[str], st.SearchStrategy[dict[str, Any]]]:
    target = st.builds(
        lambda provider, upstream, priority: {
            "provider": provider,
            "upstream_model": upstream,
            "priority": priority,
        },
        st.sampled_from(providers) if providers else st.nothing(),
        st.sampled_from(["x", "y"]),
        st.integers(0, 2),
    )
    unique = st.lists(
        target, max_size=3, unique_by=lambda it: (it["provider"], it["upstream_model"])
    )
    price = st.sampled_from(["1", "2.5"]).map(
        lambda usd: {"input_usd_per_mtok": usd, "output_usd_per_mtok": "3"}
    )
    more = {
        "targets": unique if providers else st.just([]),
        "prices": st.lists(price, max_size=1),
        "context_window": st.none() | st.integers(1, 10**6),
        **_LIMITS,
    }
    return lambda name: some(more).map(lambda it: {"id": name, **it})


def key(name: str, projects: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    secret = _SECRETS[int(name[-1])]
    way = st.sampled_from([{"secret": secret}, {"made": True}])
    more = {
        "project": st.none() | st.sampled_from(projects) if projects else st.none(),
        "is_active": st.booleans(),
        "allowed_models": st.none() | st.just(["a", "b*"]),
        "scopes": st.sampled_from([["inference"], ["inference", "usage"]]),
        "expires_at": st.none() | st.just("2040-01-01T00:00:00Z"),
        **_LIMITS,
    }
    return st.tuples(way, some(more)).map(lambda pair: {"name": name, **pair[0], **pair[1]})


@st.composite
def tenant(draw: st.DrawFn, slug: str, shared: list[str]) -> dict[str, Any]:
    said: dict[str, Any] = {"slug": slug, "name": f"Tenant {slug}", **draw(some(_LIMITS))}
    said["projects"] = draw(
        each(["pa", "pb"], lambda name: some(_LIMITS).map(lambda it: {"name": name, **it}))
    )
    said["accounts"] = draw(
        each(["bob"], lambda name: some(_LIMITS).map(lambda it: {"username": name, **it}))
    )
    said["providers"] = draw(each(["own"], provider))
    names = [*shared, *(it["name"] for it in said["providers"])]
    said["models"] = draw(each(["ours"], model(names)))
    projects = [it["name"] for it in said["projects"]]
    # A secret belongs to one key, so each tenant has names of its own.
    keys = {"one": ["k0", "k1"], "two": ["k2", "k3"]}[slug]
    said["keys"] = draw(each(keys, lambda name: key(name, projects)))
    if draw(st.booleans()):
        said["provider_config"] = draw(
            st.none() | st.just({"provider": "openai", "api_key": "sk-config-0123456789"})
        )
    return said


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    providers = draw(each(["main", "spare"], provider))
    names = [it["name"] for it in providers]
    slugs = draw(st.lists(st.sampled_from(["one", "two"]), unique=True))
    return {
        "prune": draw(st.booleans()),
        "providers": providers,
        "models": draw(each(["fast", "slow"], model(names))),
        "tenants": [draw(tenant(slug, names)) for slug in slugs],
    }


def apply(text: str, actor: Actor) -> applying.Applied:
    return applying.apply(shape.read(text, sources.over_http), actor)


def is_applied(text: str, actor: Actor) -> bool:
    """A file that prunes a provider which a model still leads to is refused."""
    try:
        return apply(text, actor).is_new
    except ConfigInvalid as refusal:
        assert "cannot be pruned" in refusal.message  # noqa: PT017 - both ways out are good ones
        return False


@pytest.mark.slow
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=documents(), second=documents())
def test_a_file_is_stable_and_what_follows_it_can_be_taken_back(
    db: None, staging: Actor, first: dict[str, Any], second: dict[str, Any]
) -> None:
    with transaction.atomic():
        one, two = json.dumps(first), json.dumps(second)
        beginning = configured()
        made = apply(one, staging)
        before, rows = configured(), AuditEvent.objects.count()
        assert applying.plan(shape.read(one, sources.over_http), staging).is_empty
        assert not apply(one, staging).is_new
        shown = shape.read(exporting.text(), sources.over_http)
        assert applying.plan(shown, staging).is_empty
        assert (configured(), AuditEvent.objects.count()) == (before, rows)
        if is_applied(two, staging):
            assert applying.rollback(staging).warnings == []
        assert configured() == before
        if made.is_new:
            applying.rollback(staging)
            assert configured() == beginning
        transaction.set_rollback(True)
