"""OpenAI's answers: which usage is believed, and what we say ourselves."""

import json
import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import openai
from providers.types import PriceTag, Usage
from tenants.sealing import Secret
from usage import pricing


def usage_of(usage: str) -> Usage | None:
    body = f'{{"id":"x","usage":{usage},"object":"chat.completion"}}'
    is_answer, read = openai.read_answer(body.encode())
    assert is_answer
    return read


def details(read: int, written: int, prompt: str, completion: str, more: str = "") -> str:
    return (
        f'{{"prompt_tokens":{read},"completion_tokens":{written},"prompt_tokens_details":{prompt},'
        f'"completion_tokens_details":{completion}{more}}}'
    )


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ('{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}', Usage(9, 0, 12, 0)),
        ('{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}', Usage(0, 0, 0, 0)),
        ('{"prompt_tokens":9,"completion_tokens":12}', Usage(9, 0, 12, 0)),
        ('{"prompt_tokens":8,"total_tokens":8}', Usage(8, 0, 0, 0)),
        ('{"prompt_tokens":8,"completion_tokens":null,"total_tokens":10}', Usage(8, 0, 2, 0)),
        (
            details(9, 12, '{"cached_tokens":4,"audio_tokens":0}', '{"reasoning_tokens":10}'),
            Usage(9, 4, 12, 10),
        ),
        (
            details(9, 2, '{"cached_tokens":4,"cache_write_tokens":3}', "null"),
            Usage(9, 4, 2, 0, cache_write=3),
        ),
        (
            details(9, 2, '{"cached_tokens":4,"cache_write_tokens":30}', "null"),
            Usage(9, 4, 2, 0, cache_write=5),
        ),
        (details(9, 12, '{"cached_tokens":400}', '{"reasoning_tokens":1000}'), Usage(9, 9, 12, 12)),
        (details(9, 12, "null", '{"reasoning_tokens":null}'), Usage(9, 0, 12, 0)),
        ('{"prompt_tokens":9007199254740991,"completion_tokens":1}', Usage(2**53 - 1, 0, 1, 0)),
        ('{"prompt_tokens":1,"completion_tokens":2,"cost":0.5,"x":[]}', Usage(1, 0, 2, 0)),
        (
            details(9, 2, "null", '{"reasoning_tokens":30}', ',"total_tokens":41'),
            Usage(9, 0, 32, 30),
        ),
    ],
)
def test_a_believable_usage_is_read(usage: str, read: Usage) -> None:
    assert usage_of(usage) == read


@pytest.mark.parametrize(
    "usage",
    [
        "null",
        "{}",
        "[]",
        "5",
        '"9"',
        '{"prompt_tokens":9}',
        '{"completion_tokens":9}',
        '{"prompt_tokens":9,"total_tokens":5}',
        '{"prompt_tokens":null,"completion_tokens":9}',
        *(
            text.replace("#", number)
            for number in (
                "-1",
                "-0",
                "1.0",
                "1e3",
                "1e308",
                "1e999",
                '"9"',
                "true",
                "false",
                "[9]",
                "{}",
                "9007199254740992",
                "99999999999999999999999999",
                "NaN",
                "Infinity",
                "0x9",
                "٣",
            )
            for text in (
                '{"prompt_tokens":#,"completion_tokens":12}',
                '{"prompt_tokens":9,"completion_tokens":#}',
                '{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":#}}',
                '{"prompt_tokens":9,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":#}}',
                '{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cache_write_tokens":#}}',
            )
        ),
        '{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":5}',
    ],
)
def test_a_usage_that_lies_is_no_usage(usage: str) -> None:
    assert usage_of(usage) is None
    stream = openai.StreamReader(wants_usage=True)
    stream.feed(f'data: {{"choices":[],"usage":{usage}}}\n\n'.encode())
    assert stream.usage is None


#: What a count may look like, and the number it is; None where it is no count.
_COUNTS: list[tuple[str, int | None]] = [
    *((str(number), number) for number in (0, 1, 7, 4096, 10**9, 10**9 + 1, 2**53 - 1)),
    *((text, None) for text in ("-1", "-0", "1.0", "0.5", "1e3", "1e308", "-1e308", "1e999")),
    *((text, None) for text in (str(2**53), str(10**30), "NaN", "-Infinity", '"9"', '""')),
    *((text, None) for text in ("true", "false", "[]", "[1]", "{}", '{"a":1}', "+1", "01x")),
]
_ABSENT = ["null", ""]


def _count_of(chance: random.Random) -> tuple[str, int | None, bool]:
    """A count's text, its number, and whether it is there at all. Most are honest, so that whole blocks are."""
    kind = chance.random()
    if kind < 0.12:
        return chance.choice(_ABSENT), 0, False
    if kind < 0.8:
        number = int(chance.random() * 10_000)
        return str(number), number, True
    text, known = chance.choice(_COUNTS)
    return text, known, True


def test_a_hundred_thousand_usage_blocks_are_read_as_the_reference_reads_them() -> None:
    """The reference knows each figure beforehand; whatever comes, no call is paid for, and the most is what was said."""
    chance = random.Random(14)
    tag = PriceTag(id=UUID(int=1), input=10**9, output=10**9, cached_input=0, reasoning=10**10)
    believed = 0
    for _ in range(100_000):
        counts = {name: _count_of(chance) for name in ("read", "written", "cached", "reasoning")}
        fields = [
            f'"{name}":{counts[short][0]}'
            for name, short in (("prompt_tokens", "read"), ("completion_tokens", "written"))
            if counts[short][0]
        ]
        for group, name, short in (
            ("prompt_tokens_details", "cached_tokens", "cached"),
            ("completion_tokens_details", "reasoning_tokens", "reasoning"),
        ):
            if counts[short][0]:
                fields.append(f'"{group}":{{"{name}":{counts[short][0]}}}')
        _, usage = openai.read_answer(('{"usage":{' + ",".join(fields) + "}}").encode())
        figures = {short: number for short, (_, number, _) in counts.items()}
        is_whole = counts["read"][2] and counts["written"][2]
        if not is_whole or None in figures.values():
            assert usage is None, fields
            continue
        believed += 1
        read, written = figures["read"] or 0, figures["written"] or 0
        cached, reasoning = figures["cached"] or 0, figures["reasoning"] or 0
        assert usage == Usage(read, min(cached, read), written, min(reasoning, written)), fields
        charged = pricing.cost(usage, tag)
        assert charged >= 0
        assert read or written or charged == 0, "zero is zero"
        assert pricing.is_sane(usage) == (read <= 10**9 and written <= 10**9)
    assert believed > 30_000


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"<html>", b"{", b"\xff", b"{}", b"[" * 100_000]
)
def test_an_answer_without_usage_has_none(body: bytes) -> None:
    assert openai.read_answer(body)[1] is None
    assert openai.estimate_output_of(body) == 0


@given(
    st.dictionaries(
        st.sampled_from(
            ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"]
        ),
        st.integers() | st.floats() | st.text(max_size=3) | st.none() | st.booleans(),
    )
)
def test_whatever_the_usage_says_no_count_is_negative_or_huge(usage: dict[str, object]) -> None:
    read = usage_of(json.dumps(usage))
    if read is not None:
        assert 0 <= read.cached <= read.input < 2**53
        assert 0 <= read.reasoning <= read.output < 2**53


def counts(inner: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[str]:
    """A member's value as text: mostly a count."""
    told = st.integers(0, 200).map(str) | st.sampled_from([text for text, _ in _COUNTS] + ["null"])
    return told | inner if inner is not None else told


def objects(*members: tuple[str, st.SearchStrategy[str]]) -> st.SearchStrategy[str]:
    """An object with some of these members, in any order, a name perhaps more than once."""
    member = st.one_of([values.map(f'"{name}": {{}}'.format) for name, values in members])
    return st.lists(member, max_size=6).map(lambda found: "{" + ",".join(found) + "}")


USAGES = objects(
    ("prompt_tokens", counts()),
    ("prompt_tokens", st.integers(0, 200).map(str)),
    ("completion_tokens", counts()),
    ("completion_tokens", st.integers(0, 200).map(str)),
    ("total_tokens", counts()),
    (
        "prompt_tokens_details",
        counts(objects(("cached_tokens", counts()), ("cache_write_tokens", counts()))),
    ),
    ("completion_tokens_details", counts(objects(("reasoning_tokens", counts())))),
    ("cost", st.sampled_from(["0.5", "-1", "-0", "1e-05", '"ä"', "[-0]", "1e999"])),
)


@given(USAGES)
def test_a_usage_is_the_same_however_it_is_read(usage: str) -> None:
    """A member with a minus sign in its name, which only the tolerant way reads, makes no difference."""
    more = '"-": null}' if usage == "{}" else ',"-": null}'
    assert usage_of(usage) == usage_of(usage[:-1] + more)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ('{"prompt_tokens":-1,"prompt_tokens":9,"completion_tokens":2}', Usage(9, 0, 2, 0)),
        ('{"prompt_tokens":9,"completion_tokens":2,"completion_tokens":null}', None),
        ('{"prompt_tokens":9,"completion_tokens":2,"cost":-1e-05}', Usage(9, 0, 2, 0)),
        ('{"prompt_tokens":9,"completion_tokens":2,"what":"größer"}', Usage(9, 0, 2, 0)),
        (details(9, 2, '{"cached_tokens":"4","cached_tokens":4}', "null"), Usage(9, 4, 2, 0)),
    ],
)
def test_the_last_of_two_counts_and_what_is_no_count_may_be_odd(
    usage: str, read: Usage | None
) -> None:
    assert usage_of(usage) == read


@pytest.mark.parametrize("body", [b"", b" ", b"null", b"[]", b"<html>", b"{", b"}", b'"{}"'])
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    assert openai.read_answer(body) == (False, None)


@pytest.mark.parametrize("body", [b"{}", b" {}\r\n", b'{"x":NaN}', b"{\xff}", b"{not JSON}"])
def test_what_looks_like_an_object_is_an_answer(body: bytes) -> None:
    assert openai.read_answer(body) == (True, None)


def test_an_answer_that_does_not_tell_is_estimated_by_its_text() -> None:
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "x" * 70}}]})
    assert openai.estimate_output_of(body.encode()) == 20
    body = '{"choices":[{"message":{"content":"a \\"quoted\\" [x]"}},{"message":{"content":"b"}}]}'
    assert openai.estimate_output_of(body.encode()) == 5
    body = '{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}'
    assert openai.estimate_output_of(body.encode()) == 1
    assert openai.estimate_output_of('{"text":"漢漢漢漢漢漢漢"}'.encode()) == 6
    assert openai.estimate_output_of(b'{"text":"' + rb"\u6f22" * 7 + b'"}') == 6
    assert openai.estimate_output_of(b'{"data":[{"embedding":[0.1,0.2]}]}') == 0


def test_errors_have_the_published_shape() -> None:
    body = openai.error_body('No "model".', "invalid_request_error", "model", "invalid_request")
    assert json.loads(body) == {
        "error": {
            "message": 'No "model".',
            "type": "invalid_request_error",
            "param": "model",
            "code": "invalid_request",
        }
    }
    event = openai.stream_error("Line\nbreak\r\n\r\ndata: forged", "server_error", "upstream_error")
    assert event.startswith(b'data: {"error":{"message":"Line\\nbreak')
    assert event.count(b"\n") == 2
    assert b"\r" not in event


def test_models_have_the_published_shape() -> None:
    one = {"id": "demo/echo", "created": 1_700_000_000, "owned_by": "demo", "object": "model"}
    entry = ("demo/echo", 1_700_000_000, "demo")
    assert json.loads(openai.models_list([entry])) == {"object": "list", "data": [one]}
    assert json.loads(openai.models_list([])) == {"object": "list", "data": []}
    assert json.loads(openai.model_entry(*entry)) == one


def cleaned(body: bytes, *secrets: Secret, status: int = 400) -> dict[str, object]:
    answer = json.loads(
        openai.clean_error(status, body, b"application/json; charset=utf-8", secrets)
    )
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    error: dict[str, object] = answer["error"]
    return error


def test_an_upstreams_error_keeps_what_the_caller_can_use() -> None:
    body = openai.error_body(
        "Invalid 'messages[1].role': did not expect 'x'. (gpt-4.1-mini-2025-04-14)",
        "invalid_request_error",
        "messages[1].role",
        "invalid_value",
    )
    assert cleaned(body) == json.loads(body)["error"]


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"error":"model \'x\' not found"}', "model 'x' not found", None),
        (
            b'{"object":"error","message":"too long","type":"BadRequestError","code":400}',
            "too long",
            "400",
        ),
        (b'{"error":{"code":400,"message":"bad","type":"invalid_request_error"}}', "bad", "400"),
        (b'{"error":{"message":"bad","code":"a b","type":"<b>"}}', "bad", None),
    ],
)
def test_errors_of_related_servers_are_understood(
    body: bytes, message: str, code: str | None
) -> None:
    error = cleaned(body)
    assert (error["message"], error["code"]) == (message, code)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", b""),
        (b"<html><h1>502 Bad Gateway</h1>nginx/1.25 at 10.0.0.3</html>", b"text/html"),
        (b'{"error":{"message":"x"}}', b"text/html"),
        (b"{}", b"application/json"),
        (b'{"error":null}', b"application/json"),
        (b'{"error":{}}', b"application/json"),
        (b'{"error":{"message":5}}', b"application/json"),
        (b'{"error":[1]}', b"application/json"),
        (b'{"detail":"Not Found"}', b"application/json"),
        (b'{"error":{"message":"', b"application/json"),
        (b'{"error":{"message":"\xff"}}', b"application/json"),
        (b'{"error":' + b"[" * 60_000, b"application/json"),
        (b'{"error":{"message":"' + b"x" * 100_000 + b'"}}', b"application/json"),
        (
            json.dumps(
                {
                    "error": {
                        "message": 'Traceback (most recent call last):\n  File "/srv/app.py", line 3, in <module>'
                    }
                }
            ).encode(),
            b"application/json",
        ),
        (
            json.dumps(
                {"error": {"message": "TypeError: x\n    at Object.run (/srv/app.js:3:1)"}}
            ).encode(),
            b"application/json",
        ),
    ],
)
def test_anything_else_becomes_a_fixed_sentence(body: bytes, content_type: bytes) -> None:
    assert json.loads(openai.clean_error(503, body, content_type, [])) == {
        "error": {
            "message": "The provider answered with status 503.",
            "type": "upstream_error",
            "param": None,
            "code": "upstream_error",
        }
    }


def test_a_long_message_is_cut() -> None:
    assert len(str(cleaned(openai.error_body("word " * 1000, "t"))["message"])) == 2000


def test_an_error_in_a_stream_is_cleaned_too() -> None:
    event = openai.clean_stream_error(
        b'{"error":{"message":"Bearer abcdefghijk refused","type":"t"}}', []
    )
    assert (
        event
        == b'data: {"error":{"message":"[redacted] refused","type":"t","param":null,"code":null}}\n\n'
    )
    event = openai.clean_stream_error(b"not json", [])
    assert b"The provider broke off the stream." in event
