"""The script that shows a program the whole life of a key, run as anybody would run it."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.environment import ROOT
from tests.support.server import Server, Yard

_SCRIPT = "docs/examples/whole_life.py"


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.sqlite), 2])
def test_a_script_with_nothing_but_httpx_walks_the_whole_life_of_a_key(
    gatehouse: Callable[..., Server], yard: Yard, workers: int
) -> None:
    server = gatehouse(workers=workers)
    done = subprocess.run(
        [sys.executable, str(ROOT / _SCRIPT), server.url, server.operator],
        input=f"{yard.operator_password}\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert len(told) == 7
    assert "the old one is refused, the new one works" in told[3]
    assert "its chain verifies" in told[5]


@pytest.mark.sqlite
def test_it_says_what_is_not_as_it_should_be(gatehouse: Callable[..., Server]) -> None:
    server = gatehouse()
    done = subprocess.run(
        [sys.executable, str(ROOT / _SCRIPT), server.url, server.operator],
        input="not the password\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "401 instead of 200" in done.stderr
