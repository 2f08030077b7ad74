"""Backups over HTTP: out as a stream of lines, in with a look ahead that changes nothing. Owners only."""

import json
import re
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.db import connection

from gateway.backup.tables import BY_LABEL
from keys.models import APIKey, KeySecret
from keys.services import Issued, issue_key, rotate_key
from providers import credentials, store_services
from providers.model_services import create_model
from providers.models import Credential, Model, Price, Provider, Store
from providers.services import create_provider
from providers.store_services import register_store
from tenants.account_services import create_account
from tenants.actor import Actor
from tenants.keyring import KEYRING
from tenants.models import Account, AuditEvent, Membership, RootSecret, Tenant, User
from tenants.project_services import create_project
from tenants.sealing import Secret
from tenants.services import delete_tenant
from tests.cast import Api
from usage.balance_services import balance_of, top_up
from usage.models import Credit

SECRET = "sk-planted-0123456789"
JSONL = "application/jsonl"


@pytest.fixture(autouse=True)
def _local(settings: Any) -> None:
    KEYRING.forget()
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]


@pytest.fixture
def mine(owner: User) -> Api:
    return Api().signed_in(owner)


@pytest.fixture
def furnished(tenant: Tenant, key: Issued, staging: Actor) -> Tenant:
    """A tenant with an account that has money, a project, a provider and a model of its own, and a price for a shared one."""
    account = create_account(actor=staging, tenant_id=tenant.id, username="payer")
    top_up(actor=staging, account_id=account.id, amount_usd="7.000000001")
    project = create_project(actor=staging, tenant_id=tenant.id, name="Röntgen")
    issue_key(
        actor=staging,
        tenant_id=tenant.id,
        name="second",
        project=project.id,
        account=account.id,
        cost_budget_usd="5",
    )
    place: dict[str, Any] = {
        "kind": "openai-compatible",
        "base_url": "http://127.0.0.1:9/v1",
        "api_key": SECRET,
    }
    shared = create_provider(actor=staging, name="shared", **place)
    own = create_provider(actor=staging, name="own", tenant_id=tenant.id, **place)
    price = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    for name, owner, provider in (
        ("house/*", None, shared),
        ("mine", tenant, own),
        ("both", tenant, shared),
    ):
        create_model(
            actor=staging,
            id=name,
            tenant_id=owner.id if owner else None,
            targets=[{"provider": str(provider.id), "upstream_model": "x"}],
            prices=[price],
        )
    register_store(
        actor=staging,
        tenant_id=tenant.id,
        store_id="shop-1",
        base_url="http://127.0.0.1:9",
        api_key=SECRET,
    )
    return tenant


def exported(api: Api, query: str = "") -> bytes:
    answer = api.get(f"backup/export{query}")
    assert answer.status_code == 200, answer.content
    return async_to_sync(_whole)(answer)


async def _whole(answer: Any) -> bytes:
    return b"".join([piece async for piece in answer.streaming_content])


def sent(api: Api, raw: bytes, query: str = "") -> Any:
    return api.post(f"backup/import{query}", raw=raw, content_type=JSONL)


def everything() -> dict[str, list[Any]]:
    """Every row of every table, as the database has it."""
    found = {}
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            cursor.execute(f"SELECT * FROM {model._meta.db_table}")
            found[model._meta.label] = sorted(map(str, cursor.fetchall()))
    return found


def lines_of(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.splitlines()]


# --- out --------------------------------------------------------------------------------------------------------------


def test_an_export_is_a_download_of_lines_with_head_counts_and_digest(mine: Api, furnished: Tenant):
    answer = mine.get("backup/export")
    assert answer.headers["Content-Type"] == JSONL
    name = answer.headers["Content-Disposition"]
    assert re.fullmatch(r'attachment; filename="gatehouse-\d{8}T\d{6}Z\.jsonl"', name)
    raw = async_to_sync(_whole)(answer)
    assert len(raw) == int(answer.headers["Content-Length"])
    head, *rows, end = lines_of(raw)
    assert (next(iter(head)), head["format"], head["version"]) == ("format", "gatehouse-backup", 1)
    assert end["end"]["rows"] == len(rows)
    assert end["end"]["tables"]["keys.apikey"] == 2
    assert head["with_logs"] is False
    assert "usage.requestlog" not in end["end"]["tables"]
    assert SECRET.encode() not in raw
    row = AuditEvent.objects.filter(action="backup.exported").get()
    assert row.details["rows"] == len(rows)
    assert (row.actor_label, row.source) == ("the-owner", "api")


def test_a_backup_of_one_tenant_holds_nothing_of_others(
    mine: Api, furnished: Tenant, outsider: Tenant
):
    raw = exported(mine, "?tenant=acme")
    assert b"outsider" not in raw.lower()
    head, *lines, _ = lines_of(raw)
    assert head["tenant"] == str(furnished.id)
    tables = {line["table"] for line in lines if "row" in line}
    assert tables.isdisjoint({"tenants.user", "tenants.auditevent", "tenants.setting"})
    mentioned = [(line["table"], line["name"]) for line in lines if "name" in line]
    assert mentioned == [("providers.provider", "shared")]
    providers = [
        line["row"]["name"]
        for line in lines
        if line["table"] == "providers.provider" and "row" in line
    ]
    assert providers == ["own"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?tenant=nobody", None),
        ("?with_logs=maybe", "with_logs"),
        ("?everything=true", "everything"),
        ("?tenant=acme&with_logs=true", "with_logs"),
    ],
)
def test_an_export_that_means_nothing_is_refused(
    mine: Api, tenant: Tenant, query: str, field: str | None
):
    answer = mine.get(f"backup/export{query}")
    assert answer.status_code == (400 if field else 404)
    assert field is None or field in answer.json()["error"]["fields"]


# --- looking ahead ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "&remap_ids=true", "&remap_ids=true&on_conflict=skip"])
def test_a_preview_counts_and_changes_nothing(mine: Api, furnished: Tenant, query: str):
    raw = exported(mine)
    before = everything()
    answer = sent(mine, raw, f"?preview=true{query}")
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert everything() == before
    assert told["object"] == "backup_preview"
    assert (told["master_key"], told["unreadable"]) == (True, 0)
    assert told["tables"]["keys.apikey"]["rows"] == 2
    assert told["possible"] == query.endswith("skip")
    assert bool(told["refusals"]) != told["possible"]
    if query:
        assert told["tables"]["tenants.tenant"]["conflicts"] == 2
        assert {"table": "tenants.tenant", "name": "acme"} in told["conflicts"]
        assert told["tables"]["keys.apikey"]["new"] == 2


def test_what_a_preview_counts_is_what_an_import_does(mine: Api, furnished: Tenant):
    raw = exported(mine)
    query = "?remap_ids=true&on_conflict=skip"
    foreseen = sent(mine, raw, f"{query}&preview=true").json()
    done = sent(mine, raw, query).json()
    assert done["object"] == "backup_import"
    assert done["tables"] == foreseen["tables"]
    assert done["warnings"] == foreseen["warnings"]


# --- in, with new ids -------------------------------------------------------------------------------------------------


def test_a_tenant_that_was_deleted_comes_back_with_its_keys_its_money_and_its_credential(
    mine: Api, furnished: Tenant, key: Issued, staging: Actor
):
    raw = exported(mine, "?tenant=acme")
    delete_tenant(actor=staging, tenant_id=furnished.id)
    assert not KeySecret.objects.exists()
    answer = sent(mine, raw, "?remap_ids=true")
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["warnings"], told["conflicts"]) == ([], [])
    back = Tenant.objects.get(slug="acme")
    assert back.id != furnished.id
    own = Provider.objects.get(tenant=back)
    sealed = credentials.current(own)
    assert sealed is not None
    assert credentials.open_sealed(credentials.sealed(sealed, own)).reveal() == SECRET.encode()
    assert set(APIKey.objects.values_list("tenant", "name")) == {
        (back.id, "first"),
        (back.id, "second"),
    }
    assert KeySecret.objects.filter(prefix=key.credential.reveal().decode()[:10]).exists()
    store = Store.objects.get(tenant=back)
    assert store_services.credential_of(store) == Secret(SECRET.encode())
    account = Account.objects.get(tenant=back)
    assert balance_of([account.id])[account.id].balance == 7_000_000_001
    [entry] = Credit.objects.filter(account_id=account.id)
    assert entry.note == "Carried over from a backup."
    models = Model.objects.filter(tenant=back)
    assert {(m.name, m.targets.get().provider_id) for m in models} == {
        ("mine", own.id),
        ("both", Provider.objects.get(name="shared").id),
    }
    assert Price.objects.filter(model__in=models).count() == 2
    second = APIKey.objects.get(name="second")
    assert (second.project_id, second.account_id) == (back.projects.get().id, account.id)
    assert second.cost_budget_usd == "5"


def test_what_is_mentioned_and_not_here_is_left_empty_and_told(
    mine: Api, furnished: Tenant, staging: Actor
):
    raw = exported(mine, "?tenant=acme")
    delete_tenant(actor=staging, tenant_id=furnished.id)
    Provider.objects.filter(name="shared").update(name="other")
    Provider.objects.get(name="other").delete()
    told = sent(mine, raw, "?remap_ids=true").json()
    assert any("1 references" in sentence for sentence in told["warnings"])
    assert Model.objects.get(name="both").targets.get().provider is None


def test_a_name_that_is_taken_refuses_all_of_it(mine: Api, furnished: Tenant):
    raw = exported(mine)
    before = everything()
    answer = sent(mine, raw, "?remap_ids=true")
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert "names are taken here" in error["message"]
    assert {"table": "providers.provider", "name": "shared"} in error["conflicts"]
    after = everything()
    assert after.pop("tenants.AuditEvent") != before.pop("tenants.AuditEvent")
    assert after.pop("tenants.AuditHead") != before.pop("tenants.AuditHead")
    assert after == before
    last = AuditEvent.objects.filter(action="backup.imported").get()
    assert last.outcome == "refused"


def test_skipping_keeps_what_is_here_and_takes_the_rest(
    mine: Api, furnished: Tenant, staging: Actor
):
    raw = exported(mine)
    Tenant.objects.filter(pk=furnished.id).update(name="Acme of today")
    told = sent(mine, raw, "?remap_ids=true&on_conflict=skip").json()
    assert told["tables"]["tenants.tenant"] == {
        "rows": 2,
        "new": 0,
        "existing": 2,
        "conflicts": 2,
        "left_out": 0,
    }
    assert Tenant.objects.get(slug="acme").name == "Acme of today"
    assert Provider.objects.count() == 2
    assert Credential.objects.count() == 2
    assert Model.objects.count() == Price.objects.count() == 3
    assert APIKey.objects.filter(tenant=furnished).count() == 4
    # Their fingerprints are taken by the keys that are here.
    silent = APIKey.objects.filter(secrets__isnull=True)
    assert silent.count() == 2
    assert any("2 keys come without their secrets" in each for each in told["warnings"])
    assert rotate_key(actor=staging, key_id=silent[0].id).credential
    assert Membership.objects.count() == 0
    assert User.objects.count() == 1
    assert Credit.objects.count() == 1


def test_an_import_is_one_audit_row_with_its_counts(mine: Api, furnished: Tenant):
    raw = exported(mine)
    sent(mine, raw, "?remap_ids=true&on_conflict=skip")
    row = AuditEvent.objects.filter(action="backup.imported").get()
    assert (row.outcome, row.details["tables"]) == ("ok", {"keys.apikey": 2})
    assert row.details["on_conflict"] == "skip"
    assert mine.get("audit/verify").json()["ok"]


# --- the door ---------------------------------------------------------------------------------------------------------


def test_without_the_master_key_an_import_has_to_be_asked_for_twice(
    mine: Api, owner: User, furnished: Tenant, settings: Any
):
    raw = exported(mine, "?tenant=acme")
    RootSecret.objects.all().delete()
    settings.KEK = [type(settings.KEK[0])(bytes(range(32)))]
    KEYRING.forget()
    mine = Api().signed_in(owner)
    Tenant.objects.filter(pk=furnished.id).update(slug="old")
    told = sent(mine, raw, "?remap_ids=true&preview=true").json()
    assert (told["possible"], told["master_key"], told["unreadable"]) == (False, False, 4)
    assert "The master key of this backup is not here" in told["refusals"][0]
    refused = sent(mine, raw, "?remap_ids=true")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "master_key_missing")
    done = sent(mine, raw, "?remap_ids=true&accept_unreadable=true")
    assert done.status_code == 200, done.content
    assert "Without their credential, to be given anew: own, shop-1." in done.json()["warnings"]
    own = Provider.objects.get(tenant__slug="acme")
    assert credentials.current(own) is None
    assert mine.get(f"providers/{own.id}").json()["has_api_key"] is False


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?remap_ids=yes", "remap_ids"),
        ("?on_conflict=overwrite&remap_ids=true", "on_conflict"),
        ("?on_conflict=skip", "on_conflict"),
        ("?preview=1", "preview"),
        ("?force=true", "force"),
    ],
)
def test_a_question_that_means_nothing_is_refused(mine: Api, query: str, field: str):
    answer = sent(mine, b"", query)
    assert answer.status_code == 400
    assert field in answer.json()["error"]["fields"]


def test_only_a_backup_is_taken_and_not_one_that_is_too_large(mine: Api, settings: Any):
    assert sent(mine, b"").status_code == 400
    assert sent(mine, b"{}\n").json()["error"]["message"].startswith("Line 1: ")
    answer = mine.post("backup/import", raw=b"{}", content_type="text/plain")
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    settings.MAX_IMPORT = 1000
    answer = sent(mine, b"x" * 1001)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_a_whole_backup_says_why_it_does_not_go_into_a_house_with_things(mine: Api, key: Issued):
    answer = sent(mine, exported(mine))
    assert answer.status_code == 409
    assert "This database is not empty" in answer.json()["error"]["message"]
    assert AuditEvent.objects.filter(action="backup.imported").get().outcome == "refused"
    one = sent(mine, exported(mine, "?tenant=acme"))
    assert "a backup of one tenant" in one.json()["error"]["message"]


def test_every_table_of_a_backup_has_a_label_that_django_knows():
    assert set(BY_LABEL) <= {
        model._meta.label_lower for model in apps.get_models(include_auto_created=True)
    }
