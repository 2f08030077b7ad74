"""The short form of `make chaos-kill` (docs/evidence/chaos-kill.md has the long one), and that its judge can say no."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.chaos import kill
from tests.chaos.killer import Kill
from tests.chaos.stage import is_sqlite
from tests.chaos.traffic import PLANS, Sent
from tests.chaos.verdict import judge
from tests.support.oracle import Call, CallLog
from tests.support.server import Server, Yard

Gatehouse = Callable[..., Server]
SEED = 20261122


@pytest.mark.slow
@pytest.mark.chaos
def test_no_kill_of_a_worker_loses_or_doubles_a_call(
    gatehouse: Gatehouse, yard: Yard, tmp_path: Path
):
    server = gatehouse(serve=False, env=kill.ENVIRONMENT)
    chosen = kill.Options(kills=12, concurrency=40, seed=SEED)
    outcome = kill.run(server, yard.operator_password, tmp_path, chosen)
    assert [str(line) for line in outcome.missed] == []
    assert outcome.exit_code == 0
    assert len(outcome.kills) == 12
    assert sum(bool(each.open_attempts) for each in outcome.kills) >= 3, "nothing was at stake"
    assert sum(each.answered for each in outcome.sent) > 50
    figures = {line.name.strip(): line.figure for line in outcome.lines}
    assert figures["of keys"] >= 4
    assert figures["of accounts"] == 2
    assert_the_judge_notices(server, tmp_path / kill.ORACLE_LOG, outcome)


def assert_the_judge_notices(server: Server, log: Path, outcome: kill.Outcome) -> None:
    """Every sort of lie, told to the judge after the fact."""

    def missed(sent: list[Sent], kills: list[Kill]) -> set[str]:
        return {line.name for line in judge(server, log, sent, kills, 40) if not line.holds}

    sent, kills = outcome.sent, outcome.kills
    assert missed(sent, []) >= {
        "unknown attempts",
        "unknown, and open in no killed worker's journal",
    }
    never_logged = Sent("chaos-never", PLANS[0], status=200, whole=True)
    assert missed([*sent, never_logged], kills) == {"lost: answers without a log row"}
    assert missed(sent[1:], kills) >= {"log rows of calls that nobody made"}
    spoil(server, "UPDATE usage_rollup SET requests = requests + 1")
    assert missed(sent, kills) == {
        "months, keys and models whose rollup is not the sum of the ledger"
    }
    spoil(server, "UPDATE usage_rollup SET requests = requests - 1")
    spoil(server, "UPDATE usage_requestlog SET tokens_out = 7 WHERE usage_source = 'provider'")
    assert missed(sent, kills) == {
        "whole 200s not settled with the provider's own figures",
        "ledger lines that differ from their log row",
    }
    spoil(server, "UPDATE usage_balance SET spent = spent + 1, ceiling = ceiling + 1")
    assert "balances whose spent is not the sum of the entries" in missed(sent, kills)
    spoil(server, "UPDATE usage_balance SET spent = spent - 1, held = 1")
    assert "balances that still hold something" in missed(sent, kills)
    spoil(server, "UPDATE usage_balance SET held = 0, credited = 0")
    assert "negative: balances overdrawn" in missed(sent, kills)
    call = Call(10**6, "POST", "/v1/chat/completions", [("x-request-id", "f" * 32 + "-1")], b"{}")
    CallLog(log).began(call)
    assert "lost: calls of the oracle without an attempt row" in missed(sent, kills)


def spoil(server: Server, statement: str) -> None:
    if is_sqlite(server):
        with sqlite3.connect(urlsplit(server.database_url).path[1:]) as lite:
            lite.execute(statement)
        lite.close()
    else:
        with psycopg.connect(server.database_url) as postgres:
            postgres.execute(statement.encode())
