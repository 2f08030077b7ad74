"""What a call costs, and what it can cost at most. Integers only; rounded once, on the sum."""

from typing import Final, NamedTuple

from providers.types import PriceTag, Usage

__all__ = ["Part", "PriceTag", "bound", "cost", "credible", "parts"]

#: Tokens of one call beyond which a figure is a lie, whoever reports it.
MAX_TOKENS: Final = 10**12
_MTOK: Final = 10**6


def credible(usage: Usage) -> Usage:
    """`usage` with every figure in 0..10^12, `cached` within `input` and `reasoning` within `output`.

    An upstream's figures are foreign input: a negative or absurd one must neither pay the caller nor overflow a sum.
    """
    honest_in = 0 <= usage.cached <= usage.input <= MAX_TOKENS
    if honest_in and 0 <= usage.reasoning <= usage.output <= MAX_TOKENS:
        return usage
    tokens_in = min(max(usage.input, 0), MAX_TOKENS)
    tokens_out = min(max(usage.output, 0), MAX_TOKENS)
    return Usage(
        input=tokens_in,
        cached=min(max(usage.cached, 0), tokens_in),
        output=tokens_out,
        reasoning=min(max(usage.reasoning, 0), tokens_out),
    )


class Part(NamedTuple):
    """One kind of tokens of a call and what a million of them cost, in nano-USD."""

    name: str
    tokens: int
    price: int

    @property
    def millionths(self) -> int:
        """What they cost, in millionths of a nano-USD: exact, before anything is rounded."""
        return self.tokens * self.price


def parts(usage: Usage, price: PriceTag) -> tuple[Part, Part, Part, Part]:
    """What a call's tokens are charged as, each of them once."""
    real = credible(usage)
    cached_price = price.input if price.cached_input is None else price.cached_input
    reasoning_price = price.output if price.reasoning is None else price.reasoning
    return (
        Part("input", real.input - real.cached, price.input),
        Part("cached", real.cached, cached_price),
        Part("output", real.output - real.reasoning, price.output),
        Part("reasoning", real.reasoning, reasoning_price),
    )


def cost(usage: Usage, price: PriceTag) -> int:
    """Nano-USD of a call: Σ(tokens × price) ÷ 10^6, rounded half to even once, on the sum."""
    return price.per_request + _half_even(sum(part.millionths for part in parts(usage, price)))


def bound(hold_in: int, hold_out: int, price: PriceTag) -> int:
    """The most nano-USD that `hold_in` and `hold_out` tokens can cost, rounded up; no split of them costs more."""
    dearest_in = max(price.input, price.cached_input or 0)
    dearest_out = max(price.output, price.reasoning or 0)
    millionths = hold_in * dearest_in + hold_out * dearest_out
    return price.per_request - (-millionths // _MTOK)


def _half_even(millionths: int) -> int:
    whole, rest = divmod(millionths, _MTOK)
    twice = 2 * rest
    return whole + (twice > _MTOK or (twice == _MTOK and whole % 2 == 1))
