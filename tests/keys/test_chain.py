"""From headers to one credential, from a credential to who calls, and to nobody whenever there is a doubt."""

import hashlib
import itertools
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from keys import importing, services, tokens
from keys.chain import (
    BadCredential,
    Chain,
    Identity,
    ImportedKeyAuthenticator,
    MissingCredential,
    TenantKeyAuthenticator,
    load_identity,
    read_credential,
)
from keys.importing import TakenOver
from keys.models import APIKey, KeySecret
from keys.services import Issued, issue_key, pepper, revoke_key, rotate_key, update_key
from keys.tokens import Kind
from tenants.actor import system_actor
from tenants.audit import Target
from tenants.changes import change
from tenants.clock import to_unix_us
from tenants.limits import NO_LIMITS, BudgetLimit, LimitSet, Rate
from tenants.models import Account, Project
from tenants.sealing import Secret
from tenants.services import update_tenant

HERE = system_actor("story")
PEPPER = Secret(b"p" * 32)
CHAIN = Chain([TenantKeyAuthenticator(PEPPER)])
#: Well formed and never issued; the same in every process, as parts of them are parameters.
KEY = b"gwk_00000000000000000000000000000000000000000000oVEGz"
OTHER = b"gwk_0000000000000000000000000000000000000000011fs907"
#: What limits a tenant that nobody set a limit for.
DEFAULT = (Rate(120, 60),)
NAMES = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")


def header(name: bytes, value: bytes = KEY) -> tuple[bytes, bytes]:
    return name, (b"Bearer " + value if name == b"authorization" else value)


# --- one credential ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_credential_comes_by_any_header_that_clients_use(name):
    assert read_credential([(b"host", b"x"), header(name), (b"accept", b"*/*")]) == KEY.decode()
    assert CHAIN.lookup_value([header(name)]) == tokens.fingerprint(PEPPER, KEY.decode())


@pytest.mark.parametrize("pair", list(itertools.product(NAMES, repeat=2)))
def test_the_same_one_twice_is_one_and_two_different_ones_are_none(pair):
    first, second = pair
    assert read_credential([header(first), header(second)]) == KEY.decode()
    for one, two in ((KEY, OTHER), (OTHER, KEY), (KEY, KEY[:-1]), (KEY, b"sk-other")):
        with pytest.raises(BadCredential):
            read_credential([header(first, one), header(second, two)])


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
def test_the_scheme_is_read_in_any_case(scheme):
    assert read_credential([(b"authorization", scheme + b" " + KEY)]) == KEY.decode()


@pytest.mark.parametrize("value", [b" " + KEY, KEY + b" ", b"\t" + KEY + b"\t "])
def test_space_around_a_credential_is_not_part_of_it(value):
    assert read_credential([(b"x-api-key", value)]) == KEY.decode()
    assert read_credential([(b"authorization", b"Bearer " + value)]) == KEY.decode()


@pytest.mark.parametrize(
    "headers", [[], [(b"host", b"x")], [(b"cookie", KEY)], [(b"x-gatehouse-key", KEY)]]
)
def test_none_at_all_is_said_to_be_missing(headers):
    with pytest.raises(MissingCredential):
        read_credential(headers)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        b"Bearer\t" + KEY,
        b"Basic " + KEY,
        KEY,
        b"Bearer, Bearer " + KEY,
        b"Token " + KEY,
        b"Bearer " + KEY + b"\xc3\xa9",
        b"Bearer \xff",
        b"Bearer " + b"a" * 8193,
    ],
)
def test_an_authorization_that_is_no_bearer_is_bad_and_never_ignored(value):
    """Also beside a good key in another header: which of two is meant is not for us to guess."""
    for headers in (
        [(b"authorization", value)],
        [(b"authorization", value), header(b"x-api-key")],
        [header(b"x-api-key"), (b"authorization", value)],
    ):
        with pytest.raises(BadCredential):
            CHAIN.lookup_value(headers)


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("value", [b"", b" ", b"\xff" + KEY, KEY + b"\xc3\xa9", b"a" * 8193])
def test_a_header_that_holds_no_credential_is_bad(name, value):
    with pytest.raises(BadCredential):
        read_credential([(name, value)])


def test_a_credential_of_eight_kilobytes_is_read():
    assert len(read_credential([(b"x-api-key", b"a" * 8192)])) == 8192


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.TENANT_KEY])
def test_a_credential_of_another_kind_is_bad_by_its_prefix(kind):
    with pytest.raises(BadCredential):
        CHAIN.lookup_value([header(b"authorization", tokens.generate(kind).reveal())])


@given(st.binary(max_size=80))
def test_whatever_is_sent_is_a_value_or_a_refusal(value):
    try:
        found = CHAIN.lookup_value([(b"x-api-key", value)])
    except BadCredential:
        return
    assert tokens.is_well_formed(value.strip().decode(), Kind.TENANT_KEY)
    assert len(found) == 32


@pytest.mark.parametrize("value", [b"sk-abcdefgh", b"gwk_", b"gwx_" + KEY[4:], KEY[:-1] + b"-"])
def test_a_form_that_nobody_knows_is_bad(value):
    with pytest.raises(BadCredential):
        CHAIN.lookup_value([header(b"authorization", value)])


def test_the_first_authenticator_that_recognises_a_credential_decides():
    class Everything:
        def recognises(self, text: str) -> bool:
            return True

        def lookup_value(self, text: str) -> bytes:
            return b"everything"

    first = Chain([TenantKeyAuthenticator(PEPPER), Everything()])
    assert first.lookup_value([header(b"x-api-key", b"sk-1")]) == b"everything"
    with pytest.raises(BadCredential):
        first.lookup_value([header(b"x-api-key", KEY[:-1])])


# --- who calls --------------------------------------------------------------------------------------------------------


def found(issued: Issued) -> Identity | None:
    return load_identity(tokens.fingerprint(pepper()[1], issued.credential.reveal().decode()))


def test_a_key_stands_for_its_tenant(tenant, key):
    identity = found(key)
    assert identity is not None
    assert (identity.tenant_id, identity.tenant) == (tenant.id, "acme")
    assert (identity.key_id, identity.key_prefix) == (
        key.key.id,
        key.credential.reveal()[:10].decode(),
    )
    assert (identity.project, identity.account, identity.team) == ("", "", "")
    assert identity.scopes == {"inference", "usage"}
    assert (identity.key_limits, identity.project_limits) == (NO_LIMITS, NO_LIMITS)
    assert (identity.account_limits, identity.tenant_limits) == (NO_LIMITS, LimitSet(rates=DEFAULT))
    assert (identity.valid_until, identity.ends_at, identity.log_content) == (None, None, False)


def test_everything_of_a_key_is_in_its_identity(tenant):
    project = Project.objects.create(tenant=tenant, name="Web", tokens_budget=700)
    account = Account.objects.create(tenant=tenant, username="payer", rate_limits=["9/d", "2/s"])
    update_tenant(actor=HERE, tenant_id=tenant.id, max_concurrency=9, content_logging=True)
    ends = datetime.now(UTC) + timedelta(days=1, microseconds=123)
    identity = found(
        issue_key(
            actor=HERE,
            tenant_id=tenant.id,
            name="k",
            team="blue",
            project=str(project.id),
            account=str(account.id),
            scopes=["inference"],
            rate_limit_rpm=5,
            rate_limits=["80/h"],
            daily_limit=100,
            burst=3,
            rate_limit_tpm=1000,
            max_concurrency=2,
            tokens_budget_day=50,
            cost_budget_usd="2.50",
            cost_budget_total_usd=9,
            clamp_to_budget=True,
            log_content=True,
            expires_at=ends,
        )
    )
    assert identity is not None
    assert (identity.team, identity.project, identity.project_id) == ("blue", "Web", project.id)
    assert (identity.account, identity.account_id) == ("payer", account.id)
    assert identity.scopes == {"inference"}
    assert identity.key_limits == LimitSet(
        rates=(Rate(5, 60), Rate(80, 3600)),
        daily=100,
        burst=3,
        tokens_per_minute=1000,
        concurrency=2,
        budgets=(
            BudgetLimit("tokens", "day", 50),
            BudgetLimit("nano_usd", "month", 2_500_000_000),
            BudgetLimit("nano_usd", "total", 9_000_000_000),
        ),
        clamps=True,
    )
    assert identity.project_limits == LimitSet(budgets=(BudgetLimit("tokens", "month", 700),))
    assert identity.account_limits == LimitSet(rates=(Rate(9, 86_400), Rate(2, 1)))
    assert identity.tenant_limits == LimitSet(rates=DEFAULT, concurrency=9)
    assert identity.log_content is True
    assert identity.valid_until == identity.ends_at == to_unix_us(ends)


@pytest.mark.parametrize(
    ("of_key", "of_tenant", "kept"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_bodies_are_kept_only_if_key_and_tenant_say_so(tenant, of_key, of_tenant, kept):
    update_tenant(actor=HERE, tenant_id=tenant.id, content_logging=of_tenant)
    identity = found(issue_key(actor=HERE, tenant_id=tenant.id, name="k", log_content=of_key))
    assert identity is not None
    assert identity.log_content is kept


@pytest.mark.django_db
def test_what_was_never_issued_is_nobody(tenant, key):
    for text in (
        tokens.generate(Kind.TENANT_KEY).reveal().decode(),
        key.credential.reveal().decode()[:-1],
        key.credential.reveal().decode().swapcase(),
        KeySecret.objects.get().prefix,
        str(key.key.id),
        "",
    ):
        assert load_identity(tokens.fingerprint(pepper()[1], text)) is None
    # What a thief of the table has: the stored values themselves, and what another pepper makes of a credential.
    stored = bytes(KeySecret.objects.get().fingerprint)
    for text in (stored.hex(), stored.decode("latin-1")):
        assert load_identity(tokens.fingerprint(pepper()[1], text)) is None
    for value in (b"", stored[:-1], stored + b"\0", bytes(32)):
        assert load_identity(value) is None
    text = key.credential.reveal().decode()
    assert load_identity(tokens.fingerprint(PEPPER, text)) is None


def test_a_revoked_key_is_nobody(key):
    revoke_key(actor=HERE, key_id=key.key.id)
    assert found(key) is None


def test_a_paused_key_is_nobody_until_it_is_resumed(key):
    update_key(actor=HERE, key_id=key.key.id, is_active=False)
    assert found(key) is None
    update_key(actor=HERE, key_id=key.key.id, is_active=True)
    assert found(key) is not None


def test_a_key_is_nobody_from_the_moment_it_expires(tenant):
    ends = datetime(2026, 6, 1, 12, 0, 0, 500_000, tzinfo=UTC)
    with time_machine.travel(ends - timedelta(hours=1), tick=False):
        issued = issue_key(actor=HERE, tenant_id=tenant.id, name="k", expires_at=ends)
    for moment, is_known in (
        (ends - timedelta(microseconds=1), True),
        (ends, False),
        (ends + timedelta(days=900), False),
    ):
        with time_machine.travel(moment, tick=False):
            assert (found(issued) is not None) is is_known


def test_a_superseded_secret_is_nobody_from_the_end_of_its_grace(key):
    now = datetime(2026, 6, 1, tzinfo=UTC)
    with time_machine.travel(now, tick=False):
        newer = rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=60)
        old, new = found(key), found(newer)
    assert old is not None
    assert new is not None
    assert old.valid_until == to_unix_us(now + timedelta(seconds=60))
    assert (old.ends_at, new.valid_until, new.ends_at) == (None, None, None)
    assert (old.key_id, old.key_limits) == (new.key_id, new.key_limits)
    with time_machine.travel(now + timedelta(seconds=60), tick=False):
        assert found(key) is None
        assert found(newer) is not None


def test_grace_never_outlasts_the_key(tenant):
    now = datetime(2026, 6, 1, tzinfo=UTC)
    with time_machine.travel(now, tick=False):
        ends = now + timedelta(seconds=30)
        issued = issue_key(actor=HERE, tenant_id=tenant.id, name="k", expires_at=ends)
        rotate_key(actor=HERE, key_id=issued.key.id, grace_period_seconds=600)
        identity = found(issued)
    assert identity is not None
    assert identity.valid_until == identity.ends_at == to_unix_us(ends)


def test_the_keys_of_a_suspended_tenant_are_nobody_and_those_of_others_stay(tenant, outsider, key):
    other = issue_key(actor=HERE, tenant_id=outsider.id, name="k")
    update_tenant(actor=HERE, tenant_id=tenant.id, status="inactive")
    assert found(key) is None
    assert found(other) is not None
    update_tenant(actor=HERE, tenant_id=tenant.id, status="active")
    assert found(key) is not None


@pytest.mark.parametrize("change", [{"is_active": False}, {"deleted_at": datetime.now(UTC)}])
def test_the_keys_of_a_payer_who_is_gone_are_nobody(tenant, change):
    account = Account.objects.create(tenant=tenant, username="payer")
    issued = issue_key(actor=HERE, tenant_id=tenant.id, name="k", account=str(account.id))
    assert found(issued) is not None
    Account.objects.update(**change)
    assert found(issued) is None


def test_a_deleted_project_leaves_the_key(tenant):
    project = Project.objects.create(tenant=tenant, name="Web")
    issued = issue_key(actor=HERE, tenant_id=tenant.id, name="k", project=str(project.id))
    project.delete()
    identity = found(issued)
    assert identity is not None
    assert (identity.project_id, identity.project) == (None, "")


def test_one_query_finds_an_identity(key, django_assert_num_queries):
    value = tokens.fingerprint(pepper()[1], key.credential.reveal().decode())
    with django_assert_num_queries(1):
        assert load_identity(value) is not None


# --- what they may ----------------------------------------------------------------------------------------------------


def identity_with(tenant, of_tenant: dict, of_key: dict) -> Identity:
    update_tenant(actor=HERE, tenant_id=tenant.id, name="Acme", **of_tenant)
    identity = found(issue_key(actor=HERE, tenant_id=tenant.id, name="k", **of_key))
    assert identity is not None
    return identity


@pytest.mark.parametrize(
    ("of_tenant", "of_key", "allowed", "forbidden"),
    [
        (None, None, ["anything", "a/b"], []),
        (None, ["gpt-*"], ["gpt-", "gpt-4o"], ["gpt", "GPT-4o", "xgpt-4"]),
        (["gpt-*"], None, ["gpt-4o"], ["claude"]),
        (["gpt-*"], ["gpt-4o", "claude"], ["gpt-4o"], ["claude", "gpt-4"]),
        (None, ["*"], ["anything"], []),
        (["m.odel", "a[b]c?"], None, ["m.odel", "a[b]c?"], ["mxodel", "abc"]),
    ],
)
def test_every_list_that_is_set_must_name_the_model(tenant, of_tenant, of_key, allowed, forbidden):
    identity = identity_with(tenant, {"allowed_models": of_tenant}, {"allowed_models": of_key})
    assert [name for name in allowed if not identity.may_use_model(name)] == []
    assert [name for name in forbidden if identity.may_use_model(name)] == []


@pytest.mark.parametrize(
    ("of_tenant", "of_key", "allowed", "forbidden"),
    [
        (None, None, ["1.2.3.4", "::1", "", "nonsense"], []),
        (None, ["10.0.0.0/8"], ["10.255.0.1"], ["11.0.0.1", "", "here", "10.0.0.1 ", "::1"]),
        (["10.0.0.0/8"], ["10.1.0.0/16", "::1"], ["10.1.2.3"], ["10.2.0.1", "::1"]),
        (["2001:db8::/32"], None, ["2001:db8::7", "2001:0DB8:0::7"], ["2001:db9::7", "1.2.3.4"]),
    ],
)
def test_every_list_that_is_set_must_hold_the_address(
    tenant, of_tenant, of_key, allowed, forbidden
):
    identity = identity_with(
        tenant, {"allowed_addresses": of_tenant}, {"allowed_addresses": of_key}
    )
    assert [address for address in allowed if not identity.may_call_from(address)] == []
    assert [address for address in forbidden if identity.may_call_from(address)] == []


def test_an_ipv4_address_written_as_ipv6_is_that_address(tenant):
    identity = identity_with(tenant, {}, {"allowed_addresses": ["10.0.0.0/8"]})
    assert identity.may_call_from("::ffff:10.1.2.3")
    assert not identity.may_call_from("::ffff:11.1.2.3")


def test_capabilities_are_all_or_those_that_are_listed(tenant):
    assert identity_with(tenant, {}, {}).may_use_capability("chat")
    narrow = identity_with(tenant, {}, {"allowed_capabilities": ["embedding"]})
    assert narrow.may_use_capability("embedding")
    assert not narrow.may_use_capability("chat")


@pytest.mark.django_db
def test_an_identity_cannot_be_changed(key):
    identity = found(key)
    with pytest.raises(AttributeError):
        identity.key_limits = NO_LIMITS  # type: ignore[union-attr, misc]
    assert APIKey.objects.count() == 1


# --- credentials of another gateway -----------------------------------------------------------------------------------

BOTH = Chain([TenantKeyAuthenticator(PEPPER), ImportedKeyAuthenticator(PEPPER)])


@pytest.mark.parametrize("value", [b"sk-abcdefgh", b"x" * 8, b"!" * 512, b"gwk-" + KEY[4:], b"a.b"])
def test_a_credential_of_another_gateway_is_looked_up_by_its_hash(value):
    value = value.ljust(8, b"~")
    digest = hashlib.sha256(value).digest()
    found = BOTH.lookup_value([(b"x-api-key", value)])
    assert found == tokens.imported_fingerprint(PEPPER, digest)
    assert found == BOTH.lookup_value([(b"x-api-key", value)]), "nor when it is remembered"
    assert digest not in found
    assert tokens.imported_fingerprint(Secret(b"q" * 32), digest) != found
    assert tokens.is_imported(found)
    assert not tokens.is_imported(BOTH.lookup_value([(b"x-api-key", KEY)]))


@pytest.mark.parametrize(
    "value",
    [
        b"seven77",
        b"x" * 513,
        b"with space",
        b"gwz_12345678",
        b"gwk_" + b"0" * 49,
        b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
        b"head.claims.c2lnbmF0dXJl",
    ],
)
def test_what_is_ours_or_a_signed_token_is_no_credential_of_another_gateway(value):
    with pytest.raises(BadCredential):
        BOTH.lookup_value([(b"x-api-key", value)])


@given(st.text(min_size=1, max_size=600))
def test_no_text_is_taken_for_both_ours_and_anothers(text):
    assert not (tokens.has_known_prefix(text) and tokens.could_be_imported(text))


@pytest.mark.django_db
def test_a_copy_of_the_other_gateways_table_opens_nothing(tenant):
    secret, digest = "sk-1234567890", hashlib.sha256(b"sk-1234567890").digest()
    with change(HERE, "import.carried_out", Target("import", "story"), tenant.id) as it:
        values = importing.checked({"name": "old"})
        importing.take_over(it, tenant, [TakenOver(digest, "sk-...7890", values)])
    chain = services.chain()
    assert load_identity(chain.lookup_value([(b"x-api-key", secret.encode())])) is not None
    for stolen in (digest.hex(), digest.hex().upper()):
        assert load_identity(chain.lookup_value([(b"x-api-key", stolen.encode())])) is None
    stored = [bytes(row) for row in KeySecret.objects.values_list("fingerprint", flat=True)]
    assert not any(digest in each for each in stored)
