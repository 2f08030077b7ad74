"""The benchmark runs and gives figures, and gives none of what failed. What the figures are is not a test's business."""

import asyncio
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from bench import load, report
from bench.cases import Case, Target
from bench.load import Task
from bench.processes import cores_for, running
from bench.rounds import Load, Records, measure
from bench.upstream import serving
from tests.support.environment import ROOT
from tests.support.oracle import Oracle

pytestmark = pytest.mark.sqlite


@pytest.mark.slow
def test_a_quick_bench_gives_positive_figures():
    quick = ["--quick", "--cases", "direct,express-1", "--seconds", "0.2", "--connections", "4"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *quick, "--streams", "4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is not reported" not in done.stdout
    calls, streams, processes = (
        [first_number(cell) for cell in line.split("|")[2:-1]]
        for line in done.stdout.splitlines()
        if line.startswith("| express-1")
    )
    # Rate, its ratio to a direct call, latency, what is added, CPU, share of the core.
    assert all(figure > 0 for figure in calls), calls
    # First chunk, a chunk's way, CPU, share of the core.
    assert all(figure > 0 for figure in streams[:3]), streams
    # Start, memory idle, memory after load.
    assert all(figure > 0 for figure in processes), processes


def first_number(cell: str) -> float:
    found = re.search(r"-?\d[\d,.]*", cell)
    assert found, cell
    return float(found[0].replace(",", ""))


@pytest.mark.parametrize("trouble", ["status:503", "cut:1", "close", "garbage", "no-done"])
@pytest.mark.parametrize("kind", ["calls", "streams"])
def test_callers_notice_every_failure(oracle: Oracle, kind: str, trouble: str):
    if (kind, trouble) == ("calls", "no-done"):
        trouble = "reset"
    oracle.on("bench", lambda call: trouble)
    of_kind = {"seconds": 0.1} if kind == "calls" else {"chunks": 5}
    outcome = asyncio.run(
        load.run(Task(port_of(oracle), {}, connections=3, **of_kind), lambda: None)
    )
    assert (outcome.done, outcome.failed) == (0, 3)
    assert outcome.faults


def test_a_load_that_failed_is_not_reported_and_the_others_are(oracle: Oracle, tmp_path: Path):
    """The oracle knows nothing of the marks by which chunks are counted."""
    calls, streams = Load(3, seconds=0.1), Load(3, chunks=5)
    records = measured(oracle, tmp_path, [calls, streams])
    assert len(records["oracle"].samples[calls]) == 2
    assert streams not in records["oracle"].samples
    told = report.tables(records, [calls, streams])
    assert "oracle at 3 streams is not reported: 3 of 3 failed" in told


def test_a_case_that_does_not_even_warm_up_is_not_reported(oracle: Oracle, tmp_path: Path):
    oracle.on("bench", lambda call: "status:503")
    records = measured(oracle, tmp_path, [Load(3, seconds=0.1)])
    assert records["oracle"].samples == {}
    assert "oracle is not reported: while it was warmed up, 32 of 32 failed" in report.tables(
        records, []
    )


def test_the_provider_is_the_same_by_tls_for_who_trusts_its_certificate(tmp_path: Path):
    with serving(tmp_path, 1, 1, tls=True) as (_, upstream):
        body = {"model": "bench", "messages": []}
        plain = httpx.post(f"http://127.0.0.1:{upstream.port}/v1", json=body)
        trusting = ssl.create_default_context(cafile=upstream.trust["SSL_CERT_FILE"])
        assert httpx.post(upstream.base_url, json=body, verify=trusting).json() == plain.json()
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.post(upstream.base_url, json=body)


def measured(oracle: Oracle, folder: Path, loads: list[Load]) -> Records:
    """Two rounds of calls straight to the oracle."""

    @contextmanager
    def started() -> Iterator[Target]:
        yield Target(port_of(oracle), {}, None, 0.0, lambda calls: None)

    idler = [sys.executable, "-c", "import time; time.sleep(60)"]
    with running(idler, cores_for(1).load, folder / "log") as upstream:
        return measure([Case("oracle", 1, started, 3)], loads, 2, upstream, lambda line: None)


def port_of(oracle: Oracle) -> int:
    return urlsplit(oracle.api).port or 0
