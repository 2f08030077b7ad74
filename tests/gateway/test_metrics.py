"""What `/metrics` says adds up to what happened, whoever counted it and whoever died meanwhile, and tells nothing else."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import meters as counted
from gateway.metrics import planes, shared
from gateway.metrics.meters import Meters
from tests.gateway.door import PROMPT, PROMPT_TOKENS, Door, eventually, opened
from tests.gateway.test_database_away import without_its_file
from tests.support.server import Server, Yard

TOKEN = secrets.token_urlsafe(32)
Sample = tuple[str, frozenset[tuple[str, str]]]
#: Every label that there is. None of them is a key, a tenant, a model's name or a path.
LABELS = {
    *("plane", "dialect", "status_class", "kind", "provider", "outcome", "level", "reason", "le"),
    # django-prometheus
    *("method", "transport", "view", "status", "templatename", "charset", "type"),
}


@dataclass
class Watched:
    """A door whose metrics can be read."""

    door: Door

    @property
    def server(self) -> Server:
        return self.door.server

    def scrape(self) -> str:
        # On a connection of its own: any of the workers may take it.
        bearer = {"authorization": f"Bearer {TOKEN}"}
        answer = httpx.get(f"{self.server.url}/metrics", headers=bearer, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return answer.text

    def samples(self) -> dict[Sample, float]:
        return read(self.scrape())

    def call(self, model: str, **body: Any) -> httpx.Response:
        """On a connection of its own."""
        door = self.door
        whole = {"model": model, "messages": PROMPT}
        url = f"{self.server.url}/v1/chat/completions"
        return httpx.post(
            url, json={**whole, **body}, headers=door.key.bearer, trust_env=False, timeout=30
        )


def read(text: str) -> dict[Sample, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: dict[Sample, float], name: str, **labels: str) -> float:
    return samples.get((f"gatehouse_{name}", frozenset(labels.items())), 0.0)


def grown(before: dict[Sample, float], after: dict[Sample, float]) -> dict[str, float]:
    """How much each of our counters has grown, by `name{label,label}`."""
    found = {}
    for (name, labels), now in after.items():
        ours = name.startswith("gatehouse_") and name.endswith(("_total", "_count"))
        if ours and (by := now - before.get((name, labels), 0.0)):
            shown = ",".join(text for _, text in sorted(labels))
            found[f"{name.removeprefix('gatehouse_')}{{{shown}}}"] = round(by, 9)
    return found


@pytest.fixture(scope="module")
def watched(
    request: pytest.FixtureRequest, yard: Yard, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("metrics")
    with opened(yard, folder, {"GATEHOUSE_METRICS_TOKEN": TOKEN}, request.param) as door:
        yield Watched(door)


alone_and_together = pytest.mark.parametrize("watched", [1, 2], indirect=True)
together = pytest.mark.parametrize("watched", [2], indirect=True)


# --- it adds up -------------------------------------------------------------------------------------------------------


@alone_and_together
def test_the_sums_are_those_of_the_calls_that_were_made(watched: Watched) -> None:
    door = watched.door
    narrow = door.new_key(rate_limit_rpm=1)
    door.post("/v1/chat/completions", b"{}", key=narrow)
    before = watched.samples()
    answers = [watched.call("oracle/ok") for _ in range(7)]
    answers += [watched.call("oracle/status:503"), watched.call("no-such-model")]
    answers += [watched.call("oracle/drip:3x0", stream=True)]
    assert [answer.status_code for answer in answers] == [*[200] * 7, 503, 404, 200]
    assert [door.chat("oracle/ok", key=narrow).status_code for _ in range(3)] == [200, 429, 429]
    assert httpx.get(f"{door.server.url}/v1/models", trust_env=False).status_code == 401
    assert door.client.get("/v1/models", headers=door.key.bearer).status_code == 200
    for answer in answers:
        door.row(answer)

    assert grown(before, watched.samples()) == {
        "requests_total{openai,data,2xx}": 7 + 1 + 1 + 1,
        "requests_total{openai,data,4xx}": 1 + 2 + 1,
        "requests_total{openai,data,5xx}": 1,
        # The scrape before this one; it counted itself when its answer had been put together.
        "requests_total{none,platform,2xx}": 1,
        "tokens_total{input}": 9 * PROMPT_TOKENS,
        "tokens_total{output}": 8 * 5 + 3,
        "cost_usd_total{}": pytest.approx((9 * PROMPT_TOKENS + 2 * 43) / 1_000_000),
        "upstream_attempts_total{ok,oracle}": 9,
        "upstream_attempts_total{upstream_status,oracle}": 1,
        "limit_refusals_total{key,requests}": 2,
        "request_seconds_count{}": 10,
        "overhead_seconds_count{}": 10,
        "ttfb_seconds_count{}": 10,
    }


@together
def test_the_sums_are_those_of_the_ledger(watched: Watched) -> None:
    for model in ("oracle/drip:6x0+usage:cached", "oracle/drip:6x0+usage:reasoning", "free/ok"):
        watched.door.row(watched.call(model))
    [sums] = watched.server.query(
        "SELECT SUM(tokens_in), SUM(tokens_cached), SUM(tokens_out), SUM(tokens_reasoning), SUM(cost_nano_usd)"
        " FROM usage_ledgerentry"
    )
    samples = watched.samples()
    kinds = ("input", "cached", "output", "reasoning")
    assert [value(samples, "tokens_total", kind=kind) for kind in kinds] == [*map(int, sums[:4])]
    assert value(samples, "cost_usd_total") == pytest.approx(int(sums[4]) / 10**9)


@pytest.mark.sqlite
@together
def test_a_call_that_took_its_time_is_in_the_buckets_for_it(watched: Watched) -> None:
    before = watched.samples()
    watched.door.row(watched.call("oracle/drip:3x0.2", stream=True))
    after = watched.samples()

    def into(name: str, le: str) -> float:
        return value(after, f"{name}_bucket", le=le) - value(before, f"{name}_bucket", le=le)

    assert (into("request_seconds", "0.25"), into("request_seconds", "+Inf")) == (0, 1)
    assert into("overhead_seconds", "+Inf") == into("ttfb_seconds", "+Inf") == 1
    for name in ("request_seconds", "overhead_seconds", "ttfb_seconds"):
        edges = [dict(labels)["le"] for (it, labels) in after if it == f"gatehouse_{name}_bucket"]
        numbers = sorted(float(edge) for edge in edges)
        assert len(numbers) == len(set(numbers)) > 10
        cumulated = [value(after, f"{name}_bucket", le=edge) for edge in sorted(edges, key=float)]
        assert cumulated == sorted(cumulated)
        assert cumulated[-1] == value(after, f"{name}_count")
    assert {0.02} < {
        float(dict(labels)["le"])
        for (it, labels) in after
        if it == "gatehouse_overhead_seconds_bucket"
    }


@together
def test_what_stands_open_is_told(watched: Watched) -> None:
    with watched.door.client.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "oracle/drip:400x0.05", "messages": PROMPT, "stream": True},
        headers=watched.door.key.bearer,
    ) as answer:
        assert answer.status_code == 200
        eventually(lambda: value(watched.samples(), "holds_open") == 1)
    eventually(lambda: value(watched.samples(), "holds_open") == 0)
    eventually(lambda: value(watched.samples(), "journal_records") == 0)
    samples = watched.samples()
    [(rows,)] = watched.server.query("SELECT COUNT(*) FROM tenants_auditevent")
    assert value(samples, "audit_head") == rows
    assert 0 <= value(samples, "snapshot_lag_seconds") < 30


# --- workers die ------------------------------------------------------------------------------------------------------


@alone_and_together
def test_no_sum_falls_when_a_worker_is_killed_and_none_is_counted_twice(watched: Watched) -> None:
    server = watched.server
    for _ in range(6):
        watched.door.row(watched.call("oracle/ok"))
    before = watched.samples()
    for _ in range(2):
        killed = server.worker_pids()
        for pid in killed:
            server.kill_worker(pid)
        eventually(partial(replaced, server, killed), within=60.0)
        server.wait_ready()
    after = watched.samples()
    ours = [sample for sample in before if sample[0].startswith("gatehouse_")]
    falling = {
        "gatehouse_snapshot_lag_seconds",
        "gatehouse_holds_open",
        "gatehouse_journal_records",
    }
    assert [it for it in ours if it[0] not in falling and after.get(it, 0) < before[it]] == []
    assert {name for name in grown(before, after) if "platform" not in name} == set()

    watched.door.row(watched.call("oracle/ok"))
    assert grown(after, watched.samples())["requests_total{openai,data,2xx}"] == 1
    # A seat's files are taken over: as many as there are workers, however many died.
    [folder] = (server.var / "metrics").iterdir()
    assert len(list(folder.glob("counter_*.db"))) == server.workers


def replaced(server: Server, killed: list[int]) -> bool:
    now = server.worker_pids()
    return len(now) == server.workers and not set(now) & set(killed)


@together
def test_a_call_whose_worker_was_killed_is_counted_when_it_is_settled(watched: Watched) -> None:
    server, door = watched.server, watched.door
    before = watched.samples()
    body = {"model": "oracle/drip:2000x0.05", "messages": PROMPT, "stream": True}
    with door.client.stream(
        "POST", "/v1/chat/completions", json=body, headers=door.key.bearer
    ) as answer:
        name = answer.headers["x-request-id"]
        killed = server.worker_pids()
        for pid in killed:
            server.kill_worker(pid)
        with pytest.raises(httpx.TransportError):
            answer.read()
    eventually(lambda: replaced(server, killed), within=60.0)
    server.wait_ready()
    eventually(lambda: door.has_row(name), within=60.0)
    [entry] = door.entries(name)

    def counted() -> dict[str, float]:
        return {
            name: by
            for name, by in grown(before, watched.samples()).items()
            if "platform" not in name
        }

    expected = {
        "requests_total{openai,data,5xx}": 1,
        "upstream_attempts_total{unknown,(others)}": 1,
        "tokens_total{input}": entry["tokens_in"],
        "cost_usd_total{}": pytest.approx(entry["cost_nano_usd"] / 10**9),
    }
    assert eventually(lambda: (seen := counted()) and len(seen) >= 4 and seen) == expected


@pytest.mark.sqlite
@together
def test_a_new_start_begins_at_nothing_and_leaves_no_files_behind(watched: Watched) -> None:
    server = watched.server
    watched.door.row(watched.call("oracle/ok"))
    [old] = (server.var / "metrics").iterdir()
    server.kill()
    server.start()
    [new] = (server.var / "metrics").iterdir()
    assert new != old
    assert (
        value(
            watched.samples(), "requests_total", plane="data", dialect="openai", status_class="2xx"
        )
        == 0
    )
    server.stop()
    assert list((server.var / "metrics").iterdir()) == []
    server.start()


# --- who may read it, and what it tells -------------------------------------------------------------------------------


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {'x' * 5000}"},
        {"authorization": "Bearer \u00e9\u00e8"},
        {"x-api-key": TOKEN},
    ],
    ids=range(9),
)
@together
def test_without_the_token_it_is_401(watched: Watched, headers: dict[str, str]) -> None:
    raw = {name.encode(): text.encode("latin-1") for name, text in headers.items()}
    answer = watched.door.client.get("/metrics", headers=raw)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["error"]["code"] == "invalid_credentials"
    assert "gatehouse_requests" not in answer.text
    assert watched.door.client.get(f"/metrics?token={TOKEN}").status_code == 401
    as_operator = {"authorization": f"Bearer {watched.door.admin.token}"}
    assert watched.door.client.get("/metrics", headers=as_operator).status_code == 401


@pytest.mark.sqlite
def test_while_no_token_is_set_nobody_may_read_it_and_is_told_why(door: Door) -> None:
    for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Bearer None"}):
        answer = door.client.get("/metrics", headers=headers)
        assert answer.status_code == 401
        assert "www-authenticate" in answer.headers
        assert "GATEHOUSE_METRICS_TOKEN" in answer.json()["error"]["message"]


@pytest.mark.sqlite
@together
def test_a_thousand_odd_names_make_no_new_series(watched: Watched) -> None:
    door = watched.door
    one = door.new_provider(door.oracle.api, "sk-own", name="p1")
    door.new_model("one-more", one, "ok")
    strange = [f"/v1/{secrets.token_hex(8)}", f"/{secrets.token_hex(8)}", "/v1/models/x"]
    strange += ["/v1/admin/nothing", "/console/nothing"]
    with httpx.Client(base_url=door.server.url, trust_env=False, timeout=30) as client:
        for path in strange:
            client.get(path, headers=door.key.bearer)
            client.request("BREW", path)
        watched.call("no-such-model")
        # A scrape counts itself, but only when its answer is complete.
        watched.scrape()
        known = set(watched.samples())
        for n in range(700):
            odd = f'{n}-{secrets.token_urlsafe(6)}"\\\n{{}}'
            body = {"model": odd, "messages": PROMPT}
            client.post("/v1/chat/completions", json=body, headers=door.key.bearer)
        for n in range(100):
            client.get(f"/v1/models/{secrets.token_urlsafe(8)}", headers=door.key.bearer)
            client.get(f"/{secrets.token_urlsafe(8)}/{n}")
            client.request(secrets.token_hex(3).upper(), f"/v1/{n}")
    text = watched.scrape()
    assert set(read(text)) - known == set()
    assert len(text) < 256 * 1024


@together
def test_no_label_but_the_known_ones_and_no_secret_is_told(watched: Watched) -> None:
    watched.call("oracle/ok")
    text = watched.scrape()
    assert {name for _, labels in read(text) for name, _ in labels} <= LABELS
    door = watched.door
    told = [door.key.secret, door.key.prefix, door.key.id, door.tenant.id, door.upstream_key, TOKEN]
    told += ["acme", door.admin.token, "oracle/ok"]
    assert [it for it in told if it in text] == []


def test_a_providers_name_is_shown_only_if_it_is_among_the_first() -> None:
    meters = Meters(registry := CollectorRegistry())
    for n in range(1_000):
        meters._attempts_of(meters._shown(f"provider {n}"), "ok").inc()
    samples = read(generate_latest(registry).decode())
    shown = {dict(labels)["provider"] for (name, labels) in samples if "attempts" in name}
    assert len(shown) == counted.MAX_PROVIDERS + 1
    assert value(samples, "upstream_attempts_total", provider=counted.OTHERS, outcome="ok") == 900


@pytest.mark.parametrize(
    ("path", "plane"),
    [
        ("/v1/chat/completions", planes.DATA),
        ("/v1beta/models/x:generateContent", planes.DATA),
        ("/openai/deployments/d/chat/completions", planes.DATA),
        ("/v1/admin/keys/x", planes.ADMIN),
        ("/v1/administer", planes.DATA),
        ("/console/", planes.CONSOLE),
        ("/mcp", planes.MCP),
        ("/readyz", planes.PLATFORM),
        ("/health/detail", planes.PLATFORM),
        ("/", planes.OTHER),
        ("", planes.OTHER),
        ("/wp-login.php", planes.OTHER),
    ],
)
def test_every_address_is_of_one_of_a_few_planes(path: str, plane: str) -> None:
    assert planes.plane_of(path) == plane


# --- when things are away ---------------------------------------------------------------------------------------------


@pytest.mark.sqlite
@together
def test_it_answers_while_the_database_is_away(watched: Watched) -> None:
    watched.door.row(watched.call("oracle/ok"))
    assert value(watched.samples(), "audit_head") > 0
    with without_its_file(watched.server):
        eventually(lambda: "gatehouse_audit_head" not in watched.scrape())
        samples = watched.samples()
    assert value(samples, "upstream_attempts_total", provider="oracle", outcome="ok") >= 1


@contextmanager
def a_worker(files: shared.SharedFiles, others: list[object]) -> Iterator[mock.Mock]:
    worker = mock.Mock(spec=[])
    arbiter = mock.Mock(WORKERS=dict(enumerate(others)))
    files.assign_seat(arbiter, worker)
    others.append(worker)
    yield worker
    others.remove(worker)


def test_a_seat_is_free_when_its_worker_has_gone(tmp_path: Path) -> None:
    files = shared.SharedFiles(tmp_path)
    others: list[object] = []
    with a_worker(files, others) as first, a_worker(files, others) as second:
        seats = [getattr(worker, shared._SEAT) for worker in (first, second)]
        others.remove(first)
        with a_worker(files, others) as third:
            assert [*seats, getattr(third, shared._SEAT)] == [0, 1, 0]
        others.append(first)
    files.remove()


def test_a_folder_is_kept_while_anybody_of_its_server_lives(tmp_path: Path) -> None:
    first = shared.SharedFiles(tmp_path)
    child = os.fork()
    if child == 0:
        signal.pause()
    os.close(first._lock)
    second = shared.SharedFiles(tmp_path)
    assert first.folder.is_dir()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    third = shared.SharedFiles(tmp_path)
    assert not first.folder.exists()
    assert second.folder.is_dir()
    for it in (second, third):
        it.remove()
        os.close(it._lock)


def test_a_full_disk_costs_the_sums_and_not_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = shared.SharedFiles(tmp_path)
    before = values.ValueClass
    monkeypatch.setattr(os, "posix_fallocate", mock.Mock(side_effect=OSError(28, "No space left")))
    monkeypatch.setattr(shared._place, "folder", None)
    worker = mock.Mock(spec=[])
    files.assign_seat(mock.Mock(WORKERS={}), worker)
    files.take_seat(worker)
    assert values.ValueClass is before
    files.remove()
    os.close(files._lock)
