"""The call that somebody pastes first: a curl line for a credential that was just made."""

import json
import shlex
from collections.abc import Callable, Sequence
from uuid import UUID

from django.conf import settings

#: A model that a caller of this tenant can use, if there is one. The roof, which knows the routes, hands it over at start.
SuggestModel = Callable[[UUID, Sequence[str] | None], str | None]
_suggestions: list[SuggestModel] = []


def suggest_models_with(suggest: SuggestModel) -> None:
    _suggestions[:] = [suggest]


def model_for(tenant_id: UUID, allowed: Sequence[str] | None) -> str | None:
    """`allowed` are the model names and prefixes of the key; null means all."""
    for suggest in _suggestions:
        return suggest(tenant_id, allowed)
    return None


def curl(credential: str, tenant_id: UUID, allowed: Sequence[str] | None = None) -> str:
    """One line for a shell: a chat call, or the list of models while there is none to talk to."""
    model = model_for(tenant_id, allowed)
    authorization = shlex.quote(f"Authorization: Bearer {credential}")
    if model is None:
        return f"curl {shlex.quote(settings.PUBLIC_URL + '/v1/models')} -H {authorization}"
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "Hello"}]}, ensure_ascii=False
    )
    url = shlex.quote(settings.PUBLIC_URL + "/v1/chat/completions")
    return (
        f"curl {url} -H {authorization} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
