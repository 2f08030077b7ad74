"""Providers in the console: made, tested, turned off and on, deleted. A credential goes in and never out."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from providers import credentials, model_services, services
from providers.models import Model, Provider, Target
from tenants.models import AuditEvent
from tests.cast import Console
from tests.gateway.console.names import NAMES
from tests.providers.test_discovery import Upstream
from tests.support.page import Page
from usage.models import Hold

PLANTED = "sk-planted-in-the-console-7f3a"


@pytest.fixture
def provider(staging, db) -> Provider:
    return services.create_provider(actor=staging, name="main", kind="openai", api_key=PLANTED)


@pytest.fixture
def model(staging, provider) -> Model:
    return model_services.create_model(
        actor=staging,
        id="gpt-5",
        targets=[{"provider": str(provider.id), "upstream_model": "gpt-5"}],
    )


@pytest.fixture
def upstream(settings) -> Iterator[Upstream]:
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def stored(provider: Provider) -> str | None:
    """The credential in clear, or None."""
    row = credentials.current(provider)
    if row is None:
        return None
    return credentials.open_sealed(credentials.sealed(row, provider)).reveal().decode()


def text_of(answer) -> str:
    return " ".join(" ".join(Page(answer.content.decode()).texts).split())


# Making and editing


def test_a_provider_is_made_from_what_its_kind_needs(console):
    assert "Azure OpenAI" in text_of(console.get("providers/new/"))
    path = "providers/new/?kind=openai"
    assert not {"deployment", "api_version", "clear_api_key"} & console.form(path).keys()
    answer = console.submit(path, {"name": "main", "api_key": PLANTED})
    made = Provider.objects.get()
    assert (answer.status_code, answer.headers["location"]) == (
        302,
        f"/console/providers/{made.id}/",
    )
    assert (made.name, made.kind, made.base_url, made.tenant) == ("main", "openai", "", None)
    assert stored(made) == PLANTED
    row = AuditEvent.objects.get(action="provider.created", outcome="ok")
    assert (row.source, row.actor_label) == ("console", "the-operator")


def test_fields_of_azure_are_asked_for_only_there(console):
    fields = {"base_url": "https://x.openai.azure.com", "api_version": "2025-06-01"}
    assert console.submit("providers/new/?kind=azure", fields).status_code == 302
    assert Provider.objects.get().api_version == "2025-06-01"
    assert "api_version" in console.form(f"providers/{Provider.objects.get().id}/edit/")


def test_a_provider_may_be_of_one_tenant(console, tenant):
    assert console.submit("providers/new/?kind=groq", {"tenant": "acme"}).status_code == 302
    assert Provider.objects.get().tenant == tenant
    answer = console.submit("providers/new/?kind=groq", {"tenant": "nobody"})
    assert answer.status_code == 400
    assert "is no tenant" in text_of(answer)


def test_the_list_shows_who_is_up_and_how_busy(console, staging, upstream, tenant):
    provider = services.create_provider(
        actor=staging,
        name="u",
        kind="openai-compatible",
        base_url=upstream.url,
        max_concurrency=8,
    )
    assert "Unknown" in text_of(console.get("providers/"))
    upstream.lists("m")
    console.post(f"providers/{provider.id}/test/", console.form(f"providers/{provider.id}/"))
    Hold.objects.create(
        month="2026-11",
        request_id=uuid4(),
        tenant_id=tenant.id,
        tenant="Acme",
        key_id=uuid4(),
        key_prefix="gwk_abcdef",
        created_at=datetime.now(UTC),
        tokens=1,
        nano_usd=1,
        model="m",
        provider_id=provider.id,
    )
    for page in ("providers/", f"providers/{provider.id}/"):
        shown = text_of(console.get(page))
        assert "Up" in shown
        assert "status 200" in shown
        assert "1 of 8" in shown
    upstream.status, upstream.body = 503, b"closed for repairs"
    console.post(f"providers/{provider.id}/test/", console.form(f"providers/{provider.id}/"))
    shown = text_of(console.get(f"providers/{provider.id}/"))
    assert "Down" in shown
    assert "closed for repairs" in shown


def test_a_shared_one_may_be_for_some_tenants_only(console, provider, model, tenant, outsider):
    for thing, path in ((provider, f"providers/{provider.id}"), (model, f"models/{model.id}")):
        assert "all tenants" in text_of(console.get(f"{path}/"))
        named = {"availability": "some", "tenants": "acme\noutsider"}
        assert console.submit(f"{path}/edit/", named).status_code == 302
        thing.refresh_from_db()
        assert thing.is_restricted
        assert set(thing.granted.all()) == {tenant, outsider}
        assert "Acme, Outsider" in text_of(console.get(f"{path}/"))
        console.submit(f"{path}/edit/", {"tenants": ""})
        assert not thing.granted.exists()
        assert "Nobody" in text_of(console.get(f"{path}/"))
        console.submit(f"{path}/edit/", {"max_concurrency": "4"})
        thing.refresh_from_db()
        assert (thing.is_restricted, thing.max_concurrency) == (True, 4)
        refused = console.submit(f"{path}/edit/", {"tenants": "nobody"})
        assert (refused.status_code, thing.granted.count()) == (400, 0)
        console.submit(f"{path}/edit/", {"availability": "all"})
        thing.refresh_from_db()
        assert not thing.is_restricted


def test_a_tenants_own_is_not_asked_whom_it_is_for(console, staging, tenant):
    own = services.create_provider(actor=staging, tenant_id=tenant.id, name="own", kind="groq")
    assert "availability" not in console.form(f"providers/{own.id}/edit/")
    assert "its tenant alone" in text_of(console.get(f"providers/{own.id}/"))


def test_the_time_for_a_call_is_set_and_cleared(console, provider):
    path = f"providers/{provider.id}/edit/"
    console.submit(path, {"timeout_seconds": "90"})
    provider.refresh_from_db()
    assert provider.timeout_seconds == 90
    assert "90 s in all" in text_of(console.get(f"providers/{provider.id}/"))
    assert console.submit(path, {"timeout_seconds": "0"}).status_code == 400
    console.submit(path, {"timeout_seconds": ""})
    provider.refresh_from_db()
    assert provider.timeout_seconds is None


def test_an_empty_credential_keeps_the_stored_one_and_a_tick_removes_it(console, provider):
    path = f"providers/{provider.id}/edit/"
    console.submit(path, {"name": "renamed", "api_key": ""})
    provider.refresh_from_db()
    assert (provider.name, stored(provider)) == ("renamed", PLANTED)
    console.submit(path, {"api_key": "  sk-another  "})
    assert stored(provider) == "sk-another"
    both = console.submit(path, {"api_key": "sk-third", "clear_api_key": "on"})
    assert (both.status_code, stored(provider)) == (400, "sk-another")
    console.submit(path, {"clear_api_key": "on"})
    assert stored(provider) is None
    assert "clear_api_key" not in console.form(path)


def test_a_form_that_says_nothing_new_changes_nothing(console, provider):
    rows = AuditEvent.objects.count()
    assert console.submit(f"providers/{provider.id}/edit/").status_code == 302
    assert AuditEvent.objects.count() == rows


def test_another_host_needs_the_credential_again(console, provider):
    path = f"providers/{provider.id}/edit/"
    answer = console.submit(path, {"base_url": "https://api.example.com/v1"})
    assert answer.status_code == 400
    assert "must be entered again" in text_of(answer)
    provider.refresh_from_db()
    assert (provider.base_url, stored(provider)) == ("", PLANTED)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://api.openai.com/v1", "Only https URLs are accepted"),
        ("https://127.0.0.1/v1", "is not a public address"),
        ("https://169.254.169.254/latest", "is not a public address"),
        ("file:///etc/passwd", ""),
        ("https://user:pass@api.openai.com/v1", ""),
    ],
)
def test_an_address_that_may_not_be_called_is_refused_beside_its_field(console, address, sentence):
    values = {"base_url": address, "api_key": PLANTED}
    answer = console.submit("providers/new/?kind=openai", values)
    html = answer.content.decode()
    assert answer.status_code == 400
    assert sentence in text_of(answer)
    assert 'aria-describedby="id_base_url-hint id_base_url-error"' in html
    assert not Provider.objects.exists()
    assert PLANTED not in html
    assert "Enter it once more" in html


def test_a_taken_name_is_refused_and_what_was_typed_stays(console, provider):
    path = "providers/new/?kind=groq"
    answer = console.submit(path, {"name": "main", "api_key": PLANTED})
    assert answer.status_code == 409
    assert Page(answer.content.decode()).forms[-1]["name"] == "main"
    assert Page(answer.content.decode()).forms[-1]["api_key"] == ""
    assert Provider.objects.count() == 1


def test_a_credential_in_the_url_is_not_taken(console):
    assert console.form("providers/new/?kind=openai&api_key=sk-in-the-url")["api_key"] == ""


def test_what_was_typed_into_a_refused_form_comes_back_as_text(console):
    for name in NAMES[::5]:
        answer = console.submit("providers/new/?kind=openai", {"name": name, "base_url": name})
        page = Page(answer.content.decode())
        assert answer.status_code == 400
        assert page.faults == []
        assert (page.forms[-1]["name"], page.forms[-1]["base_url"]) == (name, name)


def test_a_failure_of_ours_tells_nothing_of_what_was_typed(console, monkeypatch, caplog):
    def broken(**kwargs: object) -> None:
        raise RuntimeError("something broke")

    monkeypatch.setattr("providers.services.create_provider", broken)
    console.client.raise_request_exception = False
    answer = console.submit("providers/new/?kind=openai", {"api_key": PLANTED})
    assert answer.status_code == 500
    assert PLANTED not in answer.content.decode() + str(answer.headers) + caplog.text
    assert "something broke" not in answer.content.decode()


# Testing and importing


def test_a_test_shows_the_upstreams_exact_status_and_not_the_credential(console, staging, upstream):
    upstream.status = 418
    upstream.body = json.dumps({"error": f"bad key {PLANTED}"}).encode()
    made = services.create_provider(
        actor=staging, name="u", kind="openai-compatible", base_url=upstream.url, api_key=PLANTED
    )
    token = console.form("password/")["csrfmiddlewaretoken"]
    answer = console.post(f"providers/{made.id}/test/", {"csrfmiddlewaretoken": token})
    assert answer.status_code == 200
    assert "418" in text_of(answer)
    assert PLANTED not in answer.content.decode() + str(answer.headers)
    assert upstream.requests[0][1]["authorization"] == f"Bearer {PLANTED}"
    shown = text_of(console.get("providers/"))
    assert "Degraded" in shown
    assert "status 418" in shown
    assert AuditEvent.objects.get(action="provider.tested").actor_label == "the-operator"


def test_looking_at_the_tests_address_calls_nobody(console, staging, upstream):
    made = services.create_provider(
        actor=staging, name="u", kind="openai-compatible", base_url=upstream.url
    )
    assert console.get(f"providers/{made.id}/test/").status_code == 302
    assert upstream.requests == []


def test_models_are_imported_once_however_often_it_is_asked_for(console, staging, upstream):
    upstream.lists("a-1", "a-2", "b-1")
    made = services.create_provider(
        actor=staging, name="u", kind="openai-compatible", base_url=upstream.url
    )
    path = f"providers/{made.id}/import/"
    assert "4 added, 0 left out" in text_of(console.submit(path, {"match": "a-*"}))
    assert "0 added, 4 left out" in text_of(console.submit(path, {"match": "a-*"}))
    assert sorted(Model.objects.values_list("name", flat=True)) == ["a-1", "a-2", "u/a-1", "u/a-2"]


def test_an_upstream_that_refuses_to_list_is_told_in_a_sentence(console, staging, upstream):
    upstream.status, upstream.body = 401, b"no"
    made = services.create_provider(
        actor=staging, name="u", kind="openai-compatible", base_url=upstream.url
    )
    answer = console.submit(f"providers/{made.id}/import/")
    assert answer.status_code == 503
    assert "status 401" in text_of(answer)


# Asked about first


def test_turning_off_names_the_models_that_stop_and_can_be_taken_back(console, provider, model):
    path = f"providers/{provider.id}"
    page = text_of(console.get(f"{path}/turn-off/"))
    assert "no other way" in page
    assert "gpt-5" in page
    provider.refresh_from_db()
    assert provider.is_active
    assert console.submit(f"{path}/turn-off/").status_code == 302
    provider.refresh_from_db()
    assert not provider.is_active
    assert "off already" in text_of(console.get(f"{path}/turn-off/"))
    console.submit(f"{path}/turn-on/")
    provider.refresh_from_db()
    assert provider.is_active


def test_a_rotated_credential_is_in_use_at_once(console, provider):
    path = f"providers/{provider.id}/rotate-credential/"
    assert console.submit(path, {"api_key": ""}).status_code == 400
    answer = console.submit(path, {"api_key": "sk-planted-anew"})
    assert (answer.status_code, stored(provider)) == (302, "sk-planted-anew")
    assert "sk-planted-anew" not in console.get(f"providers/{provider.id}/").content.decode()


def test_a_provider_in_use_is_deleted_only_with_the_unlinking(console, provider, model):
    path = f"providers/{provider.id}/delete/"
    assert "gpt-5" in text_of(console.get(path))
    answer = console.submit(path)
    assert answer.status_code == 400
    assert "lead these models elsewhere first" in text_of(answer)
    assert console.submit(path, {"unlink": "on"}).headers["location"] == "/console/providers/"
    assert not Provider.objects.exists()
    assert Target.objects.get().provider is None
    assert "no provider" in text_of(console.get("models/"))


def test_a_stale_page_does_nothing_and_says_so(console, staging, provider, model):
    for page, values in (
        ("edit", {"name": "mine"}),
        ("turn-off", {}),
        ("delete", {"unlink": "on"}),
    ):
        drawn = console.form(f"providers/{provider.id}/{page}/")
        services.update_provider(actor=staging, provider_id=provider.id, name=f"theirs {page}")
        answer = console.post(f"providers/{provider.id}/{page}/", {**drawn, **values})
        assert answer.status_code == 409, page
        assert "Nothing was done" in text_of(answer)
    provider.refresh_from_db()
    assert (provider.name, provider.is_active) == ("theirs delete", True)


def test_a_model_that_came_meanwhile_makes_the_delete_page_stale(console, staging, provider):
    drawn = console.form(f"providers/{provider.id}/delete/")
    model_services.create_model(
        actor=staging, id="new", targets=[{"provider": "main", "upstream_model": "new"}]
    )
    answer = console.post(f"providers/{provider.id}/delete/", drawn)
    assert answer.status_code in {400, 409}
    assert Provider.objects.exists()


def test_a_form_sent_twice_is_carried_out_once(console, provider):
    drawn = console.form("providers/new/?kind=groq")
    first = console.post("providers/new/?kind=groq", {**drawn, "name": "once"})
    again = console.post("providers/new/?kind=groq", {**drawn, "name": "twice"})
    assert (first.status_code, again.status_code) == (302, 409)
    assert "carried out before" in text_of(again)
    assert Provider.objects.filter(kind="groq").count() == 1
    path = f"providers/{provider.id}/rotate-credential/"
    drawn = console.form(path)
    answers = [console.post(path, {**drawn, "api_key": f"sk-{n}"}) for n in range(3)]
    assert [answer.status_code for answer in answers] == [302, 409, 409]
    assert stored(provider) == "sk-0"


ACTIONS = ("rotate-credential", "turn-off", "turn-on", "delete")
POSTS = [
    "new/?kind=openai",
    *(f"{{id}}/{name}/" for name in ("edit", "test", "import", *ACTIONS)),
]


@pytest.mark.parametrize("role", ["viewer", "auditor"])
def test_whoever_only_reads_changes_nothing(request, provider, role):
    browser = Console().signed_in(request.getfixturevalue(role))
    token = browser.form("password/")["csrfmiddlewaretoken"]
    for path in POSTS:
        values = {"csrfmiddlewaretoken": token, "name": "x", "api_key": "sk-x", "unlink": "on"}
        answer = browser.post(f"providers/{path.format(id=provider.id)}", values)
        assert answer.status_code == 403, path
    provider.refresh_from_db()
    assert (provider.name, stored(provider)) == ("main", PLANTED)
    refused = AuditEvent.objects.filter(action="access.refused", source="console")
    assert refused.count() == len(POSTS)


def test_fifty_names_that_are_scripts_stay_text(console, staging):
    for name in NAMES:
        services.create_provider(actor=staging, name=name, kind="groq")
    assert_inert(console.get("providers/?o=0"), NAMES)
    first = Provider.objects.get(name=NAMES[1])
    for page in ("", "edit/", "turn-off/", "delete/", "import/"):
        assert_inert(console.get(f"providers/{first.id}/{page}"), NAMES[1:2])


def assert_inert(answer, names) -> None:
    page = Page(answer.content.decode())
    assert answer.status_code == 200
    assert page.faults == []
    shown = "\n".join(page.texts)
    values = [str(value) for form in page.forms for value in form.values()]
    assert [name for name in names if name not in shown and name not in values] == []


@pytest.mark.parametrize(
    "asked", ["q=%00", "q=%F0%9F%94%91", "tenant=%00", "tenant=nobody", "state=x", "o=99.-7", "p=0"]
)
def test_a_list_asked_for_nonsense_answers_all_the_same(console, provider, asked):
    assert console.get(f"providers/?{asked}").status_code in {200, 302, 400}
    assert console.get(f"models/?{asked}").status_code in {200, 302, 400}


@pytest.mark.parametrize("identity", ["none", "0", "%00", "x" * 300])
def test_what_is_no_provider_is_not_found(console, identity):
    assert console.get(f"providers/{identity}/").status_code == 404
    assert console.get(f"providers/{identity}/edit/").status_code == 404
