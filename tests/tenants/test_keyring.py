"""Root secrets: one per purpose and tenant, wrapped by the KEK, and nothing is readable without the right one."""

import itertools
import secrets
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, transaction

from gateway import checks
from keys.chain import load_identity
from keys.services import Issued, issue_key, pepper
from keys.tokens import fingerprint
from providers import credentials
from providers.errors import CredentialUnreadable
from providers.services import create_provider, set_provider_config
from tenants import audit_export, keyring, sealing
from tenants.actor import system_actor
from tenants.keyring import KEYRING, PLATFORM_PURPOSES, TENANT
from tenants.models import RootSecret
from tenants.sealing import Place, SealingError, Secret, UnknownKey, Unreadable
from tenants.services import create_tenant, delete_tenant
from tests.support import dump, environment
from tests.support.server import Server
from tests.support.threads import at_once

HERE = system_actor("story")


@pytest.fixture(autouse=True)
def _nothing_remembered():
    KEYRING.forget()
    yield
    KEYRING.forget()


def new_kek() -> Secret:
    return Secret(secrets.token_bytes(32))


def place(tenant_id: UUID | None) -> Place:
    return Place("t", "f", tenant_id or keyring.NO_TENANT, uuid4(), 1)


@pytest.mark.django_db
def test_each_purpose_and_tenant_has_a_root_of_its_own(tenant, outsider):
    roots = [KEYRING.root(purpose) for purpose in (*PLATFORM_PURPOSES, TENANT)]
    roots += [KEYRING.root(TENANT, who.id) for who in (tenant, outsider)]
    assert len({root.secret for root in roots}) == len({root.salt for root in roots}) == len(roots)
    for row in RootSecret.objects.all():
        assert not any(root.secret.reveal() in bytes(row.wrapped) for root in roots)


@pytest.mark.django_db
def test_what_is_sealed_for_one_purpose_or_tenant_opens_for_no_other(tenant, outsider):
    whose = [None, tenant.id, outsider.id]
    where = place(tenant.id)
    uses = list(itertools.product(whose, ("provider-credential", "content-log")))
    for sealed_for in uses:
        record = keyring.seal_for(*sealed_for, where, b"plain")
        for opened_for in uses:
            if sealed_for == opened_for:
                assert keyring.unseal_for(*opened_for, where, record).reveal() == b"plain"
            else:
                with pytest.raises(Unreadable):
                    keyring.unseal_for(*opened_for, where, record)


@pytest.mark.django_db
def test_a_record_of_a_key_version_that_is_not_here_is_an_unknown_key(tenant):
    where = place(tenant.id)
    key = KEYRING.root(TENANT, tenant.id).key("content-log")
    for version in (0, 2, 2**32 - 1):
        record = sealing.seal(key, version, where, b"plain")
        with pytest.raises(UnknownKey):
            keyring.unseal_for(tenant.id, "content-log", where, record)


@pytest.mark.django_db
def test_the_newest_kek_wraps_and_all_of_them_unwrap(settings):
    first, second = new_kek(), new_kek()
    settings.KEK = [first]
    old = KEYRING.root(TENANT)
    settings.KEK = [second, first]
    KEYRING.forget()
    assert KEYRING.root(TENANT) == old
    newer = create_tenant(actor=HERE, name="Newer")
    wrapped = bytes(RootSecret.objects.get(tenant=newer).wrapped)
    assert wrapped[1:9] == sealing.kek_id(second)
    settings.KEK = [second]
    KEYRING.forget()
    assert KEYRING.root(TENANT, newer.id).version == 1
    with pytest.raises(UnknownKey):
        KEYRING.root(TENANT)


@pytest.mark.django_db
def test_a_root_that_was_moved_to_another_row_does_not_open(tenant, outsider):
    wrapped = RootSecret.objects.get(tenant=outsider).wrapped
    RootSecret.objects.filter(tenant=tenant).update(wrapped=wrapped)
    KEYRING.forget()
    with pytest.raises(Unreadable):
        KEYRING.root(TENANT, tenant.id)
    KEYRING.root(keyring.PEPPER)
    RootSecret.objects.filter(purpose=keyring.PEPPER).update(wrapped=wrapped)
    KEYRING.forget()
    with pytest.raises(Unreadable):
        KEYRING.root(keyring.PEPPER)


@pytest.mark.django_db
def test_a_root_that_does_not_open_is_never_made_anew(settings, tenant):
    settings.KEK = [new_kek()]
    KEYRING.forget()
    count = RootSecret.objects.count()
    for _ in range(2):
        with pytest.raises(UnknownKey):
            KEYRING.root(TENANT, tenant.id)
    assert RootSecret.objects.count() == count


@pytest.mark.django_db
def test_another_kek_opens_nothing(settings, tenant, staging):
    """The same rows, another KEK: no credential, no key, no session, no check of the audit log, and no new secrets either."""
    issued = issue_key(actor=staging, tenant_id=tenant.id, name="k")
    shared = create_provider(actor=staging, name="p", kind="openai", api_key="sk-planted-1234")
    own = set_provider_config(
        actor=staging, tenant_id=tenant.id, provider="openai", api_key="sk-planted-5678"
    )
    roots = list(RootSecret.objects.order_by("id").values_list("id", "wrapped"))
    settings.KEK = [new_kek()]
    KEYRING.forget()
    for provider in (shared, own):
        row = credentials.current(provider)
        assert row is not None
        with pytest.raises(CredentialUnreadable):
            credentials.open_sealed(credentials.sealed(row, provider))
    for attempt in (pepper, lambda: issue_key(actor=staging, tenant_id=tenant.id, name="k2")):
        with pytest.raises(SealingError):
            attempt()
    assert load_identity(fingerprint(new_kek(), issued.credential.reveal().decode())) is None
    assert "KEK" in str(keyring.fault())
    assert "GATEHOUSE_KEK" in str(audit_export.key_fault())
    assert roots == list(RootSecret.objects.order_by("id").values_list("id", "wrapped"))


@pytest.mark.django_db(transaction=True)
def test_with_another_kek_the_house_is_not_ready(settings, client):
    pepper()
    checks.WATCH.forget()
    assert client.get("/readyz").status_code == 200
    settings.KEK = [new_kek()]
    checks.WATCH.forget()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["keyring"]
    checks.WATCH.forget()


@pytest.mark.django_db(transaction=True)
def test_a_root_that_was_rolled_back_is_not_remembered():
    with transaction.atomic():
        gone = KEYRING.root(keyring.PEPPER)
        transaction.set_rollback(True)
    assert not RootSecret.objects.filter(purpose=keyring.PEPPER).exists()
    assert KEYRING.root(keyring.PEPPER) != gone


@pytest.mark.django_db(transaction=True)
def test_eight_at_once_make_one_root_and_all_get_it():
    roots = at_once(*[lambda: keyring.Keyring().root(keyring.PEPPER)] * 8)
    assert len({root.secret for root in roots}) == 1
    assert RootSecret.objects.filter(purpose=keyring.PEPPER).count() == 1


@pytest.mark.django_db(transaction=True)
def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(keyring, "_CACHED_ROOTS", 2)
    ring = keyring.Keyring()
    for purpose in PLATFORM_PURPOSES:
        ring.root(purpose)
    assert len(ring._roots) == 2


@pytest.mark.django_db(transaction=True)
def test_a_root_is_read_once(django_assert_num_queries):
    KEYRING.root(keyring.PEPPER)
    with django_assert_num_queries(0):
        KEYRING.root(keyring.PEPPER)


@pytest.mark.django_db
def test_there_is_one_root_per_purpose_and_version_in_the_database_too(tenant):
    KEYRING.root(keyring.PEPPER)
    for purpose, owner in ((keyring.PEPPER, None), (TENANT, tenant)):
        with pytest.raises(IntegrityError), transaction.atomic():
            RootSecret.objects.create(purpose=purpose, tenant=owner, salt=b"s", wrapped=b"w")


@pytest.mark.django_db
def test_with_a_tenant_goes_what_opens_its_records(tenant, outsider, staging):
    own = set_provider_config(
        actor=staging, tenant_id=tenant.id, provider="openai", api_key="sk-planted-1234"
    )
    row = credentials.current(own)
    assert row is not None
    kept = credentials.sealed(row, own)  # as a backup would have it
    delete_tenant(actor=staging, tenant_id=tenant.id)
    assert not RootSecret.objects.filter(tenant_id=tenant.id).exists()
    assert RootSecret.objects.filter(tenant=outsider).exists()
    with pytest.raises(CredentialUnreadable):
        credentials.open_sealed(kept)
    assert not RootSecret.objects.filter(tenant_id=tenant.id).exists()


@pytest.mark.django_db
def test_a_keyring_without_faults_says_nothing(key: Issued):
    assert keyring.fault() is None


@pytest.mark.django_db
@pytest.mark.parametrize("purpose", PLATFORM_PURPOSES)
def test_a_changed_root_of_the_platform_is_a_fault(purpose):
    for each in PLATFORM_PURPOSES:
        KEYRING.root(each)
    row = RootSecret.objects.get(purpose=purpose)
    changed = bytes(row.wrapped)
    changed = changed[:-1] + bytes([changed[-1] ^ 1])
    RootSecret.objects.filter(pk=row.pk).update(wrapped=changed)
    assert "KEK" in str(keyring.fault())


# --- through the front door -------------------------------------------------------------------------------------------

PLANTED = "sk-planted-in-the-database-0123456789"


@pytest.mark.slow
def test_a_copied_database_with_another_kek_is_a_closed_house(gatehouse):
    """What somebody has who took the database and not the KEK: nothing that starts says it is ready, and nothing opens."""
    server: Server = gatehouse(serve=False)
    adding = ("--name", "p", "--kind", "openai", "--no-import", "--api-key-file", "-")
    server.run("provider", "add", *adding, stdin=PLANTED)
    key = server.manage("key", "issue", "--tenant", "default", "--name", "k")["key"]
    server.env |= environment.fresh_secrets()
    doctor = server.attempt("doctor")
    assert doctor.returncode == 1
    assert "FAIL  keyring" in doctor.stdout
    assert server.attempt("audit", "verify").returncode == 3
    for refused in (
        ("key", "issue", "--tenant", "default", "--name", "k2"),
        ("client", "create", "--name", "Another"),
    ):
        done = server.attempt(*refused)
        assert done.returncode == 1
        assert "GATEHOUSE_KEK" in done.stderr
        assert "Traceback" not in done.stderr
    served = server.attempt("serve", "--workers", "1", "--bind", "127.0.0.1:0")
    assert served.returncode not in (0, None)
    assert "No KEK in GATEHOUSE_KEK opens this secret" in served.stderr
    written = server.everything_written() + served.stderr.encode() + doctor.stdout.encode()
    assert dump.occurrences([PLANTED.encode(), key.encode()], written) == []
