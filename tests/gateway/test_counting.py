"""What a call leaves in the books: ledger, attempts, log and monthly sums, with exact numbers; and bodies only where asked."""

import httpx
import pytest

from gateway.relay import content
from tenants import sealing
from tests.gateway.door import PROMPT_TOKENS, Door, Json, Key, error_of, eventually

_SUMS = (
    "requests, tokens_in, tokens_cached, tokens_out, tokens_reasoning, cost_nano_usd,"
    " unpriced_requests, estimated_requests"
)

pytestmark = pytest.mark.data_plane


def sums(door: Door, key: Key) -> dict[str, tuple[int, ...]]:
    """The month's sums of a key by model."""
    rows = door.server.query(
        f"SELECT model, {_SUMS} FROM usage_rollup WHERE key_prefix = %s", [key.prefix]
    )
    return {row[0]: tuple(int(number) for number in row[1:]) for row in rows}


def settled(door: Door, answer: httpx.Response) -> tuple[Json, Json, Json]:
    """The one log row, ledger line and attempt of a call."""
    (entry,), (attempt,) = door.entries(answer), door.attempts(answer)
    return door.row(answer), entry, attempt


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_written_down_exactly(door: Door, stream: bool) -> None:
    key = door.new_key()
    answer = door.chat("oracle/ok", key=key, stream=stream)
    row, entry, attempt = settled(door, answer)
    expected: Json = {"tokens_in": PROMPT_TOKENS, "tokens_out": 5, "tokens_cached": 0}
    expected |= {"tokens_reasoning": 0, "cost_nano_usd": 4_000 + 10_000}
    expected |= {"usage_source": "provider", "dispatched": "yes", "model": "oracle/ok"}
    for told in (row, entry):
        assert {name: told[name] for name in expected} == expected
    assert (row["status"], row["error_code"], bool(row["stream"])) == (200, "", stream)
    assert (row["tenant"], row["key_prefix"]) == ("acme", key.prefix)
    assert (row["provider"], row["target"], row["attempts"]) == ("oracle", "ok", 1)
    assert (row["dialect_in"], row["dialect_out"]) == ("openai", "openai")
    assert (attempt["n"], attempt["outcome"], attempt["status"]) == (1, "ok", 200)
    assert entry["price_id"] == attempt["price_id"] is not None
    assert attempt["credential_id"] is not None
    assert 0 < attempt["ttfb_us"] <= attempt["duration_us"] <= row["duration_us"]
    assert sums(door, key) == {"oracle/ok": (1, PROMPT_TOKENS, 0, 5, 0, 14_000, 0, 0)}
    door.assert_nothing_left()


def test_the_cost_is_told_when_it_is_known_before_the_body(door: Door) -> None:
    assert door.chat("oracle/ok").headers["x-gatehouse-cost-usd"] == "0.000014"
    assert "x-gatehouse-cost-usd" not in door.chat("oracle/ok", stream=True).headers
    assert "x-gatehouse-cost-usd" not in door.chat("free/ok").headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "cached", "reasoning", "cost"),
    [
        # 4 in at 1 (3 of them at 0.5), 6 out at 2 (3 of them at 3) USD per million: nano-USD, a thousand each per USD
        ("cached", 3, 0, 1_000 + 1_500 + 12_000),
        ("reasoning", 0, 3, 4_000 + 6_000 + 9_000),
    ],
)
def test_cached_and_reasoning_tokens_have_their_own_price(
    door: Door, stream: bool, kind: str, cached: int, reasoning: int, cost: int
) -> None:
    answer = door.chat(f"oracle/drip:6x0+usage:{kind}", stream=stream)
    _, entry, _ = settled(door, answer)
    assert (entry["tokens_in"], entry["tokens_out"]) == (PROMPT_TOKENS, 6)
    assert (entry["tokens_cached"], entry["tokens_reasoning"]) == (cached, reasoning)
    assert entry["cost_nano_usd"] == cost


def test_embeddings_count_their_input_alone(door: Door) -> None:
    body = {"model": "embed/ok", "input": ["three words here", "and three more"]}
    answer = door.post("/v1/embeddings", body)
    _, entry, _ = settled(door, answer)
    assert (entry["tokens_in"], entry["tokens_out"], entry["cost_nano_usd"]) == (6, 0, 6_000)
    assert entry["usage_source"] == "provider"


@pytest.mark.parametrize("stream", [False, True])
def test_without_a_price_the_cost_is_unknown_and_flagged(door: Door, stream: bool) -> None:
    key = door.new_key()
    row, entry, _ = settled(door, door.chat("free/ok", key=key, stream=stream))
    assert row["cost_nano_usd"] is entry["cost_nano_usd"] is entry["price_id"] is None
    assert sums(door, key) == {"free/ok": (1, PROMPT_TOKENS, 0, 5, 0, 0, 1, 0)}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "kind",
    ["none", "null", "negative", "nan", "huge", "string", "float", "bool", "list", "partial"],
)
def test_usage_that_cannot_be_believed_is_estimated(door: Door, kind: str, stream: bool) -> None:
    key = door.new_key()
    model = f"oracle/ok+usage:{kind}"
    answer = door.chat(model, key=key, stream=stream)
    assert answer.status_code == 200
    _, entry, _ = settled(door, answer)
    assert entry["usage_source"] == "estimated"
    assert 1 <= entry["tokens_in"] <= 100
    assert 5 <= entry["tokens_out"] <= 100
    assert entry["cost_nano_usd"] == 1_000 * entry["tokens_in"] + 2_000 * entry["tokens_out"]
    assert sums(door, key)[model][-1] == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_explicit_zero_is_zero(door: Door, stream: bool) -> None:
    _, entry, _ = settled(door, door.chat("oracle/ok+usage:zero", stream=stream))
    assert (entry["tokens_in"], entry["tokens_out"], entry["cost_nano_usd"]) == (0, 0, 0)
    assert entry["usage_source"] == "provider"


@pytest.mark.parametrize("kind", ["running", "unasked", "lying-total"])
def test_usage_in_other_places_is_found_too(door: Door, kind: str) -> None:
    _, entry, _ = settled(door, door.chat(f"oracle/ok+usage:{kind}", stream=True))
    assert (entry["tokens_in"], entry["tokens_out"]) == (PROMPT_TOKENS, 5)
    assert entry["usage_source"] == "provider"


def test_an_upstreams_refusal_costs_nothing_and_is_in_the_log(door: Door) -> None:
    row, entry, attempt = settled(door, door.chat("oracle/status:429"))
    assert (row["status"], row["error_code"]) == (429, "upstream_error")
    assert (entry["cost_nano_usd"], entry["usage_source"]) == (0, "none")
    assert (attempt["outcome"], attempt["status"]) == ("upstream_status", 429)


def test_a_refusal_of_ours_is_one_log_row_and_nothing_else(door: Door) -> None:
    answer = door.chat("no-such-model")
    assert error_of(answer)["code"] == "model_not_found"
    row = door.row(answer)
    assert (row["status"], row["error_code"]) == (404, "model_not_found")
    assert (row["dispatched"], row["attempts"], row["cost_nano_usd"]) == ("no", 0, 0)
    assert row["model"] == "no-such-model"
    assert door.entries(answer) == door.attempts(answer) == []


def test_many_calls_add_up(door: Door) -> None:
    key = door.new_key()
    answers = [door.chat("oracle/ok", key=key, stream=n % 2 == 1) for n in range(10)]
    assert {answer.status_code for answer in answers} == {200}
    row = (10, 10 * PROMPT_TOKENS, 0, 50, 0, 140_000, 0, 0)
    eventually(lambda: sums(door, key) == {"oracle/ok": row})
    used = door.admin.call("GET", f"keys/{key.id}/usage")
    assert (used["tokens_in"], used["tokens_out"], used["requests_this_month"]) == (40, 50, 10)
    assert used["cost_usd"] == "0.00014"


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_bodies_are_kept_sealed_where_key_and_tenant_both_ask(door: Door, stream: bool) -> None:
    tenant = door.new_tenant(content_logging=True)
    asking, silent = door.new_key(tenant, log_content=True), door.new_key(tenant)
    words = "the prompt that is nobody else's business"
    messages = [{"role": "user", "content": words}]
    for key in (asking, silent):
        door.chat("oracle/ok", key=key, messages=messages, stream=stream)
    kept = door.chat("oracle/ok", key=asking, messages=messages, stream=stream)
    not_kept = door.chat("oracle/ok", key=silent, messages=messages, stream=stream)
    assert sealed_of(door, not_kept) is None
    sealed = sealed_of(door, kept)
    assert sealed is not None
    assert words.encode() not in sealed
    assert sealing.key_version_of(sealed) == 1
    assert len(sealed) > len(words) + len(kept.content) // 2
    assert len(sealed) <= 2 * content.MAX_KEPT + 1024


def test_a_key_cannot_ask_for_what_its_tenant_did_not_allow(door: Door) -> None:
    key = door.new_key(door.new_tenant(content_logging=False), log_content=True)
    assert sealed_of(door, door.chat("oracle/ok", key=key)) is None


def sealed_of(door: Door, answer: httpx.Response) -> bytes | None:
    """What is kept of a call's bodies."""
    found = door.server.query(
        "SELECT c.sealed FROM usage_requestcontent c"
        " JOIN usage_requestlog l ON l.request_id = c.request_id WHERE l.correlation_id = %s",
        [door.row(answer)["correlation_id"]],
    )
    return bytes(found[0][0]) if found else None
