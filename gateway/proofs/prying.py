"""One side tries everything with the other's things; what it is answered is compared with the answers to what nobody has."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import UUID

from gateway.proofs.doors import Attempt, Name, Request

#: What differs from one answer to the next whoever asks: ids that were made for it, times, credentials.
_FRESH: Final = re.compile(
    rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"
    rb"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z|gw[a-z]_[0-9A-Za-z]+"
    rb'|"csrfmiddlewaretoken" value="[^"]+"|(?<=name="ticket" value=")[^"]+'
)
_MOST_FAULTS: Final = 200
#: Rows of these are told apart: what was refused is written down, and that is no harm done.
AUDIT_TABLES: Final = "tenants_audit"
_REFUSED: Final = "refused"


class Answer(NamedTuple):
    """`headers` with names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Ask = Callable[[Request], Answer]
Rows = Sequence[Sequence[Any]]
Read = Callable[[str], Rows]


@dataclass
class Side:
    """A tenant. `own`: an id of a thing of each kind; `names`: all that its things are called, with one of nobody's for each."""

    label: str
    own: dict[str, str]
    names: list[Name] = field(default_factory=list)

    @property
    def ids(self) -> set[str]:
        return {name.theirs.replace("-", "") for name in self.names if name.is_uuid}


@dataclass
class Found:
    """What came of it. Each fault is a sentence, and one is too many."""

    attempts: int = 0
    requests: int = 0
    routes: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.faults and self.attempts > 0

    def fault(self, sentence: str) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(sentence)

    def add(self, other: "Found") -> None:
        self.attempts += other.attempts
        self.requests += other.requests
        self.routes |= other.routes
        self.methods |= other.methods
        self.statuses += other.statuses
        for sentence in other.faults:
            self.fault(sentence)


class Pryer:
    """Tries as one side against another, with one credential. `who` says whose, for the faults."""

    def __init__(self, who: str, ask: Ask, victim: Side, found: Found) -> None:
        self._who = who
        self._ask = ask
        self._victim = victim
        self._found = found
        self._steady: dict[Request, Answer] = {}
        self._marks = [name.theirs for name in victim.names]

    def pry(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            self._try(attempt)

    def _try(self, attempt: Attempt) -> None:
        found, asked = self._found, attempt.request
        found.attempts += 1
        found.routes.add(attempt.door.route)
        found.methods.add(asked.method)
        answer, faults = self._asked(attempt)
        # Own figures may have moved in between. What was changed is changed, so that is asked once.
        if faults and asked.method == "GET" and answer.status < 500:
            self._steady.pop(attempt.control, None)
            answer, faults = self._asked(attempt)
        found.statuses[answer.status] += 1
        for fault in faults:
            found.fault(f"{self._who}: {asked.method} {asked.path} {asked.body.decode()}: {fault}")

    def _asked(self, attempt: Attempt) -> tuple[Answer, list[str]]:
        answer = self._answer(attempt.request)
        return answer, list(self._faults(attempt, answer, self._control(attempt)))

    def _answer(self, request: Request) -> Answer:
        self._found.requests += 1
        return self._ask(request)

    def _control(self, attempt: Attempt) -> Answer:
        if not attempt.is_steady:
            return self._answer(attempt.control)
        known = self._steady.get(attempt.control)
        if known is None:
            known = self._steady[attempt.control] = self._answer(attempt.control)
        return known

    def _faults(self, attempt: Attempt, answer: Answer, control: Answer) -> Iterable[str]:
        if answer.status >= 500:
            yield f"{answer.status}, which is a fault of ours"
        if answer.status != control.status:
            yield f"{answer.status}, where it is {control.status} for what nobody has"
        elif _told(answer, attempt, "theirs") != _told(control, attempt, "nobodys"):
            yield f"{answer.status} with another text than for what nobody has"
        text = answer.body + repr(sorted(answer.headers.items())).encode()
        sent = repr(attempt.request)
        for mark in self._marks:
            if mark not in sent and mark.encode() in text:
                yield f"the answer says {mark}"


def _told(answer: Answer, attempt: Attempt, whose: str) -> tuple[bytes, str, str]:
    """What an answer says, but for the names that it was asked with and what is new in every one."""
    body, place = answer.body, answer.headers.get("location", "")
    for name in attempt.names:
        value = getattr(name, whose)
        body = body.replace(value.encode(), b"<it>")
        place = place.replace(value, "<it>")
    return _FRESH.sub(b"<new>", body), place, answer.headers.get("content-type", "")


def belongings(read: Read, tables: Iterable[str], side: Side) -> dict[str, str]:
    """A digest for each table of the rows in which an id of that side stands; refusals in the audit log aside.

    An id that somebody sent as the name of a model stands in their own rows as they wrote it, with hyphens, and is none.
    """
    return {table: _digest(read(f"SELECT * FROM {table}"), table, side) for table in tables}  # noqa: S608 - our own names


def _digest(rows: Rows, table: str, side: Side) -> str:
    # The audit log names everything in text.
    named = {str(UUID(it)) for it in side.ids} if table.startswith(AUDIT_TABLES) else set()
    plain = [[_plain(cell) for cell in row] for row in rows]
    theirs = [
        repr(row)
        for row in plain
        if not (side.ids | named).isdisjoint(row) and not (named and _REFUSED in row)
    ]
    return hashlib.sha256("\n".join(sorted(theirs)).encode()).hexdigest()


def _plain(cell: Any) -> str:
    """As text; ids as 32 digits, in which form SQLite keeps them."""
    if isinstance(cell, UUID):
        return cell.hex
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell).hex()
    return str(cell)
