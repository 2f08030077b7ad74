"""What an upstream's message may tell a caller."""

import base64
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects.scrub import MAX_MESSAGE, scrub
from tenants.sealing import Secret

KEY = b"Qm7/xT+29-canary_Zp4=Lw8vRk"


def forms(secret: bytes) -> list[str]:
    around = b"Bearer " + secret + b":rest"
    return [
        secret.decode(),
        secret.decode().upper(),
        secret.decode().lower(),
        secret.decode()[::-1],
        secret.decode()[:12] + "...",
        "..." + secret.decode()[-10:],
        f"'{secret.decode()}'",
        quote(secret, safe=""),
        secret.hex(),
        secret.hex().upper(),
        base64.b64encode(secret).decode(),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        base64.b64encode(around).decode(),
        base64.b64encode(b"x:" + secret).decode(),
        base64.b64encode(b"xy:" + secret).decode(),
    ]


@pytest.mark.parametrize("form", forms(KEY))
def test_a_secret_is_taken_out_in_every_usual_form(form: str) -> None:
    said = scrub(f"You sent {form} which is wrong", [Secret(KEY)])
    assert said is not None
    assert "[redacted]" in said
    for at in range(
        len(form) - 16
    ):  # in a longer base64 text, only what stands around the secret may stay
        assert form[at : at + 16] not in said


@given(st.binary(min_size=8, max_size=60), st.text(max_size=30), st.text(max_size=30))
def test_no_secret_survives_wherever_it_stands(secret: bytes, before: str, after: str) -> None:
    for form in (secret.hex(), base64.b64encode(secret).decode(), secret.decode("latin-1")):
        said = scrub(f"{before}{form}{after}", [Secret(secret)]) or ""
        if form not in before + after:
            assert form not in said


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abcdef123456",
        "sk-abc***************xyz",
        "sk-ant-api03-abcdef",
        "gwk_0123456789abcdef",
        "gwm_0123456789abcdef",
        "gwa_0123456789abcdef",
        "Bearer abcdef123",
        "bearer   abc.def.ghi",
        "Basic dXNlcjpwYXNz",
        "AIzaSyA-1234567890",
        "AKIAIOSFODNN7EXAMPLE",
        "xai-0123456789",
        "gsk_0123456789",
        "hf_abcdefghij",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def",
        "d41d8cd98f00b204e9800998ecf8427ed41d8cd9",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY12",
    ],
)
def test_what_looks_like_a_key_goes(text: str) -> None:
    assert scrub(f"Incorrect API key provided: {text}.", []) in (
        "Incorrect API key provided: [redacted].",
        "Incorrect API key provided: [redacted]",
    )


@pytest.mark.parametrize(
    "text",
    [
        "https://api.internal.example/v1/chat?x=y",
        "http://10.0.0.1:8080/",
        "redis://cache/0",
        "10.0.0.1",
        "10.0.0.1:8080",
        "[fe80::1]:8080",
        "fd00:ec2::254",
        "::1",
        "localhost",
        "localhost:11434",
        "vllm-7:8000",
        "worker-3.svc.cluster.local",
        "api.openai.com",
        "db.corp:5432",
    ],
)
def test_addresses_go(text: str) -> None:
    assert scrub(f"Could not reach {text} in time", []) == "Could not reach [address] in time"


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-4.1-mini-2025-04-14` does not exist or you do not have access to it.",
        "model 'accounts/fireworks/models/llama-v3p1-405b-instruct' not found",
        "model 'meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo' not found",
        "This model's maximum context length is 128000 tokens; you asked for 130001.",
        "Invalid type for 'messages[0].content': expected one of a string or array of objects.",
        "Rate limit reached for gpt-4o: Limit 30000, Used 29988, Requested 120. Try again in 216ms.",
        "temperature must be between 0.0 and 2.0",
    ],
)
def test_what_the_caller_needs_stays(text: str) -> None:
    assert scrub(text, [Secret(b"sk-something-else")]) == text


def test_a_message_is_one_bounded_line() -> None:
    assert scrub("a\r\n\x00b\t\u2028c\x85 d", []) == "a b c d"
    assert len(scrub("word " * 5000, []) or "") == MAX_MESSAGE
    assert scrub(" \n ", []) is None
    assert scrub("", []) is None


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):\n  ...",
        'File "/app/server.py", line 12',
        "panicked at src/main.rs:3",
        "goroutine 7 [running]:",
        "Error\n    at handler (index.js)",
        "in engine.py:120",
    ],
)
def test_a_stack_is_not_told(text: str) -> None:
    assert scrub(f"Oops. {text}", []) is None


@pytest.mark.parametrize(
    "character", ["a", "A1a", "a.", ":", "sk-", "1.", "[", "eyJ", "\\", "a-", "0:"]
)
def test_no_text_makes_it_slow(character: str) -> None:
    text = character * (100_000 // len(character))
    started = time.process_time()
    scrub(text, [Secret(KEY)])
    assert time.process_time() - started < 1.0
