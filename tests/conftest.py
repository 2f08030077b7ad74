"""What every test may ask for. The cast (tenants, keys, the outsider) is in `tests/cast.py`."""

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock
from uuid import UUID

import hypothesis
import pytest

from tests.support import environment

environment.prepare()

# A busy machine is slow now and then; what has to be fast has a test of its own.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

# Below here Django is set up, so what imports models may be imported.
from django.conf import settings  # noqa: E402
from django.core.management.commands import flush  # noqa: E402
from django.db import connections  # noqa: E402

from gateway import static_files  # noqa: E402
from tenants import audit_triggers, keyring  # noqa: E402
from tenants.keyring import KEYRING  # noqa: E402
from tenants.models import Tenant  # noqa: E402
from tests.support import llama as llama_server  # noqa: E402
from tests.support import services  # noqa: E402
from tests.support.llama import Llama, LlamaUnavailable  # noqa: E402
from tests.support.oracle import Oracle  # noqa: E402
from tests.support.server import Seeds, Server, Yard, end_seeds  # noqa: E402

pytest_plugins = ["tests.cast"] if importlib.util.find_spec("tests.cast") else []

_LONGEST_ID = 24
_DATABASE_FIXTURES = {"db", "transactional_db", "django_db_setup", "yard"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The PostgreSQL run takes what touches a database, and leaves what is marked `sqlite`; the other leaves `postgres`."""
    on_postgres = environment.database() == "postgres"
    kept = [
        item
        for item in items
        if (_runs_on_postgres(item) if on_postgres else not item.get_closest_marker("postgres"))
    ]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    items.sort(key=_places(items).__getitem__)


def _places(items: list[pytest.Item]) -> dict[pytest.Item, tuple[int, bool, Path]]:
    """Workers take whole files: those with the most slow tests come first, then those that start servers, so that no worker has
    a long one left when the others are done.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    serving = {item.path for item in items if "yard" in getattr(item, "fixturenames", ())}
    return {item: (-slow[item.path], item.path not in serving, item.path) for item in items}


def pytest_unconfigure() -> None:
    """Seeds on PostgreSQL end with the process that began them; those of `tests/run.py` do with that."""
    end_seeds()


@pytest.fixture(autouse=True)
def _no_roots_remembered(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that commits leaves roots in memory whose rows are gone: the next one would sign with a key that nobody has.

    A test that is one transaction, and never commits, would read its roots from the tables with every request, as no server
    does: its roots are remembered while it lasts.
    """
    with ExitStack() as stack:
        if _is_one_transaction(request):
            stack.enter_context(mock.patch.object(keyring, "once_committed", _at_once))
        yield
    KEYRING.forget()


def _is_one_transaction(request: pytest.FixtureRequest) -> bool:
    marker = request.node.get_closest_marker("django_db")
    commits = marker is not None and (
        marker.kwargs.get("transaction") or marker.args[:1] == (True,)
    )
    asked = set(request.fixturenames)
    touches = marker is not None or "db" in asked
    return touches and not commits and asked.isdisjoint({"transactional_db", "live_server"})


def _at_once(remember: Callable[[], None]) -> None:
    remember()


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Long values are told by their parameter's name: many are made at random, and every worker must collect the same ids."""
    if isinstance(val, UUID) or (isinstance(val, str | bytes) and len(val) > _LONGEST_ID):
        return argname
    return None


def _runs_on_postgres(item: pytest.Item) -> bool:
    if item.get_closest_marker("sqlite"):
        return False
    touches = item.get_closest_marker("django_db") or item.get_closest_marker("postgres")
    return bool(touches) or not _DATABASE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


# Databases


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """A file of its own (SQLite in WAL, not shared memory) or a database of its own for every worker."""
    settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = environment.database_name()


@pytest.fixture(scope="session", autouse=True)
def _audit_table_can_be_emptied() -> Iterator[None]:
    """Tests with real transactions end with `flush`, which the audit triggers rightly refuse: lift them around it."""
    original = flush.Command.handle

    def handle(command: flush.Command, **options: str) -> str | None:
        connection = connections[options["database"]]
        audit_triggers.remove(connection)
        try:
            return original(command, **options)
        finally:
            audit_triggers.install(connection)
            # What a migration put there belongs to an empty database.
            Tenant.objects.get_or_create(slug="default", defaults={"name": "Default"})

    with mock.patch.object(flush.Command, "handle", handle):
        yield


@pytest.fixture(scope="session", autouse=True)
def _static_files_are_built() -> None:
    """What a server has done at its start; pages name the files by their content."""
    static_files.ensure_built()


# Counterparts


@pytest.fixture
def oracle() -> Iterator[Oracle]:
    """The scripted upstream that knows what really happened."""
    with Oracle() as running:
        yield running


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    """A real llama.cpp server with a tiny random model."""
    try:
        with llama_server.running(tmp_path_factory.mktemp("llama")) as running:
            yield running
    except LlamaUnavailable as reason:
        services.absent(str(reason))


@pytest.fixture
def redis_space() -> Iterator[services.RedisSpace]:
    """A Redis address and a prefix of one's own."""
    services.need_redis()
    with services.redis_space() as space:
        yield space


# The whole server


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    seeds = Seeds(environment.seeds_folder())
    with Yard(tmp_path_factory.mktemp("yard"), seeds).opened() as yard:
        yield yard


@pytest.fixture
def gatehouse(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Server]]:
    """Starts real servers: `gatehouse(workers=2, db="postgres", redis=True, env={…}, seed=True, serve=True)`.

    `db` is the database of this run unless given. A seeded installation has the operator `server.operator` (password
    `yard.operator_password`) and the tenant `default`. At the end every server is stopped, and whatever it leaves behind
    (processes, a listening socket, open holds, journals) fails the test.
    """
    servers: list[Server] = []

    def start(
        *,
        workers: int = 1,
        db: str | None = None,
        redis: bool = False,
        env: dict[str, str] | None = None,
        seed: bool = True,
        serve: bool = True,
    ) -> Server:
        space = request.getfixturevalue("redis_space") if redis else None
        folder = tmp_path / f"gatehouse-{len(servers)}"
        folder.mkdir()
        installation = yard.server(
            folder, kind=db or environment.database(), redis=space, env=env or {}, seed=seed
        )
        server = stack.enter_context(installation)
        servers.append(server)
        server.workers = workers
        if serve:
            server.start()
        return server

    with ExitStack() as stack:
        yield start
        for server in servers:
            server.finish()
