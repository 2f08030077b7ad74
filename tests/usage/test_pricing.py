import uuid
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from providers.types import Usage
from usage.money import MAX_USD_PER_MTOK
from usage.pricing import MAX_TOKENS, PriceTag, bound, cost, credible

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
)
TOKENS = st.integers(min_value=0, max_value=MAX_TOKENS)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    tokens_in, tokens_out = draw(TOKENS), draw(TOKENS)
    return Usage(
        input=tokens_in,
        cached=draw(st.integers(0, tokens_in)),
        output=tokens_out,
        reasoning=draw(st.integers(0, tokens_out)),
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


@given(usages(), TAGS)
def test_the_cost_is_the_exact_sum_rounded_by_at_most_a_half(usage: Usage, tag: PriceTag) -> None:
    cached = tag.input if tag.cached_input is None else tag.cached_input
    reasoning = tag.output if tag.reasoning is None else tag.reasoning
    exact = (
        Fraction(usage.input - usage.cached) * tag.input
        + usage.cached * cached
        + (usage.output - usage.reasoning) * tag.output
        + usage.reasoning * reasoning
    ) / 10**6 + tag.per_request
    amount = cost(usage, tag)
    assert type(amount) is int
    assert amount == round(exact)


@given(usages(), TAGS)
def test_every_cost_fits_the_column(usage: Usage, tag: PriceTag) -> None:
    assert 0 <= cost(usage, tag) < 2**63


@given(usages(), TAGS)
def test_no_split_of_the_held_tokens_costs_more_than_the_hold(usage: Usage, tag: PriceTag) -> None:
    held = bound(usage.input, usage.output, tag)
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
    )
    assert cost(credible(grown), tag) >= cost(usage, tag)
    assert bound(grown.input, grown.output, tag) >= bound(usage.input, usage.output, tag)


@given(usages())
def test_a_sane_report_is_left_alone(usage: Usage) -> None:
    assert credible(usage) is usage


@given(st.builds(Usage, *[st.integers(min_value=-(2**70), max_value=2**70)] * 4), TAGS)
def test_an_absurd_report_never_pays_the_caller_nor_overflows(usage: Usage, tag: PriceTag) -> None:
    real = credible(usage)
    assert 0 <= real.cached <= real.input <= MAX_TOKENS
    assert 0 <= real.reasoning <= real.output <= MAX_TOKENS
    assert 0 <= cost(usage, tag) < 2**63
