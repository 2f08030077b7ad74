"""A configuration file in a test: applied by the admin API, which answers as programs see it."""

import textwrap
from typing import Any, Protocol

import pytest

from tests.cast import Api


class Apply(Protocol):
    def __call__(self, text: str, **more: Any) -> dict[str, Any]: ...


@pytest.fixture
def apply(api: Api) -> Apply:
    """Applies a document and gives the answer."""

    def run(text: str, **more: Any) -> dict[str, Any]:
        answer = api.post("config/apply", {"document": textwrap.dedent(text), **more})
        assert answer.status_code == 200, answer.content
        body: dict[str, Any] = answer.json()
        return body

    return run


@pytest.fixture
def plan(api: Api) -> Apply:
    """The same for what it would do."""

    def run(text: str, **more: Any) -> dict[str, Any]:
        answer = api.post("config/plan", {"document": textwrap.dedent(text), **more})
        assert answer.status_code == 200, answer.content
        body: dict[str, Any] = answer.json()
        return body

    return run
