"""The short form of `make chaos-disconnects` (docs/evidence/chaos-disconnects.md has the long one)."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import departures
from tests.chaos.departures import ORACLE_LOG, judge
from tests.chaos.leavers import DRAIN, Left
from tests.support.server import Server, Yard

# Where the books are kept does not matter to who hangs up; the long form takes either database.
pytestmark = pytest.mark.sqlite

Gatehouse = Callable[..., Server]
SEED = 20261122


@pytest.mark.slow
@pytest.mark.chaos
def test_whoever_hangs_up_anywhere_is_settled_and_charged_for_what_was_read(
    gatehouse: Gatehouse, yard: Yard, tmp_path: Path
):
    server = gatehouse(serve=False)
    chosen = departures.Options(departures=250, concurrency=40, seed=SEED)
    outcome = departures.run(server, yard.operator_password, tmp_path, chosen)
    assert [str(line) for line in outcome.missed] == []
    assert outcome.exit_code == 0
    figures = {line.name.strip(): line.figure for line in outcome.lines}
    assert figures["left under `up`"] > 80
    assert figures["left under `drain`"] > 80
    assert figures["left before the usage, after all text"] > 20
    assert figures["explicit zeros believed"] > 10
    assert figures["of keys"] == 2, "the key has a budget of money and one of tokens"
    assert_the_judge_notices(server, tmp_path / ORACLE_LOG, outcome.left)


def assert_the_judge_notices(server: Server, log: Path, left: list[Left]) -> None:
    """Callers who saw more than was charged, or nothing of what they were answered; a settlement that took too long."""

    def missed(told: list[Left], seconds: float = 0.0) -> set[str]:
        return {line.name for line in judge(server, log, told, seconds) if not line.holds}

    assert missed(left) == set()
    assert missed(left, 61.0) == {"seconds until all were settled (rounded up)"}
    told = copy.deepcopy(left)
    greedy = next(each for each in told if each.plan.stream and not each.whole and each.pieces)
    greedy.seen *= 100
    stranger = copy.deepcopy(next(each for each in told if each.policy == DRAIN and each.seen))
    stranger.id = "leave-nobody"
    assert missed([*told, stranger]) == {
        "charged less than their callers had read",
        "calls with answers, and no log row",
    }
    assert "calls the upstream saw, and no log row" in missed(left[1:])
