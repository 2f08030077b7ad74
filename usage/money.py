"""Money as integer nano-USD (10^-9 USD), and its only two ways over the edge: decimal strings in, decimal strings out.

No float ever holds an amount. One nano-USD is fine enough for every price of the field (the cheapest models cost a few
nano-USD per token), and 2^63 of them are over nine billion dollars.
"""

import re
from typing import Final

NANO_PER_USD: Final = 10**9
#: Whole dollars that may be written; the sum of a few such amounts still fits a BIGINT.
MAX_USD: Final = 10**9
#: USD per million tokens. 10^12 tokens in and as many out at this price still fit a BIGINT.
MAX_USD_PER_MTOK: Final = 4_000

_AMOUNT = re.compile(r"(-?)([0-9]{1,10})(?:\.([0-9]{1,9}))?", re.ASCII)


class NotMoney(ValueError):
    """The value is no amount of US dollars that we can hold exactly."""


def usd_text(nano: int) -> str:
    """Nano-USD as an exact decimal string of USD, without exponent or needless zeros: `12000` → `0.000012`."""
    whole, fraction = divmod(abs(nano), NANO_PER_USD)
    text = f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text


def parse_usd(value: object, *, negative: bool = False, most_usd: int = MAX_USD) -> int:
    """The nano-USD of a decimal string or an integer of USD.

    Refused with `NotMoney`: floats, booleans, exponents, spaces, a plus sign, a bare point, more than nine decimals,
    more than `most_usd`, and a minus sign unless `negative` (corrections) allows it.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise NotMoney('An amount is a decimal string such as "0.25", or an integer of USD.')
    # An int that long would be refused anyway; asking first keeps the conversion to text cheap.
    if isinstance(value, int) and abs(value) > most_usd:
        raise NotMoney(f"An amount is at most {most_usd} USD.")
    match = _AMOUNT.fullmatch(str(value))
    if match is None:
        raise NotMoney('An amount is digits with at most nine decimals, such as "0.25".')
    sign, whole, fraction = match.groups()
    nano = int(whole) * NANO_PER_USD + int((fraction or "").ljust(9, "0"))
    if nano > most_usd * NANO_PER_USD:
        raise NotMoney(f"An amount is at most {most_usd} USD.")
    if sign and not negative:
        raise NotMoney("An amount here cannot be negative.")
    return -nano if sign else nano


def parse_usd_per_mtok(value: object) -> int:
    """A price in USD per million tokens as nano-USD per million tokens. Raises `NotMoney`."""
    return parse_usd(value, most_usd=MAX_USD_PER_MTOK)


def usd_per_mtok_text(nano_per_mtok: int) -> str:
    """Nano-USD per million tokens as a decimal string of USD per million tokens."""
    return usd_text(nano_per_mtok)
