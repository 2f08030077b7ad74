"""The form of our credentials: unique, recognisable, and a typo is noticed before anybody is asked."""

import hashlib
import hmac
import re
import string
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import tokens
from keys.tokens import Kind, fingerprint, generate, has_known_prefix, is_well_formed
from tenants.sealing import Secret

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
KINDS = list(Kind)


def text_of(kind: Kind = Kind.TENANT_KEY) -> str:
    return generate(kind).reveal().decode()


def checksum(body: str) -> str:
    """Anew from its description, as somebody would who writes a scanner."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits


@pytest.mark.parametrize("kind", KINDS)
def test_a_credential_has_its_form(kind):
    text = text_of(kind)
    assert len(text) == tokens.LENGTH == 53
    assert text.startswith(kind)
    assert re.fullmatch(tokens.PATTERN, text)
    assert text[-6:] == checksum(text[:-6])
    assert is_well_formed(text, kind)
    assert not any(is_well_formed(text, other) for other in KINDS if other != kind)


def test_a_checksum_is_always_the_same():
    body = "gwk_" + "0" * 43
    assert is_well_formed(body + checksum(body), Kind.TENANT_KEY)
    assert checksum(body) == "0oVEGz"


def test_every_typo_of_one_character_is_noticed():
    text = text_of()
    for place in range(4, len(text)):
        for character in BASE62:
            if character != text[place]:
                typo = text[:place] + character + text[place + 1 :]
                assert not is_well_formed(typo, Kind.TENANT_KEY)


def test_every_two_neighbours_swapped_are_noticed():
    for _ in range(200):
        text = text_of()
        for place in range(4, len(text) - 1):
            one, two = text[place], text[place + 1]
            if one != two:
                swapped = text[:place] + two + one + text[place + 2 :]
                assert not is_well_formed(swapped, Kind.TENANT_KEY)


def test_a_hundred_thousand_are_different_and_well_formed():
    made = {text_of() for _ in range(100_000)}
    assert len(made) == 100_000
    assert all(is_well_formed(text, Kind.TENANT_KEY) for text in made)
    assert len({text[:10] for text in made}) > 99_000


def test_every_character_occurs_everywhere_in_the_random_part():
    made = [text_of() for _ in range(5_000)]
    for place in range(5, 47):  # the first digit of 2^256 in base 62 cannot be every one
        assert {text[place] for text in made} == set(BASE62)


@given(st.text(max_size=60))
def test_a_text_that_we_did_not_make_is_not_well_formed(text):
    assert not is_well_formed(text, Kind.TENANT_KEY)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text.upper(),
        lambda text: text.replace("gwk_", "gwk-"),
        lambda text: text.replace("gwk_", "GWK_"),
        lambda text: text[:20] + "_" + text[21:],
        lambda text: text[:20] + "é" + text[21:],
        lambda text: text[:20] + "\u0660" + text[21:],  # a digit, but not one of ours
        lambda text: text[:20] + "\0" + text[21:],
        lambda text: "",
        lambda text: "gwk_",
    ],
)
def test_a_changed_form_is_noticed(change):
    assert not is_well_formed(change(text_of()), Kind.TENANT_KEY)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_is_known_whatever_follows(kind):
    assert has_known_prefix(text_of(kind))
    assert has_known_prefix(kind)
    assert not has_known_prefix(kind[:3])
    assert not has_known_prefix(f" {kind}")
    assert not has_known_prefix("sk-abc")


def test_ten_characters_are_shown_and_no_more():
    token = generate(Kind.TENANT_KEY)
    shown = tokens.shown_part(token)
    assert shown == token.reveal()[:10].decode()
    assert re.fullmatch(r"gwk_[0-9A-Za-z]{6}", shown)


def test_a_credential_is_a_secret():
    token = generate(Kind.TENANT_KEY)
    assert token.reveal().decode() not in f"{token} {token!r}"


def test_what_is_stored_is_an_hmac_under_the_pepper():
    pepper, text = Secret(b"p" * 32), text_of()
    stored = fingerprint(pepper, text)
    assert stored == hmac.new(b"p" * 32, text.encode(), hashlib.sha256).digest()
    assert stored != fingerprint(Secret(b"q" * 32), text)
    assert stored not in (hashlib.sha256(text.encode()).digest(), text.encode())
