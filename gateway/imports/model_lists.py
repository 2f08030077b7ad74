"""Lists of models, as ours are: None is everything, names may end in `*`, and an empty list is nothing."""

Names = list[str] | None
EVERYTHING: Names = None


def both(one: Names, other: Names) -> Names:
    """What two lists both allow."""
    if one is None:
        return other
    if other is None:
        return one
    found = [_narrower(mine, theirs) for mine in one for theirs in other]
    return list(dict.fromkeys(name for name in found if name is not None))


def _narrower(one: str, other: str) -> str | None:
    """The narrower of two patterns if one covers the other, else None: what two prefixes share, one of them says."""
    if _covers(one, other):
        return other
    return one if _covers(other, one) else None


def _covers(pattern: str, other: str) -> bool:
    if pattern.endswith("*"):
        return other.startswith(pattern[:-1])
    return pattern == other
