"""One call put together from its records: what the journal hands on and the ledger takes. Pure."""

import msgspec

from usage.records import AttemptStarted, Intent, Refusal, Settlement


class Call(msgspec.Struct, frozen=True):
    """A call as far as it is known. `settlement` None: still open, or its worker died.

    `held` False promises that no hold row of it can be in the tables; True only means that there may be one.
    """

    intent: Intent
    attempts: tuple[AttemptStarted, ...] = ()
    settlement: Settlement | None = None
    held: bool = True


#: What becomes a log row.
Item = Call | Refusal
