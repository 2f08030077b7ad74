"""docs/configuration.md names every variable that the settings read, with its default, and no other."""

import ast
import re
from typing import Any, NamedTuple

import pytest

from gateway import compiled, first_run
from providers.presets import PRESETS
from tests.support.environment import ROOT

DOCUMENT = (ROOT / "docs/configuration.md").read_text()
SETTINGS = ast.parse((ROOT / "gateway/settings.py").read_text())
#: A default that is worked out when the process starts: the document says it in words.
WORKED_OUT = object()


class Read(NamedTuple):
    """One variable that the settings read."""

    name: str
    default: Any


# --- what the settings read -------------------------------------------------------------------------------------------


def reads() -> list[Read]:
    """Every `env.x("NAME", default=…)` and every `reader("NAME", …)` that ends in one, also with names made by a loop.

    One is read before there are settings.
    """
    found = [Read(compiled._SWITCH, default=True)]
    for call in reading_calls():
        name = call.args[0]
        if isinstance(name, ast.Constant):
            found.append(Read(str(name.value), default_of(call)))
        elif isinstance(name, ast.JoinedStr):
            found += from_loop(call)
        else:
            assert isinstance(name, ast.Name), ast.unparse(call)
            assert is_handed_on(call), f"{ast.unparse(call)}: which variable is that?"
    return found


def is_env(call: ast.Call) -> bool:
    return (
        isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "env"
        and call.func.attr not in {"read_env", "db_url_config"}
    )


def calls_in(node: ast.AST) -> list[ast.Call]:
    return [part for part in ast.walk(node) if isinstance(part, ast.Call) and part.args]


def find_readers() -> dict[str, ast.FunctionDef]:
    """Functions that read the variable which their first parameter names, be it through one another."""
    found: dict[str, ast.FunctionDef] = {}
    functions = [node for node in ast.walk(SETTINGS) if isinstance(node, ast.FunctionDef)]
    for _ in functions:
        for function in functions:
            if any(passes_on(function, call, found) for call in calls_in(function)):
                found[function.name] = function
    return found


def passes_on(function: ast.FunctionDef, call: ast.Call, known: dict[str, ast.FunctionDef]) -> bool:
    first = function.args.args[0].arg if function.args.args else ""
    name = call.args[0]
    reads_it = is_env(call) or (isinstance(call.func, ast.Name) and call.func.id in known)
    return reads_it and isinstance(name, ast.Name) and name.id == first


READERS = find_readers()


def reading_calls() -> list[ast.Call]:
    return [
        call
        for call in calls_in(SETTINGS)
        if is_env(call) or (isinstance(call.func, ast.Name) and call.func.id in READERS)
    ]


def is_handed_on(call: ast.Call) -> bool:
    """Whether it stands in a reader, or in the lambda that gateway/first_run.py is given for names of its own."""
    lambdas = [node for node in ast.walk(SETTINGS) if isinstance(node, ast.Lambda)]
    return any(call in calls_in(place) for place in [*READERS.values(), *lambdas])


def from_loop(call: ast.Call) -> list[Read]:
    """`{name: env.float(f"X_{name.upper()}", default=seconds) for name, seconds in (("connect", 3.0), …)}`."""
    (loop,) = [
        node
        for node in ast.walk(SETTINGS)
        if isinstance(node, ast.DictComp) and call in calls_in(node)
    ]
    assert isinstance(call.args[0], ast.JoinedStr)
    front, rest = call.args[0].values
    assert isinstance(rest, ast.FormattedValue)
    assert ast.unparse(rest.value) == "name.upper()"
    return [
        Read(ast.literal_eval(front) + name.upper(), default)
        for name, default in ast.literal_eval(loop.generators[0].iter)
    ]


def default_of(call: ast.Call) -> Any:
    """What the variable is when nobody sets it, as far as the settings write it down."""
    given = default_given(call)
    if given is not None:
        try:
            return product_of(given)
        except ValueError:
            return WORKED_OUT
    assert isinstance(call.func, ast.Name), f"{ast.unparse(call)} has no default"
    function = READERS[call.func.id]
    parameters = function.args.args
    for parameter, default in zip(
        reversed(parameters), reversed(function.args.defaults), strict=False
    ):
        if parameter.arg == "default":
            return product_of(default)
    return next(
        default_of(inner) for inner in calls_in(function) if passes_on(function, inner, READERS)
    )


def default_given(call: ast.Call) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == "default":
            return keyword.value
    if isinstance(call.func, ast.Name):
        names = [parameter.arg for parameter in READERS[call.func.id].args.args]
        if "default" in names[: len(call.args)]:
            return call.args[names.index("default")]
    return None


def product_of(node: ast.expr) -> Any:
    """A literal, or `32 * 1024 * 1024`. Raises ValueError."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return product_of(node.left) * product_of(node.right)
    return ast.literal_eval(node)


# --- what the document says -------------------------------------------------------------------------------------------


def section(heading: str) -> str:
    """The text below a heading, up to the next one."""
    return DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Cells of the table rows whose first cell is a variable."""
    lines = [line for line in text.splitlines() if re.match(r"\| `[A-Z]", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


FIRST_RUN = {row[0].strip("`") for row in rows(section("First-run providers"))}
DOCUMENTED = {
    row[0].strip("`"): row[1] for row in rows(DOCUMENT) if row[0].strip("`") not in FIRST_RUN
}


def written(default: Any) -> str:
    """A default as the document writes it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    if default in ("", []):
        return "empty"
    if isinstance(default, list):
        return f"`{','.join(default)}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_the_settings_can_be_read_by_this_test():
    names = [read.name for read in reads()]
    assert {"SECRET_KEY", "GATEHOUSE_TIMEOUT_FIRST_BYTE", "TRUSTED_PROXIES", "PORT"} <= set(names)
    assert all(re.fullmatch("[A-Z][A-Z_]+", name) for name in names)


def test_every_variable_is_documented_once_and_no_other():
    read = {read.name for read in reads()}
    assert read - DOCUMENTED.keys() == set(), "read and not documented"
    assert DOCUMENTED.keys() - read == set(), "documented and not read"
    names = [row[0] for row in rows(DOCUMENT)]
    assert [name for name in set(names) if names.count(name) > 1] == []


REQUIRED = {"SECRET_KEY", "GATEHOUSE_KEK"}


@pytest.mark.parametrize("read", reads(), ids=lambda read: read.name)
def test_the_documented_default_is_the_real_one(read: Read):
    told = DOCUMENTED[read.name]
    if read.name in REQUIRED:
        assert told == "– (required)"
    elif read.default is WORKED_OUT:
        assert told not in {"", "empty", "–"}
    else:
        assert told == written(read.default)


def test_every_first_run_variable_is_documented_and_no_other():
    ours = {name for it in PRESETS.values() for name in (it.env_key, it.env_base_url) if name}
    assert ours | {*first_run._OTHER_DIALECTS} == FIRST_RUN


def test_what_is_said_to_be_not_read_yet_is_not_read():
    planned = set(re.findall(r"`([A-Z][A-Z_]+)", section("Planned, and not read yet")))
    assert planned
    assert planned & {read.name for read in reads()} == set()
