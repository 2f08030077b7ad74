"""Sealing: what is sealed opens with its key, at its place, unchanged, and in no other way; and secrets are never seen."""

import copy
import itertools
import json
import logging
import pickle
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tenants import sealing
from tenants.sealing import Place, SealingError, Secret, UnknownKey, Unreadable

KEY = Secret(bytes(range(32)))
OTHER_KEY = Secret(bytes(range(1, 33)))
SALT = b"salt" * 8
PLACE = Place(
    table="providers_credential",
    field="sealed",
    tenant=UUID("6f1d8a5e-1111-4222-8333-444455556666"),
    row=UUID("0a0b0c0d-1111-4222-8333-444455556666"),
    version=7,
    binding="openai https://api.openai.com:443",
)
PLAIN = b"sk-a-credential"
PURPOSES = (
    "provider-credential",
    "content-log",
    "webhook-signing",
    "idempotency-response",
    "audit-chain",
    "key-fingerprint",
    "operator-token",
)

places = st.builds(
    Place,
    table=st.text(max_size=6),
    field=st.text(max_size=6),
    tenant=st.uuids(allow_nil=True),
    row=st.uuids(),
    version=st.integers(0, 2**64 - 1),
    binding=st.text(max_size=8),
)


def flipped(record: bytes, bit: int) -> bytes:
    changed = bytearray(record)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


# --- records ----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1), places)
def test_what_is_sealed_opens_at_its_place(plain, key_version, place):
    record = sealing.seal(KEY, key_version, place, plain)
    assert sealing.key_version_of(record) == key_version
    assert sealing.unseal(KEY, place, record).reveal() == plain
    assert len(record) == 6 + 12 + len(plain) + 16


def test_no_bit_of_a_record_can_be_flipped():
    record = sealing.seal(KEY, 3, PLACE, PLAIN)
    for bit in range(len(record) * 8):
        with pytest.raises(Unreadable):
            sealing.unseal(KEY, PLACE, flipped(record, bit))


def test_no_part_of_a_record_can_be_cut_or_added():
    record = sealing.seal(KEY, 3, PLACE, PLAIN)
    for length in range(len(record)):
        with pytest.raises(Unreadable):
            sealing.unseal(KEY, PLACE, record[:length])
        with pytest.raises(Unreadable):
            sealing.unseal(KEY, PLACE, record[length:][1:])
    with pytest.raises(Unreadable):
        sealing.unseal(KEY, PLACE, record + b"\0")


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, table="providers_model"),
        replace(PLACE, field="binding"),
        replace(PLACE, tenant=uuid4()),
        replace(PLACE, tenant=UUID(int=0)),
        replace(PLACE, row=uuid4()),
        replace(PLACE, version=8),
        replace(PLACE, version=6),
        replace(PLACE, binding="openai https://api.openai.example:443"),
        replace(PLACE, binding=""),
    ],
    ids=lambda place: next(
        name for name in Place.__slots__ if getattr(place, name) != getattr(PLACE, name)
    ),
)
def test_a_record_that_was_moved_does_not_open(elsewhere):
    record = sealing.seal(KEY, 1, PLACE, PLAIN)
    with pytest.raises(Unreadable):
        sealing.unseal(KEY, elsewhere, record)


def test_another_key_does_not_open_it():
    record = sealing.seal(KEY, 1, PLACE, PLAIN)
    with pytest.raises(Unreadable):
        sealing.unseal(OTHER_KEY, PLACE, record)


@given(places, places)
def test_two_places_never_have_the_same_authenticated_data(first, second):
    assume(first != second)
    assert first.aad() != second.aad()


@given(st.text(max_size=12), st.data())
def test_characters_pushed_from_one_part_into_the_next_make_another_place(text, data):
    """The pairs that a careless encoding would confuse: the same letters, cut at different points."""
    cuts = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(sorted)
    (a, b), (c, d) = data.draw(cuts), data.draw(cuts)
    assume((a, b) != (c, d))
    first = replace(PLACE, table=text[:a], field=text[a:b], binding=text[b:])
    second = replace(PLACE, table=text[:c], field=text[c:d], binding=text[d:])
    assert first.aad() != second.aad()


def test_a_place_without_a_row_is_refused_before_anything_is_sealed_or_opened():
    nowhere = replace(PLACE, row=UUID(int=0))
    with pytest.raises(SealingError, match="id of its row"):
        sealing.seal(KEY, 1, nowhere, PLAIN)
    with pytest.raises(SealingError):
        sealing.unseal(KEY, nowhere, sealing.seal(KEY, 1, PLACE, PLAIN))


def test_a_failure_has_one_type_and_one_text_whatever_was_wrong():
    record = sealing.seal(KEY, 1, PLACE, PLAIN)
    texts = set()
    for key, place, bad in (
        (OTHER_KEY, PLACE, record),
        (KEY, replace(PLACE, version=1), record),
        (KEY, PLACE, flipped(record, 200)),
        (KEY, PLACE, b""),
        (KEY, PLACE, b"\x02" + record[1:]),
        (KEY, PLACE, record[:1] + b"\x02" + record[2:]),
    ):
        with pytest.raises(Unreadable) as caught:
            sealing.unseal(key, place, bad)
        assert caught.value.__cause__ is None
        texts.add(str(caught.value))
    assert texts == {"The sealed record could not be opened."}


def test_nonces_are_not_repeated():
    nonces = {sealing.seal(KEY, 1, PLACE, b"")[6:18] for _ in range(100_000)}
    assert len(nonces) == 100_000


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_of_one_purpose_opens_nothing_of_another():
    keys = {purpose: sealing.derive(KEY, SALT, purpose) for purpose in PURPOSES}
    records = {purpose: sealing.seal(key, 1, PLACE, PLAIN) for purpose, key in keys.items()}
    for made_for, used_for in itertools.product(PURPOSES, repeat=2):
        if made_for == used_for:
            assert sealing.unseal(keys[used_for], PLACE, records[made_for]).reveal() == PLAIN
        else:
            with pytest.raises(Unreadable):
                sealing.unseal(keys[used_for], PLACE, records[made_for])


def test_a_derived_key_depends_on_root_salt_and_purpose_and_on_nothing_else():
    key = sealing.derive(KEY, SALT, "content-log")
    assert key == sealing.derive(Secret(KEY.reveal()), SALT, "content-log")
    assert len(key.reveal()) == 32
    assert key != KEY
    assert key != sealing.derive(OTHER_KEY, SALT, "content-log")
    assert key != sealing.derive(KEY, b"tlas" * 8, "content-log")
    assert key != sealing.derive(KEY, SALT, "content-lo")


def test_a_derived_key_is_that_of_rfc_5869():
    """The RFC's own vectors have another `info`; this figure was made by `openssl kdf … HKDF`."""
    key = sealing.derive(Secret(b"\x0b" * 32), b"\x00" * 32, "provider-credential")
    expected = "06f5899ac4c4ae17234118fb23cc434e4169953aa139ce34476994a50ffd9a4f"
    assert key.reveal().hex() == expected


# --- wrapping ---------------------------------------------------------------------------------------------------------


def ring(*keks: Secret) -> dict[bytes, Secret]:
    return {sealing.kek_id(kek): kek for kek in keks}


def test_a_wrapped_root_opens_with_its_kek_whichever_else_is_there():
    root = Secret(b"r" * 32)
    wrapped = sealing.wrap(KEY, "tenant/1", root)
    assert sealing.unwrap(ring(KEY), "tenant/1", wrapped) == root
    assert sealing.unwrap(ring(OTHER_KEY, KEY), "tenant/1", wrapped) == root
    assert root.reveal() not in wrapped


def test_without_its_kek_a_root_is_unknown_and_not_tried():
    wrapped = sealing.wrap(KEY, "tenant/1", Secret(b"r" * 32))
    for keks in ({}, ring(OTHER_KEY)):
        with pytest.raises(UnknownKey):
            sealing.unwrap(keks, "tenant/1", wrapped)


def test_another_kek_under_the_id_of_the_right_one_does_not_open_it():
    wrapped = sealing.wrap(KEY, "tenant/1", Secret(b"r" * 32))
    with pytest.raises(Unreadable):
        sealing.unwrap({sealing.kek_id(KEY): OTHER_KEY}, "tenant/1", wrapped)


@pytest.mark.parametrize("label", ["tenant/2", "tenant/", "", "tenant/1/", "Tenant/1"])
def test_a_root_wrapped_for_one_thing_does_not_open_for_another(label):
    wrapped = sealing.wrap(KEY, "tenant/1", Secret(b"r" * 32))
    with pytest.raises(Unreadable):
        sealing.unwrap(ring(KEY), label, wrapped)


def test_no_bit_of_a_wrapped_root_can_be_flipped_and_nothing_cut():
    wrapped = sealing.wrap(KEY, "tenant/1", Secret(b"r" * 32))
    for bit in range(len(wrapped) * 8):
        with pytest.raises(SealingError):
            sealing.unwrap(ring(KEY), "tenant/1", flipped(wrapped, bit))
    for length in range(len(wrapped)):
        with pytest.raises(SealingError):
            sealing.unwrap(ring(KEY), "tenant/1", wrapped[:length])


def test_the_id_of_a_kek_tells_nothing_of_it():
    assert len(sealing.kek_id(KEY)) == 8
    assert sealing.kek_id(KEY) != sealing.kek_id(OTHER_KEY)
    assert sealing.kek_id(KEY) not in KEY.reveal()


# --- mac --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_two_different_lists_never_have_one_mac(first, second):
    assume(first != second)
    assert sealing.mac(KEY, *first) != sealing.mac(KEY, *second)


# --- secrets ----------------------------------------------------------------------------------------------------------

SECRET = Secret(b"a lamp in every window")
SEEN = "lamp"


def _logged(secret: Secret) -> str:
    return logging.LogRecord("x", 20, "", 1, "%s %r", (secret, secret), None).getMessage()


@pytest.mark.parametrize(
    "shown",
    [
        repr,
        str,
        ascii,
        format,
        lambda secret: f"{secret} {secret!r} {secret!s} {secret:>40}",
        lambda secret: "{} {!r} {:x<9}".format(secret, secret, secret),  # noqa: UP032 - that is the point
        lambda secret: "%s %r %a" % (secret, secret, secret),  # noqa: UP031
        lambda secret: str([secret, {"k": secret}, (secret,)]),
        lambda secret: repr(ValueError(secret)),
        lambda secret: repr(Holder(secret)),
        lambda secret: json.dumps({"secret": secret}, default=str),
        _logged,
    ],
)
def test_a_secret_is_shown_as_stars(shown):
    text = shown(SECRET)
    assert SEEN not in text
    assert "***" in text


class Holder:
    def __init__(self, secret: Secret) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return f"Holder({vars(self)})"


@pytest.mark.parametrize(
    "taken",
    [
        json.dumps,
        copy.copy,
        copy.deepcopy,
        lambda secret: copy.deepcopy({"k": [secret]}),
        lambda secret: secret.__getstate__(),
        lambda secret: vars(secret),
        bytes,
        lambda secret: b"" + secret,
        lambda secret: "" + secret,
        len,
        iter,
        lambda secret: secret[0],
        lambda secret: setattr(secret, "note", 1),
        *(
            lambda secret, protocol=protocol: pickle.dumps(secret, protocol)
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_a_secret_can_neither_be_stored_nor_copied_nor_taken_for_bytes(taken):
    with pytest.raises((TypeError, AttributeError)) as caught:
        taken(SECRET)
    assert SEEN not in str(caught.value)


def test_secrets_compare_by_value_and_with_nothing_else():
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    assert len({Secret(b"a"), Secret(b"a"), Secret(b"b")}) == 2
    assert not Secret(b"")
    assert Secret(b"0")


def test_a_secret_in_a_frame_shows_nothing_to_who_prints_the_locals():
    secret = SECRET
    assert SEEN not in repr(locals())
    assert secret.reveal() == b"a lamp in every window"
