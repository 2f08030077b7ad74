"""Azure OpenAI: OpenAI's bodies behind an address, a version and a header of its own. Pure.

- `POST {endpoint}/openai/deployments/{deployment}/chat/completions?api-version=…`, the credential in `api-key`. A deployment
  is the name that the resource's owner gave to a model of theirs: https://learn.microsoft.com/azure/ai-services/openai/reference
- `GET {endpoint}/openai/models?api-version=…` lists the models that a resource could deploy, and no key opens a list of what
  it has deployed: https://learn.microsoft.com/rest/api/azureopenai/models/list?view=rest-azureopenai-2024-10-21
- under `{endpoint}/openai/v1` OpenAI's own paths stand, without a dated version and with the deployment as `model`:
  https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle

An address may end before `/openai`, with it, with `/openai/v1` or with `/openai/deployments/{deployment}`.
"""

import re
from typing import Final
from urllib.parse import quote

from providers.dialects.base import Account
from providers.dialects.openai import (
    OPERATIONS,
    StreamReader,
    clean_error,
    clean_stream_error,
    error_body,
    estimate_output_of,
    model_entry,
    models_list,
    read_answer,
    read_request,
    stream_error,
    write_request,
)
from providers.dialects.outgoing import credential_header, request_headers
from providers.types import Headers
from tenants.sealing import Secret

__all__ = [
    "DEFAULT_API_VERSION",
    "FIELDS",
    "LISTS_WHAT_IT_SERVES",
    "NAME",
    "StreamReader",
    "clean_error",
    "clean_stream_error",
    "credential",
    "error_body",
    "estimate_output_of",
    "headers",
    "model_entry",
    "models_list",
    "models_path",
    "read_answer",
    "read_request",
    "request_path",
    "stream_error",
    "write_request",
]

NAME = "azure"
FIELDS: frozenset[str] = frozenset({"deployment", "api_version"})
LISTS_WHAT_IT_SERVES = False

#: The newest dated version that is no preview; the first such one that tells a stream's usage, by which we charge.
DEFAULT_API_VERSION: Final = "2024-10-21"
_UNDATED: Final = "/v1"
_ADDRESS: Final = re.compile(r"(?P<root>.*?)(?:/openai(?P<rest>/v1|/deployments/[^/]+)?)?")


def request_path(account: Account, operation: str, model: str) -> bytes:
    """The request target for one of OpenAI's `OPERATIONS`, with `model` as the deployment."""
    root, rest = _parts(account)
    if rest == _UNDATED:
        before, version = rest, _version(account, "")
    else:
        before, version = rest or f"/deployments/{quote(model, safe='')}", _version(account)
    return f"{root}/openai{before}".encode() + OPERATIONS[operation] + version


def models_path(account: Account) -> bytes:
    """The request target of the list of base models: it tells whether address, version and key are right."""
    root, rest = _parts(account)
    if rest == _UNDATED:
        return f"{root}/openai{rest}/models".encode() + _version(account, "")
    return f"{root}/openai/models".encode() + _version(account)


def credential(api_key: Secret) -> Headers:
    """Raises UnusableCredential."""
    return [credential_header(b"api-key", api_key)]


def headers(api_key: Secret | None, forwarded: Headers) -> Headers:
    """The headers of a request upstream. Raises UnusableCredential."""
    return request_headers(credential(api_key) if api_key else [], forwarded)


def _parts(account: Account) -> tuple[str, str]:
    """The address's path before and behind `/openai`."""
    found = _ADDRESS.fullmatch(account.path)
    return (found["root"], found["rest"] or "") if found else (account.path, "")


def _version(account: Account, default: str = DEFAULT_API_VERSION) -> bytes:
    version = account.api_version or default
    return f"?api-version={version}".encode() if version else b""
