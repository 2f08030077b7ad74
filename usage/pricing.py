"""What a call costs, and what it can cost at most. Integers only; rounded once, on the sum."""

from typing import Final, NamedTuple

from providers.types import PriceTag, Usage

__all__ = ["Part", "PriceTag", "bound", "cost", "credible", "is_sane", "parts"]

#: Counts of one call beyond which a figure is a lie, whoever reports it. A thousand such calls at the dearest price still add
#: up in a BIGINT of nano-USD, beyond which SQLite does not go.
MAX_TOKENS: Final = 10**9
MAX_IMAGES: Final = 10**5
MAX_AUDIO_MS: Final = 10**9
_MTOK: Final = 10**6
_MINUTE_MS: Final = 60_000
#: The smallest common part of a nano-USD: a price per million tokens needs millionths, one per 60,000 ms thirds of them.
_PARTS_OF_NANO: Final = 3 * 10**6


def is_sane(usage: Usage) -> bool:
    """Whether no figure is negative or absurd, and no part larger than what it is part of."""
    return (
        0 <= usage.cached <= usage.cached + usage.cache_write <= usage.input <= MAX_TOKENS
        and 0 <= usage.reasoning <= usage.output <= MAX_TOKENS
        and 0 <= usage.images <= MAX_IMAGES
        and 0 <= usage.audio_ms <= MAX_AUDIO_MS
    )


def credible(usage: Usage) -> Usage:
    """`usage` with every figure within its bounds, and every part within what it is part of.

    An upstream's figures are foreign input: a negative or absurd one must neither pay the caller nor overflow a sum.
    """
    if is_sane(usage):
        return usage
    tokens_in = _within(usage.input, MAX_TOKENS)
    tokens_out = _within(usage.output, MAX_TOKENS)
    cached = _within(usage.cached, tokens_in)
    return Usage(
        input=tokens_in,
        cached=cached,
        output=tokens_out,
        reasoning=_within(usage.reasoning, tokens_out),
        cache_write=_within(usage.cache_write, tokens_in - cached),
        images=_within(usage.images, MAX_IMAGES),
        audio_ms=_within(usage.audio_ms, MAX_AUDIO_MS),
    )


def _within(figure: int, most: int) -> int:
    return min(max(figure, 0), most)


class Part(NamedTuple):
    """One kind of what a call used: `amount` of it, and the nano-USD that `per` of them cost."""

    name: str
    amount: int
    price: int
    per: int = _MTOK

    @property
    def scaled(self) -> int:
        """What it costs in 3,000,000ths of a nano-USD: exact, before anything is rounded."""
        return self.amount * self.price * (_PARTS_OF_NANO // self.per)


class _Rates(NamedTuple):
    """Nano-USD per million tokens, for calls of one length."""

    input: int
    cached: int
    cache_write: int
    output: int
    reasoning: int


def _rates(price: PriceTag, tokens_in: int) -> _Rates:
    """The rates for a call with so many input tokens."""
    cached, write = price.cached_input, price.cache_write
    into, out = price.input, price.output
    if price.long_from is not None and tokens_in > price.long_from:
        cached = _first(price.long_cached_input, cached)
        write = _first(price.long_cache_write, write)
        into = into if price.long_input is None else price.long_input
        out = out if price.long_output is None else price.long_output
    return _Rates(
        input=into,
        cached=into if cached is None else cached,
        cache_write=into if write is None else write,
        output=out,
        reasoning=out if price.reasoning is None else price.reasoning,
    )


def _first(price: int | None, otherwise: int | None) -> int | None:
    return otherwise if price is None else price


def parts(usage: Usage, price: PriceTag) -> list[Part]:
    """What a call is charged as, every token once; images and sound only where there are some."""
    real = credible(usage)
    rates = _rates(price, real.input)
    found = [
        Part("input", real.input - real.cached - real.cache_write, rates.input),
        Part("cached", real.cached, rates.cached),
        Part("output", real.output - real.reasoning, rates.output),
        Part("reasoning", real.reasoning, rates.reasoning),
    ]
    if real.cache_write:
        found.append(Part("cache write", real.cache_write, rates.cache_write))
    if real.images:
        found.append(Part("images", real.images, price.per_image, per=1))
    if real.audio_ms:
        found.append(Part("sound, ms", real.audio_ms, price.per_minute, per=_MINUTE_MS))
    return found


def cost(usage: Usage, price: PriceTag) -> int:
    """Nano-USD of a call: the exact sum of its `parts`, rounded half to even once. Written out, for every call pays for it."""
    real = credible(usage)
    rates = _rates(price, real.input)
    millionths = (
        (real.input - real.cached - real.cache_write) * rates.input
        + real.cached * rates.cached
        + real.cache_write * rates.cache_write
        + (real.output - real.reasoning) * rates.output
        + real.reasoning * rates.reasoning
    )
    return price.per_request + _half_even(
        _scaled(millionths, real.images, real.audio_ms, price), _PARTS_OF_NANO
    )


def bound(
    hold_in: int, hold_out: int, price: PriceTag, *, images: int = 0, audio_ms: int = 0
) -> int:
    """The most nano-USD that so much can cost, rounded up; no split of it costs more, and no smaller use of it."""
    rates = _rates(price, 0)
    dearest_in = max(rates.input, rates.cached, rates.cache_write)
    dearest_out = max(rates.output, rates.reasoning)
    if price.long_from is not None and hold_in > price.long_from:
        long = _rates(price, hold_in)
        dearest_in = max(dearest_in, long.input, long.cached, long.cache_write)
        dearest_out = max(dearest_out, long.output, long.reasoning)
    scaled = _scaled(hold_in * dearest_in + hold_out * dearest_out, images, audio_ms, price)
    return price.per_request - (-scaled // _PARTS_OF_NANO)


def _scaled(millionths: int, images: int, audio_ms: int, price: PriceTag) -> int:
    """Millionths of a nano-USD for tokens, with images and sound, in 3,000,000ths."""
    scaled = 3 * millionths
    if images or audio_ms:
        scaled += images * price.per_image * _PARTS_OF_NANO
        scaled += audio_ms * price.per_minute * (_PARTS_OF_NANO // _MINUTE_MS)
    return scaled


def _half_even(amount: int, unit: int) -> int:
    whole, rest = divmod(amount, unit)
    twice = 2 * rest
    return whole + (twice > unit or (twice == unit and whole % 2 == 1))
