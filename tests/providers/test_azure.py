"""Azure's addresses and headers, and what the accounts behind them may say of themselves."""

from dataclasses import dataclass
from typing import Any

import pytest

from providers.dialects import azure, dialect, openai
from providers.dialects.azure import DEFAULT_API_VERSION
from providers.dialects.body import UnusableCredential
from providers.models import Provider
from providers.presets import PRESETS
from providers.services import create_provider, set_provider_config, update_provider
from tenants.actor import system_actor
from tenants.errors import Invalid
from tenants.sealing import Secret
from tenants.services import create_tenant

ACTOR = system_actor("test")
RESOURCE = "https://93.184.215.14"


@dataclass(frozen=True)
class Account:
    path: str = ""
    deployment: str = ""
    api_version: str = ""


# --- the wire ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "last"),
    [
        ("chat", "chat/completions"),
        ("completion", "completions"),
        ("embedding", "embeddings"),
    ],
)
def test_each_operation_has_its_address_under_the_deployment(operation: str, last: str) -> None:
    path = azure.request_path(Account(), operation, "my-gpt")
    assert path.decode() == f"/openai/deployments/my-gpt/{last}?api-version={DEFAULT_API_VERSION}"


@pytest.mark.parametrize(
    ("path", "chat", "models"),
    [
        (
            "",
            "/openai/deployments/d/chat/completions?api-version=V",
            "/openai/models?api-version=V",
        ),
        (
            "/openai",
            "/openai/deployments/d/chat/completions?api-version=V",
            "/openai/models?api-version=V",
        ),
        (
            "/behind/a/gateway/openai",
            "/behind/a/gateway/openai/deployments/d/chat/completions?api-version=V",
            "/behind/a/gateway/openai/models?api-version=V",
        ),
        (
            "/openai-eu",
            "/openai-eu/openai/deployments/d/chat/completions?api-version=V",
            "/openai-eu/openai/models?api-version=V",
        ),
        (
            "/openai/deployments/fixed",
            "/openai/deployments/fixed/chat/completions?api-version=V",
            "/openai/models?api-version=V",
        ),
        (
            "/openai/v1",
            "/openai/v1/chat/completions?api-version=V",
            "/openai/v1/models?api-version=V",
        ),
    ],
)
def test_an_address_may_end_where_people_end_it(path: str, chat: str, models: str) -> None:
    account = Account(path, api_version="V")
    assert azure.request_path(account, "chat", "d").decode() == chat
    assert azure.models_path(account).decode() == models


def test_the_undated_api_needs_no_version_and_gets_none() -> None:
    account = Account("/openai/v1")
    assert azure.request_path(account, "chat", "d") == b"/openai/v1/chat/completions"
    assert azure.models_path(account) == b"/openai/v1/models"


def test_no_name_of_a_model_leaves_its_place_in_the_address() -> None:
    path = azure.request_path(Account(), "chat", "../a/b?api-version=x#\r\n ü")
    before, _, behind = path.decode().partition("/deployments/")
    name, _, rest = behind.partition("/")
    assert (before, rest) == ("/openai", f"chat/completions?api-version={DEFAULT_API_VERSION}")
    assert name == "..%2Fa%2Fb%3Fapi-version%3Dx%23%0D%0A%20%C3%BC"


def test_the_credential_travels_in_azures_header_and_in_no_other() -> None:
    headers = azure.headers(Secret(b"azure-secret"), [(b"accept", b"*/*")])
    assert (b"api-key", b"azure-secret") in headers
    assert [name for name, value in headers if b"azure-secret" in value] == [b"api-key"]
    others = [pair for pair in headers if pair[0] != b"api-key"]
    assert others == openai.headers(None, [(b"accept", b"*/*")])
    with pytest.raises(UnusableCredential):
        azure.headers(Secret(b"a\r\nb"), [])


# --- its accounts -----------------------------------------------------------------------------------------------------


def azure_account(**fields: Any) -> Provider:
    given: dict[str, Any] = {"name": "az", "kind": "azure", "base_url": RESOURCE, **fields}
    return create_provider(actor=ACTOR, **given)


@pytest.mark.django_db
def test_an_account_may_be_one_deployment_with_a_version_of_its_own() -> None:
    made = azure_account(deployment="my-gpt_4.1", api_version="2025-04-01-preview")
    made.refresh_from_db()
    assert (made.deployment, made.api_version) == ("my-gpt_4.1", "2025-04-01-preview")
    update_provider(actor=ACTOR, provider_id=made.id, deployment=None)
    made.refresh_from_db()
    assert (made.deployment, made.api_version) == ("", "2025-04-01-preview")


@pytest.mark.django_db
def test_an_account_needs_to_say_where_it_is() -> None:
    with pytest.raises(Invalid) as refusal:
        azure_account(base_url=None)
    assert list(refusal.value.fields) == ["base_url"]


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["deployment", "api_version"])
@pytest.mark.parametrize(
    "value", ["a/b", "a b", "?x=1", "-a", "a-", "ü", "a\n", "a" * 65, 5, True, ["a"]]
)
def test_a_deployment_or_version_that_could_not_stand_in_an_address_is_refused(
    field: str, value: object
) -> None:
    with pytest.raises(Invalid) as refusal:
        azure_account(**{field: value})
    assert list(refusal.value.fields) == [field]
    assert not Provider.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["deployment", "api_version"])
def test_a_kind_that_has_no_such_field_says_so(field: str) -> None:
    tenant = create_tenant(actor=ACTOR, name="Acme", slug="acme")
    plain = create_provider(actor=ACTOR, name="plain", kind="openai")
    given: dict[str, Any] = {field: "d"}
    for refused in (
        lambda: create_provider(actor=ACTOR, name="x", kind="ollama", **given),
        lambda: update_provider(actor=ACTOR, provider_id=plain.id, **given),
        lambda: set_provider_config(actor=ACTOR, tenant_id=tenant.id, provider="openai", **given),
    ):
        with pytest.raises(Invalid, match="is for providers of kind azure only") as refusal:
            refused()
        assert list(refusal.value.fields) == [field]
    update_provider(actor=ACTOR, provider_id=plain.id, **{field: None})


def test_only_those_kinds_have_the_fields_whose_dialect_acts_on_them() -> None:
    having = {kind for kind, known in PRESETS.items() if dialect(known.dialect).FIELDS}
    assert having == {"azure"}
