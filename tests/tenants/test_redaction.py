"""What is taken out of every text that is kept, and what stays although it is long."""

import re
import secrets

import pytest

from keys import tokens
from tenants.audit import clean_text

CREDENTIALS = [
    "gwk_" + "aB3" * 16 + "x",
    "gwm_" + "aB3" * 16 + "x",
    "gwa_" + "aB3" * 16 + "x",
    "sk-proj-abcDEF123456",
    "sk-ant-api03-abc_DEF-123456",
    "AIzaSyA1234567890abcdefghijklmnopqrstu",
    "gsk_abcdefghij0123456789",
    "hf_abcdefghij0123456789",
    "xai-abcdefghij0123456789",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
    "q83vEjRWeJCrze8SNFZ4kKvN-xI0VniQq83vEjRWe_A",
    "q83vEjRWeJCrze8/NFZ4kKvN7xI0V+iQq83vEjRWeJA=",
    "3f8a1c5e7092b4d6f8132a4c6e80b2d4f61839a5c7e90b2d4f6a8c1e3057b9d2",
    "3F8A1C5E7092B4D6F8132A4C6E80B2D4F61839A5",
]


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("form", ["{}", "({})", "key={};", "a {}\n", "\u202e{}"])
def test_what_looks_like_a_credential_is_not_kept(credential, form):
    text = clean_text(form.format(credential))
    assert credential[6:] not in text
    assert "***" in text


def test_no_random_key_is_taken_for_a_name():
    for _ in range(20_000):
        for text in (
            tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode(),
            secrets.token_urlsafe(32),
            secrets.token_hex(24),
        ):
            assert clean_text(text) == "***"


@pytest.mark.parametrize(
    "name",
    [
        "fireworks/accounts/fireworks/models/gpt-oss-120b",
        "accounts/fireworks/models/llama4-maverick-instruct-basic",
        "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8-Turbo",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo-Free-Extended",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-70B-Instruct",
        "NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO-GGUF",
        "mistralai/Mixtral-8x22B-Instruct-v0-1-quantized-awq",
        "anthropic/claude-sonnet-4-20250514-thinking-preview",
        "text-embedding-3-large-with-a-very-long-deployment-name",
        "cognitivecomputations/dolphin-mixtral-8x22b-uncensored",
        "my_very_long_project_name_for_the_team_of_billing",
        "/v1/admin/tenants/0b9dd6bc-4b2e-4b9e-8f35-5d4ae8d1a4f5/api-keys",
        "desk-assistant-for-everybody",
        "gwk_aB3xyz",
        "0b9dd6bc-4b2e-4b9e-8f35-5d4ae8d1a4f5",
    ],
)
def test_names_addresses_and_ids_are_kept(name):
    assert clean_text(name) == name


@pytest.mark.parametrize(
    "nasty",
    [
        "\0",
        "\n",
        "\r",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\u2028",
        "\u2029",
        "\u202e",
        "\u2066",
        "\u200b",
        "\ufeff",
    ],
)
def test_what_cannot_be_seen_is_shown(nasty):
    text = clean_text(f"before{nasty}after")
    assert nasty[0] not in text
    assert re.match(r"before\\u[0-9a-f]{4}", text)


def test_a_text_is_bounded_whatever_it_is_made_of():
    assert len(clean_text("x y " * 10_000)) == 256
    assert len(clean_text("\u202e" * 10_000, 64)) == 64
    assert clean_text("a b" * 100 + CREDENTIALS[0], 1_000).endswith("***")


def test_a_letter_in_two_parts_hides_no_credential():
    kelvin = CREDENTIALS[0].replace("B3a", "B3\u212a")  # which composing turns into a K
    assert clean_text(kelvin) == "***"
