"""The fake upstream that is the oracle: what it logged is what really happened.

Every call whose *whole* body arrived is written and fsynced before the answer begins, with the attempt id that Gatehouse sent
as `x-request-id`; a second line tells what was sent back and how it ended. How it behaves is in the model's name, because
headers are filtered on the way here: `ok`, `drip:50x0.01`, `my-model~status:429:retry-after=2` (see `script.py`).

In a test, `with Oracle() as oracle:` runs it on a thread of its own; `python -m tests.support.oracle --log FILE` runs it as a
process and prints its port.
"""

from tests.support.oracle.calls import Call, CallLog, read_log
from tests.support.oracle.script import Script, UnknownScript, parse
from tests.support.oracle.server import Oracle

__all__ = ["Call", "CallLog", "Oracle", "Script", "UnknownScript", "parse", "read_log"]
