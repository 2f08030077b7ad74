"""`manage.py prove budget`: its short form, what it says to nonsense, and that it can say no."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.proofs.budget import judge, sizes
from gateway.proofs.report import Plan, Report, lines
from gateway.proofs.witness import Name, Witness
from tests.support import environment
from tests.support.environment import ROOT

# Of PostgreSQL the command itself is asked (docs/evidence/budget.md); the budgets' own tests run on both.
pytestmark = pytest.mark.sqlite


def prove(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", "prove", "budget", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("yard")
def test_no_crowd_passes_a_budget_or_leaves_a_call_of_it_unused():
    where = environment.postgres_url() if environment.database() == "postgres" else "sqlite"
    done = prove(
        *("--workers", "2", "--concurrency", "20", "--rounds", "5", "--seed", "4", "--json"),
        *("--database-url", where),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["holds"]
    assert (told["largest_excess_nano_usd"], told["overrun_nano_usd"]) == (0, 0)
    assert told["admitted"] == told["expected"] > 30
    plan = Plan(workers=2, concurrency=20, rounds=5, seed=4)
    assert told["expected"] == sum(size.calls for size in sizes(plan))
    assert told["samples"] > 50
    assert told["rounds"] == 5
    assert "Round 5 of 5" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--workers", "0"], "must be a whole number between 1 and 64"),
        (["--rounds", "1.5"], "must be a whole number between 1 and 100000"),
        (["--database-url", "mysql://here"], "must be sqlite or postgres://…"),
        (["--redis-url", "127.0.0.1"], "must be redis://…"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(arguments: list[str], sentence: str):
    done = prove(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_a_database_that_is_not_there_is_a_sentence_and_no_verdict():
    done = prove("--database-url", "postgres://nobody@127.0.0.1:1/none", "--json")
    assert done.returncode == 1
    assert "PostgreSQL" in json.loads(done.stdout)["error"]["message"]
    assert "Traceback" not in done.stderr


def test_one_nano_usd_too_much_for_an_instant_fails_the_proof(tmp_path: Path):
    file = tmp_path / "house.sqlite3"
    name = Name(uuid4(), "nano_usd", "month")

    def write(statement: str, *values: object) -> None:
        with closing(sqlite3.connect(file)) as database:
            database.execute(statement, values)
            database.commit()

    write('CREATE TABLE usage_balance (level_id, unit, "window", spent, held, ceiling)')
    write(
        "INSERT INTO usage_balance VALUES (?, 'nano_usd', 'month:2026-11', 90, 10, 100)",
        name.level.hex,
    )
    witness = Witness(f"sqlite:///{file}")
    witness.expect(name, 100)
    witness.start()
    eventually(lambda: witness.samples > 0)
    assert (witness.excess, witness.overrun) == (0, 0)
    write("UPDATE usage_balance SET held = 11, ceiling = 101")
    eventually(lambda: witness.overrun > 0)
    write("UPDATE usage_balance SET held = 0, ceiling = 100")
    witness.leave()
    report = Report(Plan(workers=1, concurrency=1, rounds=1))
    judge(report, witness)
    assert not report.holds
    assert "spent + held was 1 nano-USD over a limit" in report.faults
    assert any("1 nano-USD, in " in line for line in lines(report))


def eventually(good: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.01)
