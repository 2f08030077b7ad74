"""This machine's own addresses, of which it has millions."""

import itertools

_NUMBERS = itertools.count(1)


def new_address() -> str:
    """One that nobody in this run has used yet."""
    n = next(_NUMBERS)
    return f"127.{1 + n // 65_536}.{n // 256 % 256}.{n % 256}"
