"""Limits at the public door of a server with two workers: together they are one."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.gateway.door import PROMPT, SEEN_WITHIN, Door, Key, error_of, eventually, opened, refused
from tests.support.server import Yard

MODEL = "oracle/tokens:3"


@pytest.fixture(scope="module")
def two(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with opened(yard, tmp_path_factory.mktemp("two"), workers=2) as door:
        yield door


def call(door: Door, key: Key, model: str = MODEL, **body: Any) -> httpx.Response:
    """On a connection of its own: either worker may take it."""
    whole = {"model": model, "messages": PROMPT, **body}
    return httpx.post(
        f"{door.server.url}/v1/chat/completions",
        json=whole,
        headers=key.bearer,
        trust_env=False,
        timeout=30.0,
    )


def crowd(door: Door, key: Key, number: int, model: str = MODEL) -> list[httpx.Response]:
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda _: call(door, key, model), range(number)))


def passed(answers: list[httpx.Response]) -> int:
    for answer in answers:
        assert answer.status_code in {200, 429}, answer.text
    return sum(answer.status_code == 200 for answer in answers)


def seen_by_both(door: Door) -> None:
    """`wait_seen` hears of one worker only; a route that was not there a moment ago is not looked up like a key."""
    door.wait_seen()
    if not door.on_sqlite:
        time.sleep(SEEN_WITHIN)


def limited(door: Door, **fields: Any) -> Key:
    key = door.new_key(**fields)
    door.wait_seen()
    return key


def test_two_workers_share_what_a_key_may_do_in_a_minute(two: Door) -> None:
    key = limited(two, rate_limit_rpm=20, burst=20)
    assert passed(crowd(two, key, 40)) == 20


def test_no_more_than_the_burst_comes_at_once_and_the_rest_comes_in_time(two: Door) -> None:
    key = limited(two, rate_limit_rpm=120)
    began = time.monotonic()
    answers = crowd(two, key, 40)
    allowed = 20 + 2 * (time.monotonic() - began)
    assert 20 <= passed(answers) <= allowed + 1
    wait = min(int(a.headers["retry-after"]) for a in answers if a.status_code == 429)
    assert wait == 1
    time.sleep(wait)
    assert call(two, key).status_code == 200


def test_every_window_of_several_counts(two: Door) -> None:
    key = limited(two, rate_limits=["3/s", "5/h"])
    began = time.monotonic()
    first = passed(crowd(two, key, 12))
    assert first == 3 or (3 < first <= 5 and time.monotonic() - began > 1.0)
    time.sleep(1.2)
    assert first + passed(crowd(two, key, 12)) == 5
    answer = call(two, key)
    assert refused(two, answer, 429, "rate_limit_exceeded")["type"] == "rate_limit_error"
    assert 3500 <= int(answer.headers["retry-after"]) <= 3601


def test_a_days_requests_are_counted_by_all(two: Door) -> None:
    key = limited(two, daily_limit=4)
    answers = [call(two, key) for _ in range(6)]
    assert [a.status_code for a in answers] == [200] * 4 + [429] * 2
    left = [a.headers["x-ratelimit-remaining-requests"] for a in answers]
    assert left == ["3", "2", "1", "0", "0", "0"]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 86_400


def test_what_is_left_is_told_with_every_answer(two: Door) -> None:
    key = limited(two, rate_limit_rpm=4)
    answers = [call(two, key) for _ in range(5)]
    assert [a.status_code for a in answers] == [200] * 4 + [429]
    assert [a.headers["x-ratelimit-limit-requests"] for a in answers] == ["4"] * 5
    left = [a.headers["x-ratelimit-remaining-requests"] for a in answers]
    assert left == ["3", "2", "1", "0", "0"]
    # What was leased counts from the end of its lease.
    assert answers[0].headers["x-ratelimit-reset-requests"] in {"1m0.1s", "1m0.75s"}


def test_what_is_left_is_what_may_come_at_once(two: Door) -> None:
    key = limited(two, rate_limit_rpm=6, burst=3)
    answers = [call(two, key) for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    left = [a.headers["x-ratelimit-remaining-requests"] for a in answers]
    assert left == ["2", "1", "0", "0"]
    assert {a.headers["x-ratelimit-limit-requests"] for a in answers} == {"6"}
    sentence = "Of the 6 requests a minute of this key, at most 3 may come at once; try again in"
    assert error_of(answers[-1])["message"].startswith(sentence)


def test_a_refusal_tells_what_is_left_of_the_other_limits_too(two: Door) -> None:
    key = limited(two, rate_limit_rpm=6, rate_limit_tpm=1000, max_concurrency=1)
    assert call(two, key, max_tokens=10).status_code == 200
    answer = call(two, key, max_tokens=995)
    error = refused(two, answer, 429, "rate_limit_exceeded")
    assert error["message"].startswith("The limit of 1000 tokens a minute of this key is reached")
    assert answer.headers["x-ratelimit-limit-requests"] == "6"
    assert answer.headers["x-ratelimit-remaining-requests"] == "5"
    assert 0 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 1000
    with ThreadPoolExecutor(1) as other:
        running = other.submit(call, two, key, "oracle/slow:1.0", max_tokens=10)
        time.sleep(0.5)
        answer = call(two, key, max_tokens=10)
        assert running.result().status_code == 200
    error = refused(two, answer, 429, "rate_limit_exceeded")
    assert error["message"].startswith("The limit of 1 running request of this key is reached")
    assert answer.headers["x-ratelimit-remaining-requests"] == "4"
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) > 0


def test_calls_at_once_are_counted_by_all(two: Door) -> None:
    key = limited(two, max_concurrency=3)
    model = "oracle/slow:1.0"
    assert passed(crowd(two, key, 8, model)) == 3
    time.sleep(0.6)
    assert passed(crowd(two, key, 3, model)) == 3, "slots are free when their calls have ended"


def test_whoever_has_no_more_running_than_may_is_not_refused(two: Door) -> None:
    """Each call on a connection of its own, at one worker or the other."""
    key = limited(two, max_concurrency=2, rate_limit_rpm=1000, burst=1000)

    def one_after_the_other(_: int) -> list[int]:
        return [call(two, key).status_code for _ in range(15)]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one_after_the_other, range(2))) == [[200] * 15] * 2


@pytest.mark.parametrize("name", ["ada", "bob", "cyd"])
def test_after_a_top_up_the_next_call_is_paid_for(two: Door, name: str) -> None:
    user = two.admin.call("POST", "users", {"tenant": two.tenant.id, "username": name})
    key = limited(two, account=user["id"])
    refusals = [call(two, key) for _ in range(6)]
    assert {error_of(answer)["code"] for answer in refusals} == {"balance_exhausted"}
    two.admin.call("POST", f"users/{user['id']}/top-up", {"amount_usd": "0.1"})
    seen_by_both(two)
    assert call(two, key).status_code == 200


def test_tokens_of_a_minute_are_taken_by_estimate_and_corrected(two: Door) -> None:
    key = limited(two, rate_limit_tpm=1000)
    first = call(two, key, max_tokens=900)
    assert first.status_code == 200, first.text
    assert first.headers["x-ratelimit-limit-tokens"] == "1000"
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 100
    eventually(lambda: call(two, key, max_tokens=900).status_code == 200, within=3.0)
    # An estimate beyond the limit is no reason to be refused for ever; but nothing else may be in the way.
    key = limited(two, rate_limit_tpm=1000)
    assert call(two, key, max_tokens=5000).status_code == 200


def test_refused_takes_nothing_of_any_other_level(two: Door) -> None:
    tenant = two.new_tenant(rate_limit_rpm=100, burst=100)
    narrow, wide = two.new_key(tenant, rate_limit_rpm=1), two.new_key(tenant)
    two.wait_seen()
    assert passed(crowd(two, narrow, 20)) == 1
    time.sleep(1.0)
    assert call(two, wide).headers["x-ratelimit-remaining-requests"] == "98"


@pytest.mark.parametrize("level", ["project", "tenant", "provider", "model"])
def test_every_level_limits(two: Door, level: str) -> None:
    tenant, key, model = two.tenant, two.key, MODEL
    limits: dict[str, Any] = {"rate_limit_rpm": 6, "burst": 6}
    if level == "project":
        project = two.admin.call("POST", "projects", {"tenant": tenant.id, "name": "p", **limits})
        key = two.new_key(tenant, project=project["id"])
    elif level == "tenant":
        tenant = two.new_tenant(**limits)
        key = two.new_key(tenant)
    else:
        its = limits if level == "provider" else {}
        provider = two.new_provider(two.oracle.api, None, **its)
        model = two.new_model(f"of-{level}", provider, "tokens:3", **({} if its else limits))
    seen_by_both(two)
    answers = crowd(two, key, 18, model)
    assert passed(answers) == 6
    told = next(a for a in answers if a.status_code == 429)
    assert f"of this {level} is reached" in error_of(told)["message"]


def test_a_models_own_requests_stand_in_place_of_its_providers(two: Door) -> None:
    provider = two.new_provider(two.oracle.api, None, rate_limit_rpm=2, burst=2)
    wide = two.new_model("wide", provider, "tokens:3", rate_limit_rpm=60, burst=10)
    plain = two.new_model("plain", provider, "tokens:3")
    seen_by_both(two)
    assert passed(crowd(two, two.key, 10, wide)) == 10
    assert passed(crowd(two, two.key, 6, plain)) == 2


def test_a_provider_that_allows_no_more_is_passed_over(two: Door) -> None:
    first = two.new_provider(two.oracle.api, None, rate_limit_rpm=2, burst=2)
    second = two.new_provider(two.oracle.api, None)
    targets = [
        {"provider": first, "upstream_model": "tokens:3", "priority": 0},
        {"provider": second, "upstream_model": "tokens:4", "priority": 1},
    ]
    two.admin.call("POST", "models", {"id": "either", "targets": targets})
    seen_by_both(two)
    served = [call(two, two.key, "either").headers["x-gatehouse-target"] for _ in range(4)]
    assert served == ["tokens:3", "tokens:3", "tokens:4", "tokens:4"]


def test_limits_say_no_before_anything_is_sent(two: Door) -> None:
    key = limited(two, rate_limit_rpm=1)
    assert call(two, key).status_code == 200
    sent = len(two.oracle.calls)
    answer = call(two, key)
    error = refused(two, answer, 429, "rate_limit_exceeded")
    assert error["message"].startswith("The limit of 1 request a minute of this key is reached")
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert 55 <= int(answer.headers["retry-after"]) <= 61
    assert len(two.oracle.calls) == sent


# --- money ------------------------------------------------------------------------------------------------------------


def test_a_budget_is_final_for_its_month_and_names_what_would_fit(two: Door) -> None:
    key = limited(two, cost_budget_usd="0.001")  # 1 and 2 USD per million tokens
    assert call(two, key, max_tokens=100).status_code == 200
    answer = call(two, key, max_tokens=1000)
    error = refused(two, answer, 402, "budget_exhausted")
    assert error["type"] == "insufficient_quota"
    fits = int(re.findall(r"at most (\d+)", error["message"])[0])
    assert answer.headers["x-should-retry"] == "false"
    assert re.fullmatch(r"20\d\d-\d\d-01T00:00:00Z", answer.headers["x-gatehouse-reset"])
    assert 100 < fits < 500
    # The other worker may hold some of it for a moment.
    eventually(lambda: call(two, key, max_tokens=fits).status_code == 200, within=3.0)


def test_with_clamping_the_answer_is_shorter_instead(two: Door) -> None:
    key = limited(two, cost_budget_usd="0.001", clamp_to_budget=True)
    answer = call(two, key, max_tokens=1000)
    assert answer.status_code == 200, answer.text
    cap = int(answer.headers["x-gatehouse-max-tokens"])
    assert json.loads(two.upstream_call(answer).body)["max_tokens"] == cap < 1000


def test_what_has_no_price_is_refused_under_a_money_budget(two: Door) -> None:
    key = limited(two, cost_budget_day_usd="1")
    refused(two, call(two, key, "free/tokens:3"), 400, "model_not_priced")
    assert call(two, key).status_code == 200


def test_many_at_once_never_spend_more_than_the_budget(two: Door) -> None:
    """A call uses 7 tokens and is bound at more. Each is tried again until its answer is final."""
    key = limited(two, tokens_budget_day=700)

    def persist(_: int) -> int:
        for _ in range(40):
            answer = call(two, key, max_tokens=3)
            if answer.status_code != 429:
                assert answer.status_code in {200, 402}, answer.text
                return int(answer.status_code == 200)
            time.sleep(0.25)
        raise AssertionError("held for ever")

    with ThreadPoolExecutor(12) as pool:
        passed = sum(pool.map(persist, range(110)))
    bound = len(call(two, key, max_tokens=3).request.content) + 3
    assert passed == (700 - bound) // 7 + 1
