"""The relay's own code, compiled, where that was done of exactly these sources.

`make compile` (deploy/build/compile.py) has mypyc translate `MODULES` into extension modules, and what comes of it lies in
`compiled/`. The sources stay what is read and tested and, without that folder, run: compiled code does the same in some 70 %
of the time, because a call of a function or a look at an attribute costs next to nothing there. It is for servers; whoever
changes a line goes on with the sources, for a build of other sources is not used.

What mypyc asks of a module that is compiled: everything typed; no `msgspec.Struct` and no class of a library as a base; no weak
references to its objects; class attributes that are assigned to are `ClassVar`s; no `await` inside of a `try`, after
which an exception can come again that was over (mypyc 2.4.1, where a `finally` awaits; found by the parity suite in httpx's
errand); and no attribute that is looked at, changed by a method and looked at again in one function, for mypy thinks it knows it.
`tests/deploy/test_compiling.py` looks after these.

No module outside may inherit from a class in `MODULES` without `mypyc_attr` there, or replace what one of them has imported.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from sysconfig import get_config_var
from types import ModuleType
from typing import Final, Literal

FOLDER: Final = "compiled"
#: What the hot path runs through, and nothing else.
MODULES: Final = (
    *("gateway.edge.call", "gateway.edge.connection", "gateway.edge.familiar"),
    *("gateway.edge.heads", "gateway.edge.reader"),
    *("gateway.relay.answers", "gateway.relay.asking", "gateway.relay.carrier"),
    *("gateway.relay.claims", "gateway.relay.content", "gateway.relay.cooling"),
    *("gateway.relay.dispatch", "gateway.relay.errors"),
    *("gateway.relay.exchange", "gateway.relay.explain", "gateway.relay.ids"),
    *("gateway.relay.lanes", "gateway.relay.letters", "gateway.relay.limiting"),
    *("gateway.relay.once", "gateway.relay.ordering"),
    *("gateway.relay.reasons", "gateway.relay.relay", "gateway.relay.silent"),
    *("gateway.relay.stopwatch", "gateway.relay.unheard", "gateway.relay.using"),
    *("gateway.snapshot", "providers.call", "providers.connection", "providers.http1"),
    *("providers.request_head", "providers.sse"),
    *("providers.dialects.azure", "providers.dialects.base", "providers.dialects.body"),
    *("providers.dialects.openai", "providers.dialects.openai_streams"),
    *("providers.dialects.openai_usage", "providers.dialects.outgoing"),
    *("providers.dialects.scrub", "tenants.clock", "usage.hands", "usage.journal"),
    *("usage.lease_budgets", "usage.lease_rates", "usage.leases", "usage.money"),
    *("usage.pricing", "usage.segments"),
)
_PACKAGES: Final = ("gateway", "keys", "providers", "tenants", "usage")
_MARK: Final = "SOURCES"
_SWITCH: Final = "GATEHOUSE_COMPILED"
_ON: Final = ("on", "true", "yes", "y", "ok", "1")

#: `stale`: there is a build, of other sources or for another Python.
Found = Literal["missing", "stale", "ready"]
_ROOT: Final = Path(__file__).resolve().parent.parent


def use() -> None:
    """From now on modules are imported from `compiled/`, if a build of these sources is there and GATEHOUSE_COMPILED is not off.

    To be called before any of them is imported, and so before the settings, which import some.
    """
    if os.environ.get(_SWITCH, "on").lower() in _ON and look() == "ready":
        sys.meta_path.insert(0, _Finder(_ROOT / FOLDER))


def is_used() -> bool:
    """By this process."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def look(root: Path = _ROOT) -> Found:
    """What `root`/compiled is good for."""
    try:
        made_of = (root / FOLDER / _MARK).read_text()
    except OSError:
        return "missing"
    return "ready" if made_of == _fingerprint(root) else "stale"


def mark(folder: Path, root: Path = _ROOT) -> None:
    """Say in `folder` what it was made of."""
    (folder / _MARK).write_text(_fingerprint(root))


def _fingerprint(root: Path) -> str:
    """Of all sources, for a module's meaning depends on what it imports, and of the Python that it is made for."""
    digest = hashlib.sha256(_suffix().encode())
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"\0{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _suffix() -> str:
    return str(get_config_var("EXT_SUFFIX"))


class _Finder(MetaPathFinder):
    def __init__(self, folder: Path) -> None:
        self._files = {
            ".".join(path.relative_to(folder).parts).removesuffix(_suffix()): str(path)
            for path in folder.rglob(f"*{_suffix()}")
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        if file is None:
            return None
        loader = ExtensionFileLoader(fullname, file)
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)
