"""The views answer what the table of endpoints has, and nothing else that is a call."""

from itertools import product

import pytest
from django.test import AsyncClient
from django.urls import Resolver404, resolve

from gateway.relay import endpoints
from gateway.views.base import CallView
from gateway.views.urls import urlpatterns

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
NAMES = ("gpt", "a/b", "a b", "line\r\nend", "..", "é", "a/chat/completions")
PATHS = sorted(
    {
        f"{base}{path}"
        for base, path in product(
            endpoints.BASES, ("/chat/completions", "/completions", "/embeddings", "/models")
        )
    }
    | {f"{base}/models/{name}" for base, name in product(endpoints.BASES, NAMES)}
    | {
        f"{endpoints.DEPLOYMENTS}{name}{path}"
        for name, path in product(
            NAMES, ("/chat/completions", "/completions", "/embeddings", "/models", "")
        )
    }
    | {
        "/v1",
        "/v1/",
        "/v1/models/",
        "/v1/chat",
        "/v1/chat/completions/",
        "/v1//models",
        "/v1/Models",
        "/v1/key",
        "/v1/traces",
        "/docs",
    }
)


def methods_of(path: str) -> set[str]:
    """The methods of the call that a path is to Django; none if it is no call."""
    try:
        view = getattr(resolve(path).func, "cls", None)
    except Resolver404:
        return set()
    if view is None or not issubclass(view, CallView):
        return set()
    return {
        method
        for method in METHODS
        if hasattr(view, method.lower()) and method.lower() in view.http_method_names
    }


@pytest.mark.parametrize("path", PATHS, ids=map(ascii, PATHS))
def test_a_path_is_a_call_to_django_as_it_is_to_the_table(path: str) -> None:
    in_table = {method for method in METHODS if endpoints.find(method, path) is not None}
    assert methods_of(path) == in_table


def test_the_paths_above_reach_every_route() -> None:
    reached = {resolve(path).func for path in PATHS if methods_of(path)}
    views = {it.callback: getattr(it.callback, "cls", None) for it in urlpatterns}
    assert reached == {
        found for found, view in views.items() if view and issubclass(view, CallView)
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models/x"])
async def test_a_view_without_a_relay_behind_it_says_that_it_is_not_ready(path: str) -> None:
    """As before a worker has started, or under a server that never starts one."""
    client = AsyncClient()
    answer = await (
        client.post(path, b"{}", content_type="application/json")
        if "chat" in path
        else client.get(path)
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert answer.headers["retry-after"] == "1"
