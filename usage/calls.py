"""One call put together from its records: what the journal hands on and the ledger takes. Pure."""

import msgspec

from usage.records import AttemptStarted, Intent, Record, Refusal, Settlement


class Call(msgspec.Struct, frozen=True):
    """A call as far as it is known. `settlement` None: still open, or its worker died.

    `held` False promises that no hold row of it can be in the tables; True only means that there may be one.
    """

    intent: Intent
    attempts: tuple[AttemptStarted, ...] = ()
    settlement: Settlement | None = None
    held: bool = True


class Life(msgspec.Struct, gc=False):
    """A call while it is open. The loop's thread writes the first four, the flusher's thread the last two.

    A struct is made without a frame of Python.
    """

    intent: Intent
    #: Bytes of all its records.
    size: int
    attempts: list[AttemptStarted]
    settlement: Settlement | None = None
    held: bool = False
    done: bool = False

    def records(self) -> list[Record]:
        """All that a segment must hold of an open call."""
        records: list[Record] = [self.intent]
        records.extend(self.attempts)
        return records

    def hand_on(self) -> Call:
        """What is known now, for the flusher. The settlement is read first: nothing joins the attempts after it."""
        settlement = self.settlement
        call = Call(self.intent, tuple(self.attempts), settlement, self.held)
        if settlement is None:
            self.held = True
        else:
            self.done = True
        return call


#: What becomes a log row.
Item = Call | Refusal
