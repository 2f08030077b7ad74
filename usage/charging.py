"""From new money lines to balances, in a few statements however many lines there are."""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from usage import windows
from usage.budget_books import Books
from usage.sums import Portion


def charge(portions: Iterable[Portion], boot: str | None) -> None:
    """Moves what was used into `spent` of every balance of its levels and windows: out of the slices of `boot`, as far as those
    go. Balances that do not exist are not made: they begin with the sums.

    To be called where the transaction writes its last rows: these are what workers wait for.
    """
    levels: dict[UUID, list[Portion]] = defaultdict(list)
    names = {windows.TOTAL, windows.PREPAID}
    for portion in portions:
        whose, _ = portion
        names |= {windows.month_window(whose.month), windows.day_window(whose.day)}
        for level_id in whose.levels:
            levels[level_id].append(portion)
    if not levels:
        return
    books = Books.of_levels(levels, names, boot)
    for line in books.lines:
        balance = line.balance
        counted = [
            totals for whose, totals in levels[balance.level_id] if whose.is_in(balance.window)
        ]
        if balance.unit == "tokens":
            cost = sum(each.tokens_in + each.tokens_out for each in counted)
        else:
            cost = sum(each.cost_nano_usd for each in counted)
        if cost:
            line.charge(cost)
    books.write()
