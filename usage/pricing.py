"""What a call costs, and what it can cost at most. Integers only; rounded once, on the sum."""

from typing import Final, NamedTuple

from providers.types import PriceTag, Usage

__all__ = ["Part", "PriceTag", "Tariff", "bound", "cost", "credible", "is_sane", "parts"]

#: Counts of one call beyond which a figure is a lie, whoever reports it. A thousand such calls at the dearest price still add
#: up in a BIGINT of nano-USD, beyond which SQLite does not go.
MAX_TOKENS: Final = 10**9
MAX_IMAGES: Final = 10**5
MAX_AUDIO_MS: Final = 10**9
_MTOK: Final = 10**6
_MINUTE_MS: Final = 60_000
#: The smallest common part of a nano-USD: a price per million tokens needs millionths, one per 60,000 ms thirds of them.
_PARTS_OF_NANO: Final = 3 * 10**6
#: Input of a long context where a price knows none: more than any call may have.
_ALWAYS_SHORT: Final = 10**18


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


class Tariff:
    """A price made ready for many calls: what depends on it alone is worked out once."""

    __slots__ = ("_dearest", "_dearest_long", "_long", "_long_from", "_short", "tag")

    def __init__(self, tag: PriceTag) -> None:
        self.tag = tag
        self._long_from = _ALWAYS_SHORT if tag.long_from is None else tag.long_from
        self._short = _rates(tag, 0)
        self._long = _rates(tag, self._long_from + 1)
        self._dearest = _dearest(self._short)
        self._dearest_long = _dearest(self._short, self._long)

    def cost(self, used: Usage) -> int:
        """Nano-USD of a call: the exact sum of its `parts`, rounded half to even once. `used` must be credible. Written out, for
        every call pays for it.
        """
        tokens_in, cached, tokens_out, reasoning = (
            used.input,
            used.cached,
            used.output,
            used.reasoning,
        )
        rates = self._short if tokens_in <= self._long_from else self._long
        rate_in, rate_cached, rate_write, rate_out, rate_reasoning = rates
        scaled = 3 * (
            (tokens_in - cached - used.cache_write) * rate_in
            + cached * rate_cached
            + used.cache_write * rate_write
            + (tokens_out - reasoning) * rate_out
            + reasoning * rate_reasoning
        )
        if used.images or used.audio_ms:
            scaled += _scaled(used.images, used.audio_ms, self.tag)
        whole, rest = divmod(scaled, _PARTS_OF_NANO)
        rest += rest
        if rest > _PARTS_OF_NANO or (rest == _PARTS_OF_NANO and whole & 1):
            whole += 1
        return self.tag.per_request + whole

    def bound(self, hold_in: int, hold_out: int, *, images: int = 0, audio_ms: int = 0) -> int:
        """The most nano-USD that so much can cost, rounded up; no split of it costs more, and no smaller use of it."""
        dearest = self._dearest if hold_in <= self._long_from else self._dearest_long
        scaled = 3 * (hold_in * dearest[0] + hold_out * dearest[1])
        if images or audio_ms:
            scaled += _scaled(images, audio_ms, self.tag)
        return self.tag.per_request - (-scaled // _PARTS_OF_NANO)


def cost(usage: Usage, price: PriceTag) -> int:
    """What a call costs of which only this price is known, in nano-USD."""
    return Tariff(price).cost(credible(usage))


def bound(
    hold_in: int, hold_out: int, price: PriceTag, *, images: int = 0, audio_ms: int = 0
) -> int:
    """What so much can cost at most, in nano-USD."""
    return Tariff(price).bound(hold_in, hold_out, images=images, audio_ms=audio_ms)


def _dearest(*lengths: _Rates) -> tuple[int, int]:
    """The dearest that a token in and a token out can be, in calls of these lengths."""
    return (
        max(max(rates.input, rates.cached, rates.cache_write) for rates in lengths),
        max(max(rates.output, rates.reasoning) for rates in lengths),
    )


def _scaled(images: int, audio_ms: int, price: PriceTag) -> int:
    """Images and sound, in 3,000,000ths of a nano-USD."""
    return images * price.per_image * _PARTS_OF_NANO + audio_ms * price.per_minute * (
        _PARTS_OF_NANO // _MINUTE_MS
    )
