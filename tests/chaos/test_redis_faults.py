"""The short form of `make chaos-redis` (docs/evidence/chaos-redis.md has the long one), and that its judge can say no."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import redis_faults
from tests.chaos.redis_faults import FAULTS, Phase, judge, most_in_a_window, redis_behind_a_wire
from tests.chaos.redis_process import program
from tests.support import services
from tests.support.server import Server, Yard

Gatehouse = Callable[..., Server]
TRIED = {"frozen", "killed", "full"}


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.redis
@pytest.mark.sqlite
def test_a_shared_limit_holds_whatever_becomes_of_redis(
    gatehouse: Gatehouse, yard: Yard, tmp_path: Path
):
    if not program():
        services.absent("redis-server is not installed")
    (tmp_path / "redis").mkdir()
    faults = [fault for fault in FAULTS if fault.name in TRIED]
    with redis_behind_a_wire(tmp_path / "redis") as (process, wire, told):
        server = gatehouse(workers=2, serve=False, env=told)
        outcome = redis_faults.run(
            server, yard.operator_password, (process, wire), faults, phase_seconds=1.75
        )
    assert [str(line) for line in outcome.missed] == []
    assert outcome.exit_code == 0
    assert {phase.name for phase in outcome.phases} == {"calm", *TRIED}
    for said in ("Redis does not answer", "Redis is back", "Redis has forgotten"):
        assert outcome.log.count(said) <= 2 * len(TRIED), (
            f"once by each worker, not again and again: {said}"
        )
    assert all(phase.statuses["429 rate_limit_exceeded"] for phase in outcome.phases)
    assert all(phase.statuses["402 budget_exhausted"] for phase in outcome.phases[1:])


def test_the_judge_of_redis_faults_notices_one_call_too_many_and_one_too_few():
    assert most_in_a_window([0.0, 1.0, 60.0, 61.0]) == 2
    calm = [Phase("calm")]

    def missed(admitted: int, phases: list[Phase] = calm) -> set[str]:
        moments = [0.1 * number for number in range(admitted)]
        lines = judge({"bursty": moments, "steady": []}, phases, 10.0)
        return {line.name for line in lines if not line.holds}

    assert missed(60) == set()
    assert missed(59) == {"short of 60 where nothing failed"}
    assert "bursty: most in any 60 s" in missed(61)
    broken = Phase("frozen", recovered_in=11.0)
    broken.statuses["5xx: 503 not_ready"] = 1
    assert missed(60, [broken]) == {
        "answers 5xx",
        "frozen: seconds until Redis is asked again (rounded up)",
    }
