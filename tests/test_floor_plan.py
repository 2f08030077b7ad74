"""The rooms and floors of docs/architecture.md, checked by reading every import; and what the product never does."""

from collections.abc import Callable

import pytest

from tests.support import floor_plan
from tests.support.environment import ROOT
from tests.support.floor_plan import Source

PRODUCT = floor_plan.product()

# (file, module): why this import has to wait until the function runs.
LATE_IMPORTS = {
    **dict.fromkeys(
        [("gateway/apps.py", "gateway"), ("gateway/apps.py", "tenants")],
        "what needs models can only be imported once all apps are loaded",
    ),
}

STANDS = {
    *("manage.py", "pyproject.toml", "gateway", "tenants", "keys", "providers", "usage"),
    *("templates", "static", "tests"),
}
MAY_STAND = STANDS | {
    *("Dockerfile", "Makefile", "bench", "docs", "deploy"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"),
    *("requirements.lock", "requirements-dev.lock"),
    *(".ci", ".git", ".gitignore", ".gitattributes", ".github", ".dockerignore", ".editorconfig"),
}
NEVER_COMMITTED = {
    *(".venv", ".venv-peers", "compiled", "var", "static-built", "__pycache__"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"),
}


def faults(rule: Callable[[Source], list[str]]) -> list[str]:
    return [fault for source in PRODUCT for fault in rule(source)]


def test_imports_point_down():
    assert faults(floor_plan.upward_imports) == []


def test_imports_stand_at_module_level():
    assert faults(lambda source: floor_plan.hidden_imports(source, LATE_IMPORTS)) == []


def test_every_excuse_for_a_late_import_is_still_needed():
    late = {
        (source.name, item.module) for source in PRODUCT for item in source.imports if item.inside
    }
    assert [
        excuse
        for excuse in LATE_IMPORTS
        if not any(file == excuse[0] and module.startswith(excuse[1]) for file, module in late)
    ] == []


def test_the_cellar_is_pure():
    assert faults(floor_plan.impurities) == []


def test_the_cellar_is_there():
    assert [pattern for pattern in floor_plan.CELLAR[:5] if not list(ROOT.glob(pattern))] == []


def test_foreign_keys_point_down():
    assert faults(floor_plan.upward_keys) == []


def test_what_was_used_points_to_nothing():
    assert [
        where
        for source in PRODUCT
        if source.name == "usage/models.py"
        for where in floor_plan.relations(source)
    ] == []


def test_only_the_settings_read_the_environment():
    assert faults(floor_plan.environment_readers) == []


def test_nothing_banned_is_used():
    assert faults(floor_plan.banned) == []


def test_nothing_is_called_utils_or_stands_beside_its_old_self():
    assert faults(floor_plan.bad_names) == []


def test_the_top_level_holds_exactly_what_the_architecture_names():
    here = {path.name for path in ROOT.iterdir()}
    assert here - MAY_STAND - NEVER_COMMITTED == set()
    assert STANDS - here == set()


@pytest.mark.parametrize(
    ("rule", "file", "text"),
    [
        (floor_plan.upward_imports, "tenants/x.py", "from keys.models import APIKey"),
        (floor_plan.upward_imports, "keys/x.py", "import providers.routing"),
        (floor_plan.upward_imports, "providers/x.py", "from keys import services"),
        (floor_plan.upward_imports, "usage/x.py", "from gateway import snapshot"),
        (floor_plan.upward_imports, "gateway/x.py", "from tests import cast"),
        (floor_plan.upward_imports, "keys/x.py", "from . import models"),
        (floor_plan.upward_imports, "keys/x.py", "if True:\n    import usage"),
        (floor_plan.impurities, "keys/tokens.py", "from django.conf import settings"),
        (floor_plan.impurities, "providers/dialects/openai.py", "import socket"),
        (floor_plan.impurities, "providers/dialects/openai.py", "from urllib import request"),
        (floor_plan.impurities, "usage/money.py", "import time"),
        (floor_plan.impurities, "usage/records.py", "from tenants.models import Tenant"),
        (floor_plan.impurities, "usage/money.py", "import datetime\ndatetime.datetime.now()"),
        (
            floor_plan.upward_keys,
            "keys/models.py",
            'f = models.ForeignKey("usage.Hold", on_delete=1)',
        ),
        (
            floor_plan.upward_keys,
            "keys/models.py",
            'f = ForeignKey(to="providers.Model", on_delete=1)',
        ),
        (
            floor_plan.upward_keys,
            "tenants/migrations/0002_x.py",
            'dependencies = [("keys", "0001_initial")]',
        ),
        (floor_plan.environment_readers, "gateway/first_run.py", "import os\nos.environ['X']"),
        (floor_plan.environment_readers, "keys/x.py", "import os\nos.getenv('X')"),
        (floor_plan.environment_readers, "keys/x.py", "from os import environ"),
        (
            floor_plan.environment_readers,
            "gateway/x.py",
            "import os\nos.environ.setdefault('HOST', 'x')",
        ),
        (floor_plan.environment_readers, "keys/x.py", "import environ"),
        (floor_plan.environment_readers, "keys/x.py", "import os\nos.environ['HOST'] = 'x'"),
        (floor_plan.banned, "keys/x.py", "eval('1')"),
        (floor_plan.banned, "keys/x.py", "import pickle"),
        (floor_plan.banned, "keys/x.py", "from subprocess import run"),
        (floor_plan.banned, "keys/x.py", "import os\nos.system('x')"),
        (floor_plan.banned, "keys/x.py", "from django.utils.safestring import mark_safe"),
        (floor_plan.banned, "keys/x.py", "import httpx\nhttpx.get('x', verify=False)"),
        (floor_plan.banned, "keys/x.py", "import ssl\ncontext.verify_mode = ssl.CERT_NONE"),
        (floor_plan.bad_names, "keys/utils.py", ""),
        (floor_plan.bad_names, "keys/utils/x.py", ""),
        (floor_plan.bad_names, "keys/x.py", "def rotate_v2(): ..."),
        (floor_plan.bad_names, "keys/router_v3.py", ""),
    ],
)
def test_each_rule_notices(rule: Callable[[Source], list[str]], file: str, text: str):
    assert rule(Source(file, text))


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import json",
        "class A:\n    def f(self):\n        if self:\n            import json",
        "async def f():\n    try:\n        pass\n    except OSError:\n        import json",
    ],
)
def test_an_import_that_hides_is_noticed(text: str):
    assert floor_plan.hidden_imports(Source("keys/x.py", text), {})
    assert not floor_plan.hidden_imports(
        Source("keys/x.py", text), {("keys/x.py", "json"): "a reason"}
    )


@pytest.mark.parametrize(
    "text",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import json",
        "try:\n    import json\nexcept ImportError:\n    json = None",
    ],
)
def test_an_import_at_module_level_may_be_conditional(text: str):
    assert not floor_plan.hidden_imports(Source("keys/x.py", text), {})


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'gateway.settings')",
        "import os\nos.environ['PROMETHEUS_MULTIPROC_DIR'] = '/tmp'",
    ],
)
def test_what_a_library_can_be_told_in_no_other_way_is_allowed(text: str):
    assert floor_plan.environment_readers(Source("gateway/asgi.py", text)) == []
