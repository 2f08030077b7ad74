"""Reads product code without running it: imports, foreign keys, the environment, and what is banned altogether."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support.environment import ROOT

#: Which rooms each room may import. Nobody imports gateway; keys and providers never import each other.
MAY_IMPORT = {
    "tenants": {"tenants"},
    "keys": {"keys", "tenants"},
    "providers": {"providers", "tenants"},
    "usage": {"usage", "keys", "providers", "tenants"},
    "gateway": {"gateway", "usage", "keys", "providers", "tenants"},
}

#: Pure modules: standard library, cryptography, msgspec, PyYAML and each other.
CELLAR = (
    "keys/tokens.py",
    "keys/grants.py",
    "providers/types.py",
    "providers/request_head.py",
    "providers/dialects/*.py",
    "providers/sse.py",
    "usage/money.py",
    "usage/pricing.py",
    "usage/buckets.py",
    "usage/budget_terms.py",
    "usage/rate_terms.py",
    "usage/hands.py",
    "usage/wants.py",
    "usage/windows.py",
    "usage/parked.py",
    "usage/records.py",
    "usage/calls.py",
    "usage/alike.py",
    "tenants/limits.py",
    "tenants/sealing.py",
    "usage/levels.py",
    "gateway/config_file/yaml_text.py",
)
CELLAR_PACKAGES = {"cryptography", "msgspec", "yaml"}
#: Parts of the standard library that reach out, wait, or tell the time.
NOT_IN_CELLAR = {
    *("asyncio", "concurrent", "http.client", "http.cookiejar", "http.server", "logging"),
    *("multiprocessing", "os.path", "pathlib", "select", "selectors", "signal", "socket"),
    *("socketserver", "sqlite3", "ssl", "subprocess", "threading", "time", "urllib.request"),
}

BANNED_IMPORTS = {
    *("pickle", "marshal", "shelve", "dill", "cloudpickle", "subprocess", "pty", "commands"),
    *("telnetlib", "xml.etree", "xml.dom", "xml.sax", "imp"),
}
BANNED_CALLS = {
    "eval": "runs text",
    "exec": "runs text",
    "__import__": "hides an import",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "yaml.load": "builds any object",
    "mark_safe": "ends escaping",
    "django.utils.safestring.mark_safe": "ends escaping",
    "ssl._create_unverified_context": "trusts anybody",
}
BANNED_NAMES = {"mark_safe", "SafeString", "SafeText", "CERT_NONE"}
BANNED_KEYWORDS = {"verify": False, "shell": True, "check_hostname": False, "verify_ssl": False}
RELATIONS = {"ForeignKey", "OneToOneField", "ManyToManyField"}
SETTINGS_MODULE = "DJANGO_SETTINGS_MODULE"
#: What only the environment tells a library: where the Prometheus client keeps what several processes count.
TOLD = {"PROMETHEUS_MULTIPROC_DIR"}


@dataclass(frozen=True)
class Import:
    """`module` is what stands behind `import` or `from`, with what is taken if that is itself a module of ours."""

    module: str
    line: int
    inside: str | None
    """The function in which it stands; None at module level."""

    @property
    def room(self) -> str:
        return self.module.partition(".")[0]


class Source:
    """One file of product code."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.tree = ast.parse(text)

    @classmethod
    def read(cls, path: Path) -> "Source":
        return cls(path.relative_to(ROOT).as_posix(), path.read_text())

    @property
    def room(self) -> str:
        return self.name.partition("/")[0]

    @property
    def is_cellar(self) -> bool:
        return any(Path(self.name).match(pattern) for pattern in CELLAR)

    def at(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 0)}"

    @cached_property
    def imports(self) -> list[Import]:
        return list(_imports(self.tree.body, None))

    def calls(self) -> Iterator[ast.Call]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))


def product() -> list[Source]:
    """Every Python file of the product, tests and bench aside."""
    files = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))
    return [Source.read(path) for path in [ROOT / "manage.py", *files]]


def _imports(body: list[ast.stmt], inside: str | None) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (
                Import(f"{module}.{alias.name}", node.lineno, inside) for alias in node.names
            )
        else:
            name = inside
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{inside}.{node.name}" if inside else node.name
            yield from _imports(_statements(node), name)


def _statements(node: ast.stmt) -> list[ast.stmt]:
    """The statements directly inside a compound one (a function, a class, `if`, `try`, `with`, `match` …)."""
    found = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            found.append(child)
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            found.extend(child.body)
    return found


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (front := dotted(node.value)):
        return f"{front}.{node.attr}"
    return ""


# The rules. Each gives sentences; none is a fault.


def upward_imports(source: Source) -> list[str]:
    allowed = MAY_IMPORT.get(source.room)
    if allowed is None:
        return []
    foreign = set(MAY_IMPORT) | {"tests", "bench"}
    return [
        f"{source.name}:{found.line} {source.room} imports {found.module}"
        for found in source.imports
        if found.module.startswith(".")
        or (found.room in foreign and found.room not in allowed and not is_in_cellar(found.module))
    ]


def is_in_cellar(module: str) -> bool:
    """Whether a dotted name is of a cellar module, which lies below every floor: all may import it."""
    files = [Path(*front.split(".")).with_suffix(".py") for front in _fronts(module)]
    return any(file.match(pattern) for file in files for pattern in CELLAR)


def hidden_imports(source: Source, allowed: dict[tuple[str, str], str]) -> list[str]:
    """Imports inside functions that are not in the list of (file, module) with their reasons."""
    return [
        f"{source.name}:{found.line} imports {found.module} inside {found.inside}()"
        for found in source.imports
        if found.inside
        and not any((source.name, part) in allowed for part in _fronts(found.module))
    ]


def _fronts(module: str) -> list[str]:
    """`a`, `a.b`, `a.b.c`."""
    parts = module.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def impurities(source: Source) -> list[str]:
    """What a cellar module must not do: import anything that does I/O, waits or tells the time, or ask for the time."""
    if not source.is_cellar:
        return []
    found = [
        f"{source.name}:{item.line} imports {item.module}"
        for item in source.imports
        if not _may_enter_cellar(item)
    ]
    clocks = {"now", "utcnow", "today"}
    return found + [
        f"{source.at(call)} asks a clock: {dotted(call.func)}()"
        for call in source.calls()
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in clocks
        and dotted(call.func).split(".")[0] in {"datetime", "date", "dt", "timezone"}
    ]


def _may_enter_cellar(item: Import) -> bool:
    fronts = _fronts(item.module)
    if item.room in MAY_IMPORT:
        files = {f"{front.replace('.', '/')}.py" for front in fronts}
        package = f"{item.module.replace('.', '/')}/__init__.py"
        return any(Path(file).match(pattern) for file in {*files, package} for pattern in CELLAR)
    if any(front in NOT_IN_CELLAR for front in fronts):
        return False
    return item.room in sys.stdlib_module_names or item.room in CELLAR_PACKAGES


def upward_keys(source: Source) -> list[str]:
    """Foreign keys named by text (`"keys.APIKey"`), and migrations that depend upwards."""
    allowed = MAY_IMPORT.get(source.room, set())
    found = []
    for call in source.calls():
        if dotted(call.func).rpartition(".")[2] in RELATIONS:
            target = (
                call.args[0]
                if call.args
                else next((k.value for k in call.keywords if k.arg == "to"), None)
            )
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                room = target.value.lower().rpartition(".")[0]
                if room in MAY_IMPORT and room not in allowed:
                    found.append(f"{source.at(call)} has a foreign key to {target.value}")
    return found + [
        f"{source.name} depends on the migrations of {room}"
        for room in _dependencies(source) - allowed
    ]


def _dependencies(source: Source) -> set[str]:
    if "/migrations/" not in source.name:
        return set()
    return {
        str(pair.elts[0].value)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assign) and dotted(node.targets[0]) == "dependencies"
        for pair in ast.walk(node.value)
        if isinstance(pair, ast.Tuple)
        and isinstance(pair.elts[0], ast.Constant)
        and pair.elts[0].value in MAY_IMPORT
    }


def relations(source: Source) -> list[str]:
    """Every field that points to another table."""
    return [
        source.at(call)
        for call in source.calls()
        if dotted(call.func).rpartition(".")[2] in RELATIONS
    ]


def environment_readers(source: Source) -> list[str]:
    """Uses of the process's environment. None: naming Django's settings module at a start, telling a library that can be
    told in no other way, or what must be known before the settings are imported.
    """
    if source.name in ("gateway/settings.py", "gateway/compiled.py"):
        return []
    starts = {
        id(call.func.value)
        for call in source.calls()
        if isinstance(call.func, ast.Attribute)
        and dotted(call.func) == "os.environ.setdefault"
        and isinstance(call.args[0], ast.Constant)
        and call.args[0].value == SETTINGS_MODULE
    }
    starts |= {
        id(target.value)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Subscript)
        and isinstance(target.slice, ast.Constant)
        and target.slice.value in TOLD
    }
    readers = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv"}
    found = [
        f"{source.at(node)} uses {dotted(node)}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and dotted(node) in readers and id(node) not in starts
    ]
    return found + [
        f"{source.name}:{item.line} imports {item.module}"
        for item in source.imports
        if item.room == "environ" or item.module in readers
    ]


def banned(source: Source) -> list[str]:
    """Ways to run text, build any object, open a shell, end escaping or trust anybody."""
    found = [
        f"{source.name}:{item.line} imports {item.module}"
        for item in source.imports
        if any(front in BANNED_IMPORTS for front in _fronts(item.module))
        or item.module.rpartition(".")[2] in BANNED_NAMES
    ]
    found += [
        f"{source.at(node)} uses {dotted(node)}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr in BANNED_NAMES
    ]
    for call in source.calls():
        if reason := BANNED_CALLS.get(dotted(call.func)):
            found.append(f"{source.at(call)} calls {dotted(call.func)}, which {reason}")
        found += [
            f"{source.at(call)} passes {keyword.arg}={keyword.value.value}"
            for keyword in call.keywords
            if keyword.arg in BANNED_KEYWORDS
            and isinstance(keyword.value, ast.Constant)
            and keyword.value.value is BANNED_KEYWORDS[keyword.arg]
        ]
    return found


def bad_names(source: Source) -> list[str]:
    """Modules called utils, and anything that stands beside its own old version."""
    parts = Path(source.name).with_suffix("").parts
    named = [
        (source.at(node), node.name)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    found = [
        f"{source.name} is called {part}" for part in parts if part in {"utils", "util", "misc"}
    ]
    suffixed = [(source.name, part) for part in parts if re.search(r"_(?:old|new)$", part)]
    # `_v4` and `_v6` are kinds of addresses.
    versioned = [
        pair
        for pair in [*((source.name, part) for part in parts), *named]
        if _VERSION.search(pair[1])
    ]
    return found + [f"{where} is called {name}" for where, name in [*suffixed, *versioned]]


_VERSION = re.compile(r"_v(?![46]$)\d+$", re.IGNORECASE)
