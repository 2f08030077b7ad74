"""What the tests of the roof share."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from gateway import checks, lifecycle
from tenants.keyring import KEYRING
from tests.gateway.door import Door, opened
from tests.support.server import Yard

#: Short enough to wait for, long enough for a busy machine. Twelve MiB, so that ten MB of nonsense are read.
_DOOR = {
    "GATEHOUSE_TIMEOUT_FIRST_BYTE": "1.5",
    "GATEHOUSE_TIMEOUT_BETWEEN_CHUNKS": "1.5",
    "GATEHOUSE_TIMEOUT_BODY_IDLE": "1.5",
    "GATEHOUSE_MAX_BODY": str(12 * 1024 * 1024),
}


@pytest.fixture(scope="session")
def door(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One server for every test that only calls it: what a test changes must be its own."""
    with opened(yard, tmp_path_factory.mktemp("door"), _DOOR) as door:
        yield door


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """Looks and phases of one test are none of the next one's business."""
    yield
    checks.WATCH.forget()
    lifecycle.begin_anew()


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        return json.loads(lines[0])


Manage = Callable[..., Done]


@pytest.fixture
def manage() -> Manage:
    """Runs `manage.py …` in this process, inside this test's transaction."""
    KEYRING.forget()

    def run(*arguments: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        try:
            call_command(*arguments, stdout=out, stderr=err)
        except CommandError as error:
            return Done(error.returncode, out.getvalue(), f"{err.getvalue()}{error}")
        return Done(0, out.getvalue(), err.getvalue())

    return run
