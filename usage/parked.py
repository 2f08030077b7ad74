"""A call that asks for what its levels limit, until it has it or is refused. Pure."""

from collections.abc import Callable, Sequence
from uuid import UUID

from usage.hands import Hand, Lease, Leftover, Purse
from usage.rate_terms import SECOND
from usage.wants import Refused, Told, Want

#: µs in which a call spends what it was granted, counted from when it was asked for. One that heard too late asks again.
FIRST_LIFE = SECOND // 10

Answered = Callable[[Lease | Refused], None]


class Waiter:
    """A call that was refused and is going to ask again (usage/waiting.py). `at`: when it came first."""

    __slots__ = ("answer", "at", "level_id", "refused", "waits", "want")

    def __init__(self, want: Want, answer: Answered, waits: Callable[[], bool], at: float) -> None:
        self.want = want
        self.answer = answer
        self.waits = waits
        self.at = at
        self.refused: Refused | None = None
        #: Of whose queue it is; None: of none.
        self.level_id: UUID | None = None


class Parked:
    """`waits` says whether anybody still waits for `answer`."""

    __slots__ = (
        "answer",
        "at",
        "bound",
        "has_budgets",
        "has_rates",
        "is_over",
        "is_parked",
        "life",
        "look",
        "purses",
        "refused",
        "ruled",
        "taken",
        "tokens",
        "waiter",
        "waits",
        "want",
    )

    def __init__(
        self,
        want: Want,
        hands: list[Hand],
        purses: list[tuple[Purse, int]],
        answer: Answered,
        waits: Callable[[], bool],
        at: float,
    ) -> None:
        self.want = want
        self.answer = answer
        self.waits = waits
        self.at = at
        #: Levels with rates or slots, and the call's tokens: more than a minute allows would never be served.
        self.ruled = tuple(hand for hand in hands if hand.has_rules)
        self.tokens = min(
            (hand.per_minute for hand in self.ruled if hand.per_minute), default=want.tokens
        )
        self.tokens = min(self.tokens, want.tokens)
        self.life = FIRST_LIFE
        self.taken: list[Leftover] = []
        self.has_rates = not self.ruled
        self.purses = purses
        self.bound = False
        self.has_budgets = not purses
        self.refused: Refused | None = None
        self.is_over = False
        self.is_parked = False
        #: Of a call that was refused before, and asks again.
        self.waiter: Waiter | None = None
        #: Hears what was taken, which goes back at once; None: the call wants it.
        self.look: Callable[[Sequence[Told]], None] | None = None

    @property
    def is_waiting(self) -> bool:
        return not self.is_over and self.waits()
