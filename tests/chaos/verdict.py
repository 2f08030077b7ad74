"""The judge: what the upstream saw, what the callers saw and what the tables say must be one story."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from tests.chaos.balances import judge_balances
from tests.chaos.killer import Kill
from tests.chaos.stage import INPUT_NANO, OUTPUT_NANO
from tests.chaos.traffic import Sent
from tests.chaos.verdict_line import Line, none
from tests.support.oracle import Call, read_log
from tests.support.server import Server

_SUMS: Final = "SUM(tokens_in), SUM(tokens_cached), SUM(tokens_out), SUM(tokens_reasoning)"


@dataclass(frozen=True)
class Row:
    """A line of the request log. `request_id` in hex."""

    request_id: str
    client_id: str
    status: int
    dispatched: str
    source: str
    tokens: tuple[int, int]
    cost: int | None
    attempts: int
    error_code: str


class Books:
    """The tables of a stopped server, and what is left on its disk."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.rows = [
            Row(_hex(row[0]), row[1], row[2], row[3], row[4], (row[5], row[6]), *row[7:])
            for row in server.query(
                "SELECT request_id, correlation_id, status, dispatched, usage_source, tokens_in, tokens_out,"
                " cost_nano_usd, attempts, error_code FROM usage_requestlog"
            )
        ]
        self.attempts = Counter[str]()
        self.unknown: set[str] = set()
        self.cancelled: set[str] = set()
        for request_id, n, outcome in server.query(
            "SELECT request_id, n, outcome FROM usage_attempt"
        ):
            attempt_id = f"{_hex(request_id)}-{n}"
            self.attempts[attempt_id] += 1
            if outcome == "unknown":
                self.unknown.add(attempt_id)
            elif outcome == "cancelled":
                self.cancelled.add(attempt_id)
        self.entries = server.query(
            "SELECT request_id, line, tokens_in, tokens_out, cost_nano_usd, dispatched, usage_source"
            " FROM usage_ledgerentry"
        )

    def by_client(self) -> dict[str, Row]:
        return {row.client_id: row for row in self.rows}

    def sums(self, table: str, count: str) -> dict[tuple[str, ...], tuple[int, ...]]:
        """Totals by month, key and model."""
        rows = self.server.query(
            f"SELECT month, key_id, model, {_SUMS}, SUM(COALESCE(cost_nano_usd, 0)), {count} FROM {table}"
            " GROUP BY month, key_id, model"
        )
        return {(row[0], _hex(row[1]), row[2]): tuple(map(int, row[3:])) for row in rows}

    def negatives(self) -> list[str]:
        columns = ("tokens_in", "tokens_cached", "tokens_out", "tokens_reasoning", "cost_nano_usd")
        below = " OR ".join(f"{column} < 0" for column in columns)
        return [
            f"{number} rows of {table}"
            for table in ("usage_ledgerentry", "usage_rollup", "usage_requestlog")
            if (number := self.server.query(f"SELECT COUNT(*) FROM {table} WHERE {below}")[0][0])
        ]

    def holds(self) -> int:
        return int(self.server.query("SELECT COUNT(*) FROM usage_hold")[0][0])


def judge(
    server: Server, log: Path, sent: list[Sent], kills: list[Kill], concurrency: int
) -> list[Line]:
    """Every line of the verdict. The server must have been stopped."""
    books = Books(server)
    seen = {call.attempt_id or f"call {call.number} without an id": call for call in _paid(log)}
    return [
        *_figures(books, seen, sent, kills),
        *_attempts(books, log, seen, sent, kills, concurrency),
        *_callers(books, seen, sent),
        *_sums(books, server),
        *judge_balances(server),
    ]


def _paid(log: Path) -> list[Call]:
    return [call for call in read_log(log) if call.method == "POST"]


def _figures(
    books: Books, seen: dict[str, Call], sent: list[Sent], kills: list[Kill]
) -> list[Line]:
    return [
        Line("SIGKILLs", len(kills)),
        Line("  of workers that served", sum(kill.serving for kill in kills)),
        Line("  with calls in flight", sum(bool(kill.open_attempts) for kill in kills)),
        Line("calls sent by clients", len(sent)),
        Line("  answered 200, whole", sum(each.answered for each in sent)),
        Line("  refused or failed, whole", sum(each.whole and each.status != 200 for each in sent)),
        Line("  left by their client", sum(each.left for each in sent)),
        Line("  cut off by a kill, or by the upstream", sum(_was_cut(each) for each in sent)),
        Line("calls the oracle received whole", len(seen)),
        Line("log rows", len(books.rows)),
        Line("attempt rows", books.attempts.total()),
        Line("ledger lines", len(books.entries)),
    ]


def _was_cut(each: Sent) -> bool:
    return not each.whole and not each.left


def _attempts(
    books: Books,
    log: Path,
    seen: dict[str, Call],
    sent: list[Sent],
    kills: list[Kill],
    concurrency: int,
) -> list[Line]:
    ids = Counter(call.attempt_id for call in _paid(log))
    left = {each.id for each in sent if each.left}
    client_of = {row.request_id: row.client_id for row in books.rows}
    unseen = books.attempts.keys() - seen.keys() - books.unknown
    too_early = {each for each in unseen & books.cancelled if client_of[each[:32]] in left}
    explained: dict[str, int] = {}
    for kill in kills:
        for attempt_id in kill.open_attempts:
            explained.setdefault(attempt_id, kill.number)
    entries = Counter((_hex(entry[0]), entry[1]) for entry in books.entries)
    return [
        none("lost: calls of the oracle without an attempt row", seen.keys() - books.attempts),
        none("doubled: calls sent twice under one id", _twice(ids)),
        none("doubled: attempt rows", _twice(books.attempts)),
        none("doubled: log rows", _twice(Counter(row.request_id for row in books.rows))),
        none("doubled: log rows of one client's call", _twice(_client_ids(books))),
        none("doubled: ledger lines", _twice(entries)),
        none("attempts the oracle never saw, and not unknown", unseen - too_early),
        Line("  (left by their client before the upstream had read them)", len(too_early)),
        Line("unknown attempts", len(books.unknown), len(kills) * concurrency),
        Line("  of which the oracle saw", len(books.unknown & seen.keys())),
        none("unknown, and open in no killed worker's journal", books.unknown - explained.keys()),
        none(
            "open in a killed worker's journal, and not unknown", explained.keys() - books.unknown
        ),
    ]


def _client_ids(books: Books) -> Counter[str]:
    return Counter(row.client_id for row in books.rows)


def _callers(books: Books, seen: dict[str, Call], sent: list[Sent]) -> list[Line]:
    rows = books.by_client()
    lost = [each.id for each in sent if each.status and each.id not in rows]
    strange = rows.keys() - {each.id for each in sent}
    other = [
        f"{each.id} saw {each.status}, the log says {rows[each.id].status}"
        for each in sent
        if each.whole and each.id in rows and rows[each.id].status != each.status
    ]
    wrong = [
        fault
        for each in sent
        if each.answered and each.id in rows
        for fault in _faults(each, rows[each.id], seen)
    ]
    return [
        none("lost: answers without a log row", lost),
        none("log rows of calls that nobody made", strange),
        none("answers whose status is not the logged one", other),
        none("whole 200s not settled with the provider's own figures", wrong),
        none("clients that heard nothing for half a minute", (e.id for e in sent if e.hung)),
    ]


def _faults(each: Sent, row: Row, seen: dict[str, Call]) -> list[str]:
    """What is wrong with the settlement of a 200 that its caller has complete."""
    call = seen.get(f"{row.request_id}-{row.attempts}")
    if call is None:
        return [f"{each.id} was answered, and the oracle knows nothing of it"]
    if not each.plan.tells_usage:
        return [] if row.source == "estimated" else [f"{each.id}: {row.source}"]
    told = call.usage or {}
    truth = (told.get("prompt_tokens", 0), told.get("completion_tokens", 0))
    faults = []
    if row.source != "provider" or row.tokens != truth:
        faults.append(f"{each.id} ({each.plan.kind}): {row}, the oracle told {truth}")
    if row.cost != truth[0] * INPUT_NANO + truth[1] * OUTPUT_NANO:
        faults.append(f"{each.id}: {truth} cost {row.cost}")
    if not each.plan.stream and _usage_in(each.body) != truth:
        faults.append(f"{each.id}: the caller was told {_usage_in(each.body)}, not {truth}")
    return faults


def _usage_in(body: bytes) -> tuple[int, int]:
    usage: dict[str, Any] = json.loads(body).get("usage") or {}
    return usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)


def _sums(books: Books, server: Server) -> list[Line]:
    ledger = books.sums("usage_ledgerentry", "COUNT(*)")
    rollups = books.sums("usage_rollup", "SUM(requests)")
    differ = {key for key in ledger | rollups if ledger.get(key) != rollups.get(key)}
    lines = {_hex(entry[0]): entry for entry in books.entries}
    of_rows = {row.request_id: row for row in books.rows}
    unmatched = lines.keys() ^ {row.request_id for row in books.rows if row.dispatched != "no"}
    unequal = [
        request_id
        for request_id in lines.keys() & of_rows.keys()
        if _money(lines[request_id])
        != (of_rows[request_id].tokens, of_rows[request_id].cost, of_rows[request_id].source)
    ]
    rows = sum(row.attempts for row in books.rows)
    return [
        none("months, keys and models whose rollup is not the sum of the ledger", differ),
        none("ledger lines without their log row, or the reverse", unmatched),
        none("ledger lines that differ from their log row", unequal),
        Line("difference of attempts counted in log rows and attempt rows",
             abs(rows - books.attempts.total()), 0),
        none("unpriced ledger lines", (e[0] for e in books.entries if e[4] is None)),
        none("negative figures", books.negatives()),
        Line("holds left", books.holds(), 0),
        none("journals left", (path.name for path in server.journals())),
    ]  # fmt: skip


def _money(entry: tuple[Any, ...]) -> tuple[tuple[int, int], int | None, str]:
    return (entry[2], entry[3]), entry[4], entry[6]


def _twice(counts: Counter[Any]) -> list[Any]:
    return [name for name, count in counts.items() if count > 1]


def _hex(value: object) -> str:
    return UUID(str(value)).hex
