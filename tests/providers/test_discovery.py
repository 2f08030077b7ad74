"""Asking a provider what it has, against a real local server: what is told, what is imported, what never leaves the house."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest

from providers import credentials, discovery, presets
from providers.errors import CredentialUnreadable
from providers.models import Credential, Model, Price, Provider
from providers.services import create_provider, set_provider_config
from tenants.actor import Actor, system_actor
from tenants.errors import Invalid, NotFound
from tenants.keyring import KEYRING
from tenants.models import AuditEvent
from tenants.services import create_tenant

pytestmark = pytest.mark.django_db

SECRET = "sk-upstream-0123456789"
ACTOR: Actor = system_actor("test")


class Upstream(ThreadingHTTPServer):
    """Answers every GET with what it is told to, and notes the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.body = b'{"data": []}'
        self.headers: dict[str, str] = {}
        #: Status and body of other paths.
        self.other: dict[str, tuple[int, bytes]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def lists(self, *ids: str) -> None:
        self.body = json.dumps({"object": "list", "data": [{"id": it} for it in ids]}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        told = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, told))
        status, body = self.server.other.get(self.path, (self.server.status, self.server.body))
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(autouse=True)
def _fresh(settings) -> Iterator[None]:
    KEYRING.forget()
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]
    yield
    KEYRING.forget()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def provider(upstream) -> Provider:
    return create_provider(
        actor=ACTOR, name="ours", kind="openai", base_url=upstream.url, api_key=SECRET
    )


@pytest.fixture
def nowhere(db) -> Provider:
    """A provider whose server has gone."""
    return create_provider(
        actor=ACTOR, name="gone", kind="openai", base_url="http://127.0.0.1:9/v1"
    )


def check(provider: Provider) -> discovery.TestResult:
    return discovery.test_provider(actor=ACTOR, provider_id=provider.id)


def take(provider: Provider, match: str = "*") -> discovery.ImportResult:
    return discovery.import_models(actor=ACTOR, provider_id=provider.id, match=match)


# --- the test of a provider -------------------------------------------------------------------------------------------


def test_a_good_provider_is_asked_with_its_credential(provider, upstream):
    upstream.lists("m1", "m2")
    result = check(provider)
    assert (result.ok, result.status, result.models) == (True, 200, ["m1", "m2"])
    assert result.latency_ms >= 0
    path, headers = upstream.requests[0]
    assert path == "/v1/models"
    assert headers["authorization"] == f"Bearer {SECRET}"


def test_a_test_is_audited_without_the_credential(provider, upstream):
    upstream.status, upstream.body = 401, b"{}"
    check(provider)
    event = AuditEvent.objects.get(action="provider.tested")
    assert (event.outcome, event.details) == ("failed", {"status": 401})
    assert event.target_id == str(provider.id)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 429, 500, 503])
def test_the_upstreams_own_status_is_told(provider, upstream, status):
    upstream.status, upstream.body = status, b'{"error": "no"}'
    upstream.headers = {"Location": upstream.url + "/elsewhere"}
    result = check(provider)
    assert (result.ok, result.status) == (False, status)
    assert f"status {status}" in result.sentence
    assert len(upstream.requests) == 1


def test_an_error_that_repeats_the_credential_is_told_without_it(provider, upstream):
    upstream.status = 401
    upstream.body = f"Incorrect API key: {SECRET}\x1b[31m\n\u202e".encode()
    result = check(provider)
    assert "Incorrect API key" in result.sentence
    assert SECRET not in result.sentence
    assert result.sentence.isprintable()


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[" * 10_000, b"{}", b'{"data": 5}', b'"text"', b"\xff"]
)
def test_what_is_no_list_of_models_is_said_to_be_none(provider, upstream, body):
    upstream.body = body
    result = check(provider)
    assert (result.ok, result.status) == (False, 200)
    assert "no list of models" in result.sentence


def test_strange_entries_of_a_list_are_passed_over(provider, upstream):
    entries = [{"id": "m1"}, {"id": 5}, {}, "x", {"id": ""}, {"id": "a\nb"}, {"id": "m1"}]
    upstream.body = json.dumps({"data": [*entries, {"id": "x" * 300}]}).encode()
    assert check(provider).models == ["m1"]


def test_an_enormous_answer_is_not_read_to_its_end(provider, upstream):
    upstream.body = b" " * (9 * 1024 * 1024)
    result = check(provider)
    assert not result.ok
    assert "bytes" in result.sentence


def test_a_server_that_is_not_there_is_told_without_a_status(nowhere):
    result = check(nowhere)
    assert (result.ok, result.status) == (False, None)
    assert "could not be reached" in result.sentence


def test_an_address_that_is_no_longer_let_through_is_refused(provider, settings, upstream):
    settings.ALLOWED_UPSTREAMS = []
    with pytest.raises(Invalid):
        check(provider)
    assert upstream.requests == []


def test_a_tampered_credential_is_unreadable_and_nothing_is_sent(provider, upstream):
    row = credentials.current(provider)
    assert row is not None
    damaged = bytes(row.sealed)[:-1] + bytes([bytes(row.sealed)[-1] ^ 1])
    Credential.objects.filter(pk=row.pk).update(sealed=damaged)
    with pytest.raises(CredentialUnreadable):
        check(provider)
    assert upstream.requests == []


def test_a_provider_that_is_not_there_is_not_found():
    with pytest.raises(NotFound):
        discovery.test_provider(actor=ACTOR, provider_id=uuid4())


def test_the_demo_needs_nobody(db):
    demo = create_provider(actor=ACTOR, name="demo", kind="demo")
    assert check(demo).models == ["echo", "slow", "fail-503", "cut"]


# --- taking models over -----------------------------------------------------------------------------------------------


def test_models_are_added_under_both_names_priced_and_described(provider, upstream):
    upstream.lists("gpt-4o", "text-embedding-3-small", "new-thing", "my-embedder")
    result = take(provider)
    assert result.added[:2] == ["ours/gpt-4o", "gpt-4o"]
    assert len(result.added) == 8
    known = Model.objects.get(name="gpt-4o")
    assert (known.capability, known.context_window, known.tenant_id) == ("chat", 128_000, None)
    target = known.targets.get()
    assert (target.provider_id, target.upstream_model) == (provider.id, "gpt-4o")
    price = known.prices.get()
    assert (price.input_nano_per_mtok, price.output_nano_per_mtok) == (
        2_500_000_000,
        10_000_000_000,
    )
    assert price.cached_input_nano_per_mtok == 1_250_000_000
    capabilities = dict(
        Model.objects.filter(name__startswith="ours/").values_list("name", "capability")
    )
    assert capabilities["ours/text-embedding-3-small"] == "embedding"
    assert capabilities["ours/new-thing"] == "chat"
    assert capabilities["ours/my-embedder"] == "embedding"
    assert not Price.objects.filter(model__name="new-thing").exists()


def test_a_second_import_adds_only_what_is_new_and_audits_no_refusals(provider, upstream):
    upstream.lists("m1")
    take(provider)
    upstream.lists("m1", "m2")
    result = take(provider)
    assert result.added == ["ours/m2", "m2"]
    assert result.skipped == ["ours/m1", "m1"]
    assert not AuditEvent.objects.filter(action="model.created", outcome="refused").exists()


def test_a_bare_name_that_is_taken_stays_with_whom_it_is(provider, upstream):
    upstream.lists("m1")
    take(provider)
    other = create_provider(actor=ACTOR, name="other", kind="openai", base_url=upstream.url)
    result = take(other)
    assert (result.added, result.skipped) == (["other/m1"], ["m1"])
    assert Model.objects.get(name="m1").targets.get().provider_id == provider.id


def test_only_ids_that_match_are_added(provider, upstream):
    upstream.lists("gpt-4o", "gpt-5", "o3")
    assert take(provider, "gpt-*").added == ["ours/gpt-4o", "gpt-4o", "ours/gpt-5", "gpt-5"]
    with pytest.raises(Invalid):
        take(provider, "")


@pytest.mark.parametrize(
    "unfit",
    ["whisper-1", "tts-1-hd", "dall-e-3", "omni-moderation-latest", "a b", "x*y", "x" * 200],
)
def test_what_could_not_be_called_is_left_out(provider, upstream, unfit):
    upstream.lists(unfit, "m1")
    result = take(provider)
    assert result.added == ["ours/m1", "m1"]
    assert len(result.skipped) == 2


def test_an_upstream_that_cannot_be_reached_gives_the_presets_short_list(nowhere):
    result = take(nowhere)
    assert result.offline
    assert len(result.added) == 2 * len(presets.preset("openai").models)


def test_an_upstream_that_refuses_us_gives_nothing(provider, upstream):
    upstream.status, upstream.body = 401, b'{"error": "bad key"}'
    with pytest.raises(discovery.UpstreamSilent, match="401"):
        take(provider)
    assert not Model.objects.exists()


def test_without_a_short_list_an_absent_upstream_is_said_to_be_absent():
    absent = create_provider(
        actor=ACTOR, name="v", kind="openai-compatible", base_url="http://127.0.0.1:9/v1"
    )
    with pytest.raises(discovery.UpstreamSilent, match="could not be reached"):
        take(absent)


def test_the_demo_has_no_bare_names():
    demo = create_provider(actor=ACTOR, name="demo", kind="demo")
    assert take(demo).added == ["demo/echo", "demo/slow", "demo/fail-503", "demo/cut"]
    assert Model.objects.count() == 4


def test_a_tenants_provider_gives_models_to_that_tenant_alone(upstream):
    tenant = create_tenant(actor=ACTOR, name="Acme", slug="acme")
    own = set_provider_config(
        actor=ACTOR, tenant_id=tenant.id, provider="openai", base_url=upstream.url, api_key=SECRET
    )
    upstream.lists("m1")
    assert take(own).added == ["own-openai/m1", "m1"]
    assert set(Model.objects.values_list("tenant_id", flat=True)) == {tenant.id}


# --- kinds that list otherwise ----------------------------------------------------------------------------------------


def azure_at(upstream: Upstream, **fields: Any) -> Provider:
    where = upstream.url.removesuffix("/v1")
    return create_provider(
        actor=ACTOR, name="az", kind="azure", base_url=where, api_key=SECRET, **fields
    )


def test_azure_is_asked_for_its_base_models_with_its_own_header_and_version(upstream):
    upstream.lists("gpt-4o", "gpt-5")
    result = check(azure_at(upstream, api_version="2024-06-01"))
    assert (result.ok, result.status, result.models) == (True, 200, ["gpt-4o", "gpt-5"])
    [(path, headers)] = upstream.requests
    assert path == "/openai/models?api-version=2024-06-01"
    assert headers["api-key"] == SECRET
    assert "authorization" not in headers


def test_azures_own_words_are_told_when_it_refuses_us(upstream):
    upstream.status = 401
    upstream.body = b'{"error":{"code":"401","message":"Access denied due to invalid key ' + (
        SECRET.encode() + b'."}}'
    )
    result = check(azure_at(upstream))
    assert (result.ok, result.status) == (False, 401)
    assert "Access denied" in result.sentence
    assert SECRET not in result.sentence


def test_what_azure_could_deploy_is_not_imported(upstream):
    upstream.lists("gpt-4o", "gpt-5")
    with pytest.raises(Invalid, match="not what is deployed") as refusal:
        take(azure_at(upstream))
    assert list(refusal.value.fields) == ["deployment"]
    assert not Model.objects.exists()


def test_an_azure_account_that_is_one_deployment_gives_that_one(upstream):
    assert take(azure_at(upstream, deployment="our-gpt")).added == ["az/our-gpt", "our-gpt"]
    assert Model.objects.get(name="our-gpt").targets.get().upstream_model == "our-gpt"


#: As documented: https://github.com/ollama/ollama/blob/main/docs/api.md#list-local-models
TAGS = json.dumps(
    {
        "models": [
            {
                "name": name,
                "model": name,
                "modified_at": "2025-05-10T08:06:48.639712648-07:00",
                "size": 4683075271,
                "digest": "0a8c26691023dca3dcabb4f8e7b6dbcbb47ff4f9e1e2a3e5c3e5d2b3a3a1a4a6",
                "details": {
                    "parent_model": "",
                    "format": "gguf",
                    "family": family,
                    "families": [family],
                    "parameter_size": "7.6B",
                    "quantization_level": "Q4_K_M",
                },
            }
            for name, family in (("deepseek-r1:latest", "qwen2"), ("all-minilm:latest", "bert"))
        ]
    }
).encode()


def ollama_at(upstream: Upstream, path: str = "") -> Provider:
    where = upstream.url.removesuffix("/v1") + path
    name = f"ollama{path.replace('/', '-')}"
    return create_provider(actor=ACTOR, name=name, kind="ollama", base_url=where)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_ollama_is_found_with_and_without_the_end_of_its_address(upstream, path):
    upstream.lists("deepseek-r1:latest", "all-minilm:latest")
    upstream.other["/api/tags"] = (200, TAGS)
    assert check(ollama_at(upstream, path)).models == ["deepseek-r1:latest", "all-minilm:latest"]
    assert [path for path, _ in upstream.requests] == ["/v1/models", "/api/tags"]
    assert all("authorization" not in headers for _, headers in upstream.requests)


def test_ollamas_own_list_tells_which_models_make_vectors(upstream):
    upstream.lists("deepseek-r1:latest", "all-minilm:latest")
    upstream.other["/api/tags"] = (200, TAGS)
    assert len(take(ollama_at(upstream)).added) == 4
    kinds = dict(Model.objects.values_list("name", "capability"))
    assert kinds["ollama/deepseek-r1:latest"] == "chat"
    assert kinds["ollama/all-minilm:latest"] == "embedding"


def test_an_ollama_whose_openai_door_has_no_list_is_asked_for_its_own(upstream):
    upstream.status, upstream.body = 404, b"404 page not found"
    upstream.other["/api/tags"] = (200, TAGS)
    assert check(ollama_at(upstream)).models == ["deepseek-r1:latest", "all-minilm:latest"]


@pytest.mark.parametrize("tags", [b"[]", b'{"models": {"a": 1}}', b'{"models": [1, {}]}', b"no"])
def test_an_ollama_of_which_more_cannot_be_learned_is_taken_by_its_first_list(upstream, tags):
    upstream.lists("llama3.2:latest")
    upstream.other["/api/tags"] = (200, tags)
    assert check(ollama_at(upstream)).models == ["llama3.2:latest"]
    upstream.other["/api/tags"] = (500, b"{}")
    assert check(ollama_at(upstream, "/v1")).models == ["llama3.2:latest"]
