import uuid
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.types import Usage
from usage.money import MAX_USD_PER_MTOK
from usage.pricing import (
    MAX_AUDIO_MS,
    MAX_IMAGES,
    MAX_TOKENS,
    PriceTag,
    bound,
    cost,
    credible,
    is_sane,
    parts,
)

ID = uuid.UUID(int=1)
MAX_PRICE = MAX_USD_PER_MTOK * 10**9
PRICES = st.integers(min_value=0, max_value=MAX_PRICE)
TAGS = st.builds(
    PriceTag,
    id=st.just(ID),
    input=PRICES,
    output=PRICES,
    cached_input=st.none() | PRICES,
    reasoning=st.none() | PRICES,
    per_request=st.integers(min_value=0, max_value=10**9),
    cache_write=st.none() | PRICES,
    per_image=PRICES,
    per_minute=PRICES,
)
#: With a long context, which may also be cheaper.
LONG_TAGS = st.builds(
    PriceTag,
    id=st.just(ID),
    input=PRICES,
    output=PRICES,
    cached_input=st.none() | PRICES,
    cache_write=st.none() | PRICES,
    reasoning=st.none() | PRICES,
    long_from=st.integers(min_value=1, max_value=10**6),
    long_input=st.none() | PRICES,
    long_output=st.none() | PRICES,
    long_cached_input=st.none() | PRICES,
    long_cache_write=st.none() | PRICES,
)
LONG = PriceTag(
    id=ID,
    input=10**9,
    output=2 * 10**9,
    long_from=200_000,
    long_input=2 * 10**9,
    long_output=3 * 10**9,
    long_cached_input=10**8,
)
TOKENS = st.integers(min_value=0, max_value=MAX_TOKENS)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    tokens_in, tokens_out = draw(TOKENS), draw(TOKENS)
    cached = draw(st.integers(0, tokens_in))
    return Usage(
        input=tokens_in,
        cached=cached,
        output=tokens_out,
        reasoning=draw(st.integers(0, tokens_out)),
        cache_write=draw(st.integers(0, tokens_in - cached)),
        images=draw(st.integers(0, MAX_IMAGES)),
        audio_ms=draw(st.integers(0, MAX_AUDIO_MS)),
    )


def test_a_known_call_costs_what_the_list_says() -> None:
    tag = PriceTag(id=ID, input=2_500_000_000, output=10_000_000_000, cached_input=1_250_000_000)
    # 100 × 2.5 + 20 × 1.25 + 50 × 10 USD per million
    assert cost(Usage(input=120, cached=20, output=50), tag) == 775_000


def test_reasoning_is_part_of_the_output_and_may_have_its_own_price() -> None:
    tag = PriceTag(id=ID, input=0, output=1_000_000, reasoning=3_000_000)
    assert cost(Usage(output=10, reasoning=4), tag) == 6 + 12


def test_a_call_of_no_tokens_still_costs_its_request() -> None:
    assert cost(Usage(), PriceTag(id=ID, input=1, output=1, per_request=7)) == 7


def test_halves_go_to_the_even_neighbour_once_on_the_sum() -> None:
    tag = PriceTag(id=ID, input=500_000, output=500_000)
    assert cost(Usage(input=1), tag) == 0
    assert cost(Usage(input=3), tag) == 2
    assert cost(Usage(input=1, output=1), tag) == 1  # rounded apart it would be 0


@pytest.mark.parametrize(
    ("usage", "tag", "nano"),
    [
        # 70 × 1 + 20 × 0.1 + 10 × 1.25 USD per million
        (
            Usage(input=100, cached=20, cache_write=10),
            PriceTag(ID, 10**9, 0, cached_input=10**8, cache_write=1_250 * 10**6),
            84_500,
        ),
        (Usage(input=100, cache_write=10), PriceTag(ID, 10**9, 0), 100_000),
        (Usage(images=3), PriceTag(ID, 9, 9, per_image=4 * 10**7), 12 * 10**7),
        (Usage(audio_ms=90_000), PriceTag(ID, 9, 9, per_minute=6 * 10**6), 9 * 10**6),
        (Usage(audio_ms=20_000), PriceTag(ID, 9, 9, per_minute=1), 0),  # a third
        (Usage(audio_ms=30_000), PriceTag(ID, 9, 9, per_minute=1), 0),  # half: to the even
        (Usage(audio_ms=90_000), PriceTag(ID, 9, 9, per_minute=1), 2),  # one and a half
        # The price of a long context is that of all its tokens.
        (Usage(200_000, 0, 10, 0), LONG, 200_000 * 1_000 + 10 * 2_000),
        (Usage(200_001, 0, 10, 0), LONG, 200_001 * 2_000 + 10 * 3_000),
        (Usage(200_001, 1, 10, 10), LONG, 200_000 * 2_000 + 100 + 10 * 3_000),
    ],
)
def test_every_tier_is_charged_by_its_own_price(usage: Usage, tag: PriceTag, nano: int) -> None:
    assert cost(usage, tag) == nano


@given(usages(), TAGS | LONG_TAGS)
def test_the_cost_is_the_exact_sum_rounded_by_at_most_a_half(usage: Usage, tag: PriceTag) -> None:
    is_long = tag.long_from is not None and usage.input > tag.long_from

    def rate(*prices: int | None) -> int:
        return next(price for price in prices if price is not None)

    into = rate(tag.long_input if is_long else None, tag.input)
    out = rate(tag.long_output if is_long else None, tag.output)
    cached = rate(tag.long_cached_input if is_long else None, tag.cached_input, into)
    write = rate(tag.long_cache_write if is_long else None, tag.cache_write, into)
    exact = (
        Fraction(usage.input - usage.cached - usage.cache_write) * into
        + usage.cached * cached
        + usage.cache_write * write
        + (usage.output - usage.reasoning) * out
        + usage.reasoning * rate(tag.reasoning, out)
    ) / 10**6 + tag.per_request
    exact += usage.images * tag.per_image + Fraction(usage.audio_ms * tag.per_minute, 60_000)
    amount = cost(usage, tag)
    assert type(amount) is int
    assert amount == round(exact)
    shown = sum(Fraction(part.scaled, 3 * 10**6) for part in parts(usage, tag))
    assert shown + tag.per_request == exact


@given(usages(), TAGS | LONG_TAGS)
def test_every_cost_fits_the_column(usage: Usage, tag: PriceTag) -> None:
    assert 0 <= cost(usage, tag) < 2**63


@given(usages(), TAGS | LONG_TAGS, st.integers(0, 10**12))
def test_nothing_within_the_held_amounts_costs_more_than_the_hold(
    usage: Usage, tag: PriceTag, more: int
) -> None:
    images, audio_ms = usage.images, usage.audio_ms
    held = bound(usage.input + more, usage.output, tag, images=images, audio_ms=audio_ms)
    assert type(held) is int
    assert cost(usage, tag) <= held


@given(usages(), TAGS, st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_tokens_never_cost_less(
    usage: Usage, tag: PriceTag, more_in: int, more_out: int
) -> None:
    grown = Usage(
        input=usage.input + more_in,
        cached=usage.cached,
        output=usage.output + more_out,
        reasoning=usage.reasoning,
        cache_write=usage.cache_write,
        images=usage.images,
        audio_ms=usage.audio_ms,
    )
    assert cost(credible(grown), tag) >= cost(usage, tag)
    assert bound(grown.input, grown.output, tag) >= bound(usage.input, usage.output, tag)


@given(usages())
def test_a_sane_report_is_left_alone(usage: Usage) -> None:
    assert credible(usage) is usage


@given(st.builds(Usage, *[st.integers(min_value=-(2**70), max_value=2**70)] * 7), TAGS | LONG_TAGS)
def test_an_absurd_report_never_pays_the_caller_nor_overflows(usage: Usage, tag: PriceTag) -> None:
    real = credible(usage)
    assert 0 <= real.cached <= real.cached + real.cache_write <= real.input <= MAX_TOKENS
    assert is_sane(real)
    assert 0 <= real.reasoning <= real.output <= MAX_TOKENS
    assert 0 <= cost(usage, tag) < 2**63


def test_a_usage_from_an_older_journal_is_still_read() -> None:
    older = msgspec.msgpack.encode([9, 4, 12, 10])
    assert msgspec.msgpack.decode(older, type=Usage) == Usage(9, 4, 12, 10)
