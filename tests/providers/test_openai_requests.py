"""OpenAI's requests: what is read, what is refused, what goes upstream."""

import json
import math
import time
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import openai
from providers.dialects.body import (
    MAX_DEPTH,
    BadBody,
    DialectError,
    UnusableCredential,
    read_object,
)
from tenants.sealing import Secret

CHAT = b'{"model":"m","messages":[{"role":"user","content":"Hello"}]'


def chat(more: bytes = b"") -> openai.CallBody:
    return openai.read_request(CHAT + (b"," + more if more else b"") + b"}", "chat")


def refused(body: bytes, capability: str = "chat") -> BadBody:
    with pytest.raises(BadBody) as caught:
        openai.read_request(body, capability)
    assert caught.value.message.endswith(".")
    return caught.value


def test_a_chat_request_is_read() -> None:
    call = chat(b'"stream":true,"max_tokens":50,"n":2,"stream_options":{"include_usage":true}')
    assert (call.model, call.stream, call.wants_usage) == ("m", True, True)
    assert (call.output_cap, call.n) == (50, 2)
    assert call.text_only
    assert call.capability == "chat"


def test_what_is_absent_or_null_has_its_default() -> None:
    for more in (
        b"",
        b'"stream":null,"n":null,"max_tokens":null,"stream_options":null,"best_of":null',
        b'"stream_options":{}',
        b'"stream_options":{"include_usage":null}',
    ):
        call = chat(more)
        assert (call.stream, call.wants_usage, call.output_cap, call.n) == (False, False, None, 1)


@pytest.mark.parametrize(
    ("more", "cap"),
    [
        (b'"max_tokens":7', 7),
        (b'"max_completion_tokens":9', 9),
        (b'"max_tokens":7,"max_completion_tokens":9', 9),
        (b'"max_tokens":9,"max_completion_tokens":7', 9),
        (b'"max_tokens":null,"max_completion_tokens":7', 7),
    ],
)
def test_the_larger_cap_counts(more: bytes, cap: int) -> None:
    assert chat(more).output_cap == cap


@pytest.mark.parametrize(
    ("prompt", "n"),
    [
        (b'"one"', 1),
        (b'["one"]', 1),
        (b'["one","two, [with] a comma","three"]', 3),
        (b"[1,2,3]", 1),
        (b"[[1,2],[3]]", 2),
        (b"[]", 1),
        (b"[ ]", 1),
        (b"null", 1),
    ],
)
def test_every_prompt_of_a_list_is_an_output(prompt: bytes, n: int) -> None:
    body = b'{"model":"m","prompt":' + prompt
    assert openai.read_request(body + b"}", "completion").n == n
    assert openai.read_request(body + b',"n":4}', "completion").n == 4 * n
    assert openai.read_request(body + b',"n":2,"best_of":5}', "completion").n == 5 * n


def test_a_million_tokens_in_a_prompt_are_not_a_million_objects() -> None:
    body = b'{"model":"m","prompt":[' + b"1," * 1_000_000 + b"1]}"
    assert openai.read_request(body, "completion").n == 1
    body = b'{"model":"m","prompt":[' + b'"",' * 1_000_000 + b'""]}'
    assert refused(body, "completion").param == "prompt"


def test_an_embedding_request_is_read() -> None:
    call = openai.read_request(b'{"model":"e","input":["a","b"]}', "embedding")
    assert (call.model, call.n, call.stream, call.prompt_estimate) == ("e", 1, False, 3)
    assert refused(b'{"model":"e"}', "embedding").param == "input"
    assert refused(b'{"model":"e","input":"a","stream":true}', "embedding").param == "stream"


def test_the_prompt_is_estimated_from_its_text() -> None:
    size = len(b'[{"role":"user","content":"Hello"}]')
    assert chat().prompt_estimate == math.ceil(size / 3.5)
    tools = b'[{"type":"function"}]'
    assert chat(b'"tools":' + tools).prompt_estimate == math.ceil((size + len(tools)) / 3.5)
    call = openai.read_request(b'{"model":"m","prompt":""}', "completion")
    assert call.prompt_estimate == 1
    assert openai.read_request(b'{"model":"m"}', "completion").prompt_estimate == 1


def test_an_image_counts_as_a_part_not_as_its_bytes() -> None:
    image = (
        b'{"type":"image_url","image_url":{"url":"data:image/png;base64,' + b"A" * 500_000 + b'"}}'
    )
    messages = b'[{"role":"user","content":[{"type":"text","text":"What?"},' + image + b"]}]"
    call = openai.read_request(b'{"model":"m","messages":' + messages + b"}", "chat")
    assert not call.text_only
    assert openai.TOKENS_PER_PART < call.prompt_estimate < openai.TOKENS_PER_PART + 100


@pytest.mark.parametrize(
    ("content", "text_only"),
    [
        (b'"text"', True),
        (b"null", True),
        (b"[]", True),
        (b'[{"type":"text","text":"a"},{"type":"refusal","refusal":"no"}]', True),
        (b'[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]', False),
        (b'[{"ty\\u0070e":"image\\u005furl","image_url":{"url":"https://x/y.png"}}]', False),
        (b'[{"type":"text"},{"type":"input_audio","input_audio":{}}]', False),
        (b'[{"type":"file","file":{"file_id":"f"}}]', False),
        (b'[{"type":"something new"}]', False),
        (b'[{"no":"type"}]', False),
        (b'[{"type":5}]', False),
        (b'["text"]', False),
        (b'{"type":"text"}', False),
        (b"5", False),
        (b'"text","audio":{"id":"audio_1"}', False),
        (b'"text","audio":null', True),
    ],
)
def test_only_text_is_text(content: bytes, text_only: bool) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":' + content + b"}]}"
    assert openai.read_request(body, "chat").text_only is text_only


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\:a', max_size=4), inner)
    ),
    max_leaves=40,
)


PARTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "refusal", "image_url", "file"]) | JSON_VALUES,
        "text": st.text(max_size=5),
    },
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "role": st.text(max_size=5),
        "content": st.text(max_size=5) | st.lists(PARTS, max_size=3) | JSON_VALUES,
        "audio": JSON_VALUES,
        "tool_calls": JSON_VALUES,
    },
)


@given(st.lists(MESSAGES | JSON_VALUES, max_size=4))
def test_text_is_told_from_all_else_however_it_is_read(messages: list[object]) -> None:
    """A message that only the tolerant way can read, and one that says the same, make no difference to the others."""
    readings: list[object] = []
    for name in ("content", "context"):
        last = f'{{"{name}":5,"content":"Hello"}}'
        listed = ",".join([*map(json.dumps, messages), last])
        body = f'{{"model":"m","messages":[{listed}]}}'.encode()
        try:
            call = openai.read_request(body, "chat")
        except BadBody as refusal:
            readings.append(refusal.message)
        else:
            readings.append((call.text_only, call.prompt_estimate))
    assert readings[0] == readings[1]


def test_a_request_that_makes_the_provider_search_is_not_bounded_by_its_text() -> None:
    assert not chat(b'"web_search_options":{}').text_only


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"hello", "not valid JSON"),
        (CHAT + b"} x", "not valid JSON"),
        (CHAT + b"}{}", "not valid JSON"),
        (CHAT + b",}", "not valid JSON"),
        (b"\xef\xbb\xbf" + CHAT + b"}", "not valid JSON"),
        ((CHAT + b"}").decode().encode("utf-16"), "not valid JSON"),
        (b"null", "must be a JSON object"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"1", "must be a JSON object"),
        (CHAT + b',"a":NaN}', "not valid JSON"),
        (CHAT + b',"a":{"b":[NaN]}}', "not valid JSON"),
        (CHAT + b',"a":Infinity}', "not valid JSON"),
        (CHAT + b',"a":[-Infinity]}', "not valid JSON"),
        (CHAT + b',"a":01}', "not valid JSON"),
        (CHAT + b',"a":+1}', "not valid JSON"),
        (CHAT + b",'a':1}", "not valid JSON"),
        (CHAT + b',"a":"\x01"}', "not valid JSON"),
        (CHAT + b',"a":["\n"]}', "not valid JSON"),
        (CHAT + b',"a":"\\x41"}', "not valid JSON"),
        (CHAT + b',"a":"\\ud800"}', "not valid JSON"),
        (CHAT + b',"a":{"b":"\\udc00"}}', "not valid JSON"),
        (CHAT + b',"a":["\\ud800\\ud800"]}', "not valid JSON"),
        (CHAT + b',"a":"\xff"}', "not valid UTF-8"),
        (CHAT + b',"a":{"b":["\xc0\xaf"]}}', "not valid UTF-8"),
        (CHAT + b',"a":"\xed\xa0\x80"}', "not valid UTF-8"),
        (CHAT + b',"a":"\xf5\x80\x80\x80"}', "not valid UTF-8"),
        (CHAT + b',"\xff":1}', "not valid UTF-8"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, words: str) -> None:
    error = refused(body)
    assert words in error.message
    assert error.param is None


@pytest.mark.parametrize(
    ("more", "param"),
    [
        (b'"model":null', "model"),
        (b'"model":5', "model"),
        (b'"model":["m"]', "model"),
        (b'"model":""', "model"),
        (b'"model":"' + b"m" * 257 + b'"', "model"),
        (b'"model":"a\\u0000b"', "model"),
        (b'"model":"a\\r\\nx: y"', "model"),
        (b'"model":"a\\u007f"', "model"),
        (b'"model":"a\\u200b"', "model"),
        (b'"model":"a\\u202e"', "model"),
        (b'"stream":1', "stream"),
        (b'"stream":"true"', "stream"),
        (b'"stream":[]', "stream"),
        (b'"n":0', "n"),
        (b'"n":-1', "n"),
        (b'"n":129', "n"),
        (b'"n":1.0', "n"),
        (b'"n":1e1', "n"),
        (b'"n":"1"', "n"),
        (b'"n":true', "n"),
        (b'"n":[1]', "n"),
        (b'"best_of":129', "best_of"),
        (b'"max_tokens":0', "max_tokens"),
        (b'"max_tokens":-5', "max_tokens"),
        (b'"max_tokens":-0', "max_tokens"),
        (b'"max_tokens":10.0', "max_tokens"),
        (b'"max_tokens":1e3', "max_tokens"),
        (b'"max_tokens":"10"', "max_tokens"),
        (b'"max_tokens":false', "max_tokens"),
        (b'"max_tokens":{}', "max_tokens"),
        (b'"max_tokens":' + b"9" * 100_000, "max_tokens"),
        (b'"max_completion_tokens":0', "max_completion_tokens"),
        (b'"messages":null', "messages"),
        (b'"messages":[]', "messages"),
        (b'"messages":"hello"', "messages"),
        (b'"messages":["hello"]', "messages"),
        (b'"messages":{"role":"user"}', "messages"),
        (b'"stream_options":true', "stream_options"),
        (b'"stream_options":[]', "stream_options"),
        (b'"stream_options":{"include_usage":1}', "include_usage"),
    ],
)
def test_a_wrong_member_is_named(more: bytes, param: str) -> None:
    assert refused(CHAT + b"," + more + b"}").param == param


def test_model_and_messages_are_required() -> None:
    assert refused(b'{"messages":[{"role":"user","content":"x"}]}').param == "model"
    assert refused(b'{"model":"m"}').param == "messages"


def test_a_duplicate_or_escaped_name_is_the_one_that_goes_upstream() -> None:
    for body in (
        b'{"model":"cheap","mod\\u0065l":"big","messages":[{}]}',
        b'{"mod\\u0065l":"cheap","model":"big","messages":[{}]}',
        b'{"model":"cheap","messages":[{}],"model":"big"}',
    ):
        call = openai.read_request(body, "chat")
        assert call.model == "big"
        sent = openai.write_request(call, "upstream-big")
        names = [name for name, _ in json.loads(sent, object_pairs_hook=lambda pairs: pairs)]
        assert names.count("model") == 1
        assert json.loads(sent)["model"] == "upstream-big"
        assert b"cheap" not in sent
    call = chat(b'"max_tokens":5,"max_tok\\u0065ns":500')
    assert call.output_cap == 500
    assert openai.write_request(call, "m").count(b"max_tok") == 1


def nested(depth: int) -> bytes:
    """A body with `depth` levels, itself counted."""
    return CHAT + b',"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_sixty_four_levels_are_the_most() -> None:
    assert openai.read_request(nested(MAX_DEPTH), "chat").model == "m"
    assert "64 levels" in refused(nested(MAX_DEPTH + 1)).message
    mixed = CHAT + b',"a":' + b'{"b":[' * 32 + b"1" + b"]}" * 32 + b"}"
    assert "64 levels" in refused(mixed).message


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100,
        b"{[" * 50 + b']\\"}' * 40,
        b'\\\\\\"' + b"[" * 90,
        b'\\"' * 50 + b"{" * 99,
        b"\\\\",
    ],
)
def test_brackets_in_text_are_no_levels(text: bytes) -> None:
    filler = b",".join([b"[{}]"] * 70)
    body = (
        CHAT + b',"text":"' + text + b'","list":[' + filler + b'],"' + text + b'":"' + text + b'"}'
    )
    assert openai.read_request(body, "chat").model == "m"
    deep = b'"deep":' + b"[" * 64 + b'"' + text + b'"' + b"]" * 64
    assert "64 levels" in refused(body[:-1] + b"," + deep + b"}").message


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(inner) for inner in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(inner) for inner in value), default=0)
    return 0


@given(JSON_VALUES, st.integers(55, 66), st.booleans())
def test_the_depth_is_counted_exactly(value: object, wraps: int, is_ascii: bool) -> None:
    for level in range(wraps):
        value = [value] if level % 2 else {"[": value, "}": '"['}
    value = {"v": value}
    body = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    if depth_of(value) <= MAX_DEPTH:
        assert set(read_object(body)) == {"v"}
    else:
        with pytest.raises(BadBody, match="64 levels"):
            read_object(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000_000,
        CHAT + b',"a":' + b"[" * 10_000_000,
        CHAT + b',"a":' + b'{"a":' * 1_000_000,
        b"{" + b",".join(b'"k%d":1' % number for number in range(1_000_000)) + b"}",
        CHAT + b',"a":{' + b",".join(b'"k%d":[1]' % n for n in range(1_000_000)) + b"}}",
        CHAT + b',"a":[' + b"[]," * 1_000_000 + b"1]}",
        CHAT + b',"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    ],
)
def test_a_bomb_is_refused_in_no_time(body: bytes) -> None:
    started = time.process_time()
    refused(body)
    assert time.process_time() - started < 0.3  # a tenth of it on an idle machine


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode()))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for candidate in (body, CHAT + b"," + body + b"}", CHAT + b',"a":"' + body + b'"}'):
        try:
            call = openai.read_request(candidate, "chat")
        except BadBody:
            continue
        # A second parser agrees on everything that we let through.
        assert json.loads(candidate)["model"] == call.model
        assert json.loads(openai.write_request(call, call.model)) == json.loads(candidate)


def test_every_value_keeps_its_bytes() -> None:
    odd = b'"temperature":1.0E+0,"seed":12345678901234567890,"stop":["\\u0041", "\\/"],"x":{ "y" : 1e999 }'
    call = chat(odd)
    assert openai.write_request(call, "up/stream") == CHAT.replace(b'"m"', b'"up/stream"') + (
        b',"temperature":1.0E+0,"seed":12345678901234567890,"stop":["\\u0041", "\\/"],"x":{ "y" : 1e999 }}'
    )


def test_a_stream_is_always_asked_for_its_usage() -> None:
    for options, written in (
        (b"", b'{"include_usage":true}'),
        (b',"stream_options":null', b'{"include_usage":true}'),
        (b',"stream_options":{"include_usage":false}', b'{"include_usage":true}'),
        (
            b',"stream_options":{"include_obfuscation":false}',
            b'{"include_obfuscation":false,"include_usage":true}',
        ),
    ):
        call = chat(b'"stream":true' + options)
        sent = openai.write_request(call, "m")
        assert sent.endswith(b'"stream_options":' + written + b"}")
        assert sent.count(b"stream_options") == 1


def test_what_is_no_stream_gets_no_stream_options() -> None:
    assert b"stream_options" not in openai.write_request(chat(b'"stream":false'), "m")


def test_a_request_can_be_written_again_for_the_next_target() -> None:
    call = chat(b'"stream":true')
    first = openai.write_request(call, "one")
    assert openai.write_request(call, "two") == first.replace(b'"one"', b'"two"')
    assert openai.write_request(call, "one") == first


def test_a_request_of_another_dialect_is_not_written() -> None:
    stranger = types.SimpleNamespace(model="m", stream=False)
    with pytest.raises(DialectError):
        openai.write_request(stranger, "m")


def test_a_model_name_is_escaped_not_pasted() -> None:
    sent = openai.write_request(chat(), 'a","n":9,"b":"')
    assert json.loads(sent) == {**json.loads(CHAT + b"}"), "model": 'a","n":9,"b":"'}


def test_headers_go_upstream_by_an_allow_list() -> None:
    forwarded = [
        (b"Accept", b"text/event-stream"),
        (b"accept", b"second"),
        (b"OpenAI-Beta", b"assistants=v2"),
        (b"openai-organization", b"org-theirs"),
        (b"openai-project", b"proj"),
        (b"authorization", b"Bearer gwk_theirs"),
        (b"x-api-key", b"gwk_theirs"),
        (b"cookie", b"a=b"),
        (b"content-type", b"text/plain"),
        (b"accept-encoding", b"gzip"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"host", b"evil.example"),
        (b"connection", b"authorization, x-foo"),
        (b"x-request-id", b"theirs"),
        (b"user-agent", b"OpenAI/Python"),
        (b"x-stainless-os", b"Linux"),
        (b"traceparent", b"00-1"),
    ]
    assert openai.headers(Secret(b"sk-ours"), forwarded) == [
        (b"content-type", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"user-agent", b"gatehouse"),
        (b"authorization", b"Bearer sk-ours"),
        (b"accept", b"text/event-stream"),
        (b"openai-beta", b"assistants=v2"),
    ]


def test_a_provider_without_a_key_gets_no_authorization() -> None:
    for key in (None, Secret(b"")):
        assert b"authorization" not in dict(openai.headers(key, []))


@pytest.mark.parametrize(
    "value", [b"", b"a\r\nx: y", b"a\x00", b"a\tb", b"a\xff", b" a", b"a\n", b"a" * 600]
)
def test_a_value_that_no_header_can_carry_goes_nowhere(value: bytes) -> None:
    assert b"accept" not in dict(openai.headers(None, [(b"accept", value)]))
    if value.strip() == value and value:
        with pytest.raises(UnusableCredential) as caught:
            openai.headers(Secret(value), [])
        assert value.decode("latin-1") not in str(caught.value)
