"""Which target? The four rules, over pictures made by hand: nothing here knows a database."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import dialects
from providers.credentials import SealedCredential
from providers.routing import (
    Catalogue,
    OwnRoutes,
    Plan,
    Route,
    Serving,
    Upstream,
    plan,
    visible,
)
from providers.types import Origin, PriceTag

TENANT = UUID(int=1)
NOTHING = OwnRoutes(Catalogue(), None)


def upstream(name: str, kind: str = "openai", *, tenant: UUID | None = None, sealed: bool = True):
    identity = uuid4()
    return Upstream(
        id=identity,
        name=name,
        kind=kind,
        dialect=dialects.dialect("openai"),
        origin=Origin("https", f"{name}.example", 443),
        path="/v1",
        in_process=False,
        tenant_id=tenant,
        credential=SealedCredential(uuid4(), 1, tenant, "b", b"sealed") if sealed else None,
        key=None,
    )


SHARED = upstream("shared")
SECOND = upstream("second", "groq")
OWN = upstream("own", tenant=TENANT)


def route(name: str, *targets: Serving, is_active: bool = True) -> Route:
    return Route(name, "chat", is_active, None, None, targets, ())


def names(found: Plan | None) -> list[tuple[str, str]] | None:
    return None if found is None else [(it.upstream.name, it.model) for it in found.targets]


def decide(
    name: str, *, shared: tuple[Route, ...] = (), own: tuple[Route, ...] = (), default=None
) -> list[tuple[str, str]] | None:
    return names(plan(name, Catalogue(shared), OwnRoutes(Catalogue(own), default)))


M = route("m", Serving(SHARED, "m-1"), Serving(SECOND, "m-2"))
GROQ = upstream("own-groq", "groq", tenant=TENANT)


# --- the rules --------------------------------------------------------------------------------------------------------


def test_a_tenants_own_model_comes_first():
    own = route("m", Serving(OWN, "mine"))
    assert decide("m", shared=(M,), own=(own,), default=OWN) == [("own", "mine")]


def test_then_the_shared_one_in_the_order_of_its_targets():
    assert decide("m", shared=(M,)) == [("shared", "m-1"), ("second", "m-2")]


def test_then_the_tenants_own_provider_with_the_name_as_it_was_given():
    assert decide("any/Name:1", shared=(M,), default=OWN) == [("own", "any/Name:1")]


def test_else_nothing():
    assert decide("x", shared=(M,)) is None
    assert decide("x") is None


@pytest.mark.parametrize("default", [None, OWN])
def test_an_own_model_that_is_turned_off_hides_the_shared_one(default):
    off = route("m", Serving(OWN, "mine"), is_active=False)
    assert decide("m", shared=(M,), own=(off,), default=default) is None


def test_a_shared_model_that_is_turned_off_is_not_there():
    off = replace(M, is_active=False)
    assert decide("m", shared=(off,)) is None
    assert decide("m", shared=(off,), default=OWN) == [("own", "m")]


def test_a_model_without_targets_is_there_and_served_by_nobody():
    assert decide("m", shared=(route("m"),)) == []
    assert decide("m", own=(route("m"),), shared=(M,), default=OWN) == []


# --- whose credential -------------------------------------------------------------------------------------------------


def test_a_target_of_the_same_kind_is_called_with_the_tenants_own_credential():
    assert decide("m", shared=(M,), default=OWN) == [("own", "m-1"), ("second", "m-2")]
    assert decide("m", shared=(M,), default=GROQ) == [("shared", "m-1"), ("own-groq", "m-2")]


def test_without_a_credential_of_its_own_a_tenant_uses_the_shared_one():
    bare = upstream("bare", tenant=TENANT, sealed=False)
    assert decide("m", shared=(M,), default=bare) == [("shared", "m-1"), ("second", "m-2")]


def test_a_failing_own_provider_is_not_replaced_by_the_shared_credential():
    own = replace(NOTHING, unusable_kind="openai")
    assert names(plan("m", Catalogue([M]), own)) == [("second", "m-2")]
    assert names(plan("unlisted", Catalogue([M]), own)) == []


def test_a_tenants_own_model_is_called_with_what_it_names():
    """It names a shared provider on purpose: the tenant's default does not come in between."""
    own = route("m", Serving(SHARED, "x"))
    assert decide("m", own=(own,), default=OWN) == [("shared", "x")]


shapes = st.lists(
    st.tuples(st.sampled_from(["openai", "groq", "mistral"]), st.sampled_from(["a", "b"])),
    max_size=4,
)


@given(shapes, st.sampled_from(["openai", "groq", "mistral", "other"]), st.booleans())
def test_an_own_credential_goes_to_its_own_provider_and_only_for_its_kind(targets, kind, sealed):
    shared = [upstream(f"s{n}", of) for n, (of, _) in enumerate(targets)]
    default = upstream("own", kind, tenant=TENANT, sealed=sealed)
    model = route("m", *(Serving(it, name) for it, (_, name) in zip(shared, targets, strict=True)))
    found = plan("m", Catalogue([model]), OwnRoutes(Catalogue(), default))
    assert found is not None
    for before, after, (of, name) in zip(shared, found.targets, targets, strict=True):
        assert after.model == name
        assert after.upstream is (default if of == kind and sealed else before)


# --- prefixes ---------------------------------------------------------------------------------------------------------


def test_an_exact_name_beats_a_prefix_and_a_longer_prefix_a_shorter():
    routes = (
        route("*", Serving(SHARED, "*")),
        route("gpt-*", Serving(SHARED, "short-*")),
        route("gpt-4*", Serving(SHARED, "long-*")),
        route("gpt-4o", Serving(SHARED, "exact")),
    )
    for order in (routes, routes[::-1]):
        assert decide("gpt-4o", shared=order) == [("shared", "exact")]
        assert decide("gpt-4.1", shared=order) == [("shared", "long-.1")]
        assert decide("gpt-5", shared=order) == [("shared", "short-5")]
        assert decide("claude", shared=order) == [("shared", "claude")]
        assert decide("gpt-", shared=order) == [("shared", "short-")]


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("*", "llama/70b"),
        ("meta/*", "meta/llama/70b"),
        ("fixed", "fixed"),
        ("*-*", "llama/70b-*"),
    ],
)
def test_the_star_of_a_target_stands_for_the_open_part(target, sent):
    assert decide("my/llama/70b", shared=(route("my/*", Serving(SHARED, target)),)) == [
        ("shared", sent)
    ]


def test_a_star_in_the_name_that_was_asked_for_means_nothing():
    assert decide("m*", shared=(M,)) is None
    assert decide("*", shared=(M,)) is None


def test_an_own_prefix_comes_before_a_shared_exact_name():
    own = route("*", Serving(OWN, "*"))
    assert decide("m", shared=(M,), own=(own,)) == [("own", "m")]


def test_what_is_listed_is_what_can_be_called():
    shared = Catalogue([M, route("bare"), route("off", Serving(SHARED, "x"), is_active=False)])
    own = OwnRoutes(Catalogue([route("a", Serving(OWN, "x")), route("m", is_active=False)]), OWN)
    assert [it.name for it in visible(shared, NOTHING)] == ["m"]
    assert [it.name for it in visible(shared, own)] == ["a"]
    replaced = OwnRoutes(Catalogue([route("m", Serving(OWN, "mine"))]), None)
    (found,) = visible(shared, replaced)
    assert found.targets[0].upstream is OWN


# --- prices -----------------------------------------------------------------------------------------------------------


def tag(amount: int) -> PriceTag:
    return PriceTag(
        id=uuid4(), input=amount, output=0, cached_input=None, reasoning=None, per_request=0
    )


@given(st.lists(st.integers(0, 100), unique=True, max_size=6), st.integers(-5, 105))
def test_the_price_in_force_is_the_newest_that_has_begun(begins, moment):
    dated = replace(M, prices=tuple((start, tag(start)) for start in sorted(begins)))
    expected = max((start for start in begins if start <= moment), default=None)
    found = dated.price_at(moment)
    assert (found.input if found else None) == expected
