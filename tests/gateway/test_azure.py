"""Azure on both sides: accounts there as upstreams, and callers with Azure's own client."""

import json
from collections.abc import Iterator

import openai
import pytest

from providers.dialects.azure import DEFAULT_API_VERSION
from tests.gateway.door import PROMPT, Door, Json, Key, error_of, eventually
from tests.support.llama import Llama
from tests.support.oracle.script import text_of

# Forms of addresses, headers and answers; the accounts are kept like any other provider's.
pytestmark = pytest.mark.sqlite

TEXT = "".join(text_of(5))
SECRET = "azure-upstream-key-0123456789"
CHAT = "/chat/completions"


# --- accounts at Azure ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def resource(door: Door) -> str:
    """The oracle's address as a resource of Azure has one."""
    return door.oracle.api.removesuffix("/v1")


def azure_model(door: Door, resource: str, upstream_model: str = "ok", **fields: object) -> str:
    """The name of a model that is served by an account of its own."""
    provider = door.new_provider(resource, SECRET, kind="azure", **fields)
    return door.new_model(f"az-{provider}", provider, upstream_model)


@pytest.mark.parametrize(
    ("operation", "capability", "asked"),
    [
        (CHAT, "chat", {"messages": PROMPT}),
        ("/completions", "chat", {"prompt": "say something"}),
        ("/embeddings", "embedding", {"input": "say something"}),
    ],
)
def test_a_call_goes_to_its_deployment(
    door: Door, resource: str, operation: str, capability: str, asked: Json
) -> None:
    provider = door.new_provider(resource, SECRET, kind="azure")
    model = door.new_model(f"az-{provider}", provider, "ok", capability=capability)
    answer = door.post(f"/v1{operation}", {"model": model, **asked})
    assert answer.status_code == 200, answer.text
    call = door.upstream_call(answer)
    assert call.path == f"/openai/deployments/ok{operation}?api-version={DEFAULT_API_VERSION}"
    assert (call.header("api-key"), call.header("authorization")) == (SECRET, None)
    assert call.json == {"model": "ok", **asked}


def test_an_account_that_is_one_deployment_serves_every_model_by_it(
    door: Door, resource: str
) -> None:
    fields = {"deployment": "ok", "api_version": "2025-04-01-preview"}
    model = azure_model(door, resource, "gpt-4.1", **fields)
    answer = door.chat(model)
    assert answer.headers["x-gatehouse-target"] == "ok"
    assert door.upstream_call(answer).path == (
        f"/openai/deployments/ok{CHAT}?api-version=2025-04-01-preview"
    )
    row = door.row(answer)
    assert (row["target"], row["dialect_in"], row["dialect_out"]) == ("ok", "openai", "azure")
    assert (row["tokens_in"], row["tokens_out"], row["usage_source"]) == (4, 5, "provider")


def test_the_undated_api_takes_the_deployment_in_the_body(door: Door, resource: str) -> None:
    answer = door.chat(azure_model(door, f"{resource}/openai/v1", "gpt-4.1", deployment="ok"))
    call = door.upstream_call(answer)
    assert (call.path, call.model, call.header("api-key")) == (f"/openai/v1{CHAT}", "ok", SECRET)


def test_a_stream_of_azure_is_relayed_and_counted(door: Door, resource: str) -> None:
    answer = door.chat(azure_model(door, resource), stream=True)
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert door.upstream_call(answer).json["stream_options"] == {"include_usage": True}
    row = door.row(answer)
    assert (row["tokens_in"], row["tokens_out"], row["usage_source"]) == (4, 5, "provider")


def test_azures_refusals_are_told_as_any_upstreams(door: Door, resource: str) -> None:
    absent = door.chat(azure_model(door, resource, "status:404"))
    assert (absent.status_code, absent.headers["x-gatehouse-upstream-status"]) == (404, "404")
    refused = door.chat(azure_model(door, resource, "status:401"))
    assert (refused.status_code, error_of(refused)["code"]) == (502, "upstream_refused_us")
    assert SECRET not in absent.text + refused.text


def test_a_tenants_own_azure_account_is_set_replaced_and_removed(door: Door, resource: str) -> None:
    tenant = door.new_tenant()
    key = door.new_key(tenant)
    path = f"tenants/{tenant.id}/provider-config"
    config = {"provider": "azure", "base_url": resource, "api_key": SECRET}
    told = door.change("PUT", path, {**config, "api_version": "2024-06-01"})
    assert told == {
        "provider": "azure",
        "base_url": resource,
        "deployment": None,
        "api_version": "2024-06-01",
        "has_api_key": True,
    }
    answer = door.chat("ok", key=key)
    assert door.upstream_call(answer).path == (
        f"/openai/deployments/ok{CHAT}?api-version=2024-06-01"
    )
    assert door.change("PUT", path, {**config, "deployment": "ok"})["api_version"] is None
    assert door.upstream_call(door.chat("anything", key=key)).path == (
        f"/openai/deployments/ok{CHAT}?api-version={DEFAULT_API_VERSION}"
    )
    door.change("DELETE", path)
    assert door.chat("ok", key=key).status_code == 404


# --- callers with Azure's client --------------------------------------------------------------------------------------


def azure_client(door: Door, key: Key | None = None, **options: object) -> openai.AzureOpenAI:
    options = {"azure_endpoint": door.server.url, **options}
    return openai.AzureOpenAI(
        api_key=(key or door.key).secret, api_version="2024-10-21", max_retries=0, **options
    )


@pytest.fixture
def azure(door: Door) -> Iterator[openai.AzureOpenAI]:
    with azure_client(door) as client:
        yield client


def test_azures_client_does_not_notice(door: Door, azure: openai.AzureOpenAI) -> None:
    embedding = door.new_model("az-sdk-embed", door.provider_id, "ok", capability="embedding")
    whole = azure.chat.completions.create(model="oracle/ok", messages=PROMPT)
    assert (whole.choices[0].message.content, whole.usage.total_tokens) == (TEXT, 9)
    stream = azure.chat.completions.create(model="oracle/ok", messages=PROMPT, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == TEXT
    legacy = azure.completions.create(model="oracle/ok", prompt="say something")
    assert legacy.choices[0].text == TEXT
    assert azure.embeddings.create(model=embedding, input="a").data[0].embedding
    assert embedding in {model.id for model in azure.models.list()}


def test_a_client_of_one_deployment_calls_that_whatever_the_body_says(door: Door) -> None:
    name = door.new_model("az-fixed", door.provider_id, "ok")
    headers = {"x-request-id": "az-fixed-deployment-1"}
    with azure_client(door, azure_deployment=name) as client:
        answer = client.chat.completions.create(
            model="another", messages=PROMPT, extra_headers=headers
        )
    assert answer.choices[0].message.content == TEXT
    row = door.row("az-fixed-deployment-1")
    assert (row["model"], row["target"], row["status"]) == ("az-fixed", "ok", 200)


@pytest.mark.parametrize("query", ["", "?api-version=2023-05-15", "?api-version=%ff&x=1"])
@pytest.mark.parametrize("body", [{}, {"model": "oracle/none"}, {"model": None}, {"model": 5}])
def test_the_path_alone_names_the_model(door: Door, query: str, body: Json) -> None:
    path = f"/openai/deployments/oracle/ok{CHAT}{query}"
    answer = door.post(path, {**body, "messages": PROMPT})
    assert answer.status_code == 200, answer.text
    assert door.upstream_call(answer).json == {"model": "ok", "messages": PROMPT}
    assert door.row(answer)["model"] == "oracle/ok"


def test_the_credential_may_stand_in_azures_header(door: Door) -> None:
    path = f"/openai/deployments/oracle/ok{CHAT}"
    content = json.dumps({"messages": PROMPT}).encode()

    def ask(**headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["content-type"] = "application/json"
        return door.client.post(path, content=content, headers=sent).status_code

    assert ask(api_key=door.key.secret) == 200
    assert ask(api_key=door.key.secret, authorization="Bearer another") == 401
    assert ask() == 401


def test_errors_are_the_classes_that_azures_client_has_for_them(door: Door) -> None:
    narrow = door.new_key(allowed_models=["free/*"])

    def ask(client: openai.AzureOpenAI, model: str) -> object:
        return client.chat.completions.create(model=model, messages=PROMPT)

    with azure_client(door) as client:
        with pytest.raises(openai.NotFoundError) as absent:
            ask(client, "no-such-model")
        assert (absent.value.code, absent.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.RateLimitError):
            ask(client, "oracle/status:429")
        with pytest.raises(openai.BadRequestError) as bad:
            client.chat.completions.create(model="oracle/ok", messages=[])
        assert bad.value.param == "messages"
        with pytest.raises(openai.APIError, match="did not give a complete answer"):
            list(client.chat.completions.create(model="oracle/cut:2", messages=PROMPT, stream=True))
    with azure_client(door, narrow) as client, pytest.raises(openai.PermissionDeniedError):
        ask(client, "oracle/ok")
    wrong = Key("", "", door.key.secret[:-1] + "A")
    with azure_client(door, wrong) as client, pytest.raises(openai.AuthenticationError):
        ask(client, "oracle/ok")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/openai/deployments/{'m' * 257}{CHAT}", 400),
        (f"/openai/deployments/a%00b{CHAT}", 400),
        (f"/openai/deployments/none{CHAT}", 404),
        (f"/openai/deployments/{CHAT}", 404),
        (f"/openai/deployments{CHAT}", 404),
        ("/openai/deployments/oracle/ok", 404),
        ("/openai/deployments/oracle/ok/images/generations", 404),
    ],
)
def test_a_deployment_that_is_none_is_refused(door: Door, path: str, status: int) -> None:
    answer = door.post(path, {"messages": PROMPT})
    assert (answer.status_code, set(answer.json())) == (status, {"error"})


# --- Ollama, by a server that is one in all but name ------------------------------------------------------------------


@pytest.mark.llama
def test_a_server_behind_kind_ollama_is_tested_imported_and_called(
    door: Door, llama: Llama
) -> None:
    """llama.cpp speaks the OpenAI door that Ollama has; the address is given as people have it, without `/v1`."""
    fields = {"kind": "ollama", "base_url": llama.api.removesuffix("/v1"), "name": "local"}
    provider = door.admin.call("POST", "providers", fields)
    assert provider["has_api_key"] is False
    tested = door.admin.call("POST", f"providers/{provider['id']}/test", {})
    assert (tested["ok"], tested["status"], tested["models"]) == (True, 200, [llama.model])
    taken = door.change("POST", f"providers/{provider['id']}/import-models", {})
    assert f"local/{llama.model}" in taken["added"]
    answer = door.chat(f"local/{llama.model}", max_tokens=4)
    assert answer.status_code == 200, answer.text
    row = eventually(lambda: door.row(answer))
    assert (row["tokens_out"], row["usage_source"]) == (4, "provider")
