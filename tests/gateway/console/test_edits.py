"""What an edit leaves alone: what others changed meanwhile, and what its form could not offer."""

import pytest

from keys.models import APIKey
from keys.services import issue_key, update_key
from tenants.account_services import create_account, delete_account
from tenants.models import Project
from tests.support import page


@pytest.fixture
def edit(key) -> str:
    return f"keys/{key.key.id}/edit/"


def stored(key) -> tuple[str, int | None]:
    found = APIKey.objects.get(pk=key.key.id)
    return found.name, found.rate_limit_rpm


def test_a_form_that_was_mended_does_not_undo_what_somebody_changed_meanwhile(
    console, key, edit, staging
):
    drawn = console.form(edit)
    update_key(actor=staging, key_id=key.key.id, rate_limit_rpm=7)
    refused = console.post(edit, {**drawn, "name": ""})
    assert refused.status_code == 400
    mended = page.last_form(refused.content.decode()) | {"name": "second"}
    assert console.post(edit, mended).status_code == 409
    assert stored(key) == ("first", 7)


def test_a_form_that_a_service_refused_can_be_mended_and_sent_again(console, key, edit):
    refused = console.submit(edit, {"name": "second", "allowed_addresses": "nowhere"})
    assert refused.status_code == 400
    mended = page.last_form(refused.content.decode()) | {"allowed_addresses": ""}
    assert console.post(edit, mended).status_code == 302
    assert stored(key) == ("second", None)


def test_a_stale_form_says_what_stands_there_now_and_replaces_it_only_when_sent_again(
    console, key, edit, staging
):
    drawn = console.form(edit)
    update_key(actor=staging, key_id=key.key.id, rate_limit_rpm=7, scopes=["usage"])
    answer = console.post(edit, {**drawn, "name": "second"})
    assert answer.status_code == 409
    text = answer.content.decode()
    assert "Is 7 now, which this would replace." in text
    assert "Is usage now, which this would replace." in text
    assert stored(key) == ("first", 7)
    assert console.post(edit, page.last_form(text)).status_code == 302
    assert stored(key) == ("second", None)


def test_a_key_whose_account_was_deleted_stays_shut_when_it_is_edited(console, tenant, staging):
    account = create_account(actor=staging, tenant_id=tenant.id, username="bob")
    key = issue_key(actor=staging, tenant_id=tenant.id, name="first", account=str(account.id))
    delete_account(actor=staging, account_id=account.id)
    edit = f"keys/{key.key.id}/edit/"
    assert "bob (deleted)" in console.get(edit).content.decode()
    assert console.submit(edit, {"name": "second"}).status_code == 302
    found = APIKey.objects.get(pk=key.key.id)
    assert (found.name, found.account_id) == ("second", account.id)


def test_a_key_keeps_a_project_that_is_one_of_too_many_to_list(console, tenant, staging):
    Project.objects.bulk_create(Project(tenant=tenant, name=f"p{n:03}") for n in range(201))
    last = Project.objects.get(name="p200")
    key = issue_key(actor=staging, tenant_id=tenant.id, name="first", project=str(last.id))
    assert console.submit(f"keys/{key.key.id}/edit/", {"name": "second"}).status_code == 302
    found = APIKey.objects.get(pk=key.key.id)
    assert (found.name, found.project_id) == ("second", last.id)
