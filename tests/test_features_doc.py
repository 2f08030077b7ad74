"""docs/features.md has every capability once, and each has a test that exists, or says that it is open."""

import ast
import re
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.support.environment import ROOT

DOCUMENT = (ROOT / "docs/features.md").read_text()
_ROW = re.compile(r"^- `([A-Z]{1,2})(\d+)` (.*(?:\n  (?!- ).*)*)((?:\n  - .*)*)", re.MULTILINE)
_TEST = re.compile(r"\n  - `(tests/[\w/]+\.py)::(?:(\w+)::)?(\w+)`")
_RANGE = re.compile(r"([A-Z]{1,2})(\d+)(?:–\1(\d+))?")


@dataclass(frozen=True)
class Row:
    """One capability: what is said of it, on one line, and the lines that name its tests."""

    id: str
    text: str
    proof: str

    @property
    def is_open(self) -> bool:
        return " · *open*" in self.text

    @property
    def is_partly(self) -> bool:
        return " · *partly*: " in self.text

    @property
    def tests(self) -> list[tuple[str, str, str]]:
        """(file, class or nothing, function) of each test named."""
        return _TEST.findall(self.proof)


ROWS = [
    Row(found[1] + found[2], " ".join(found[3].split()), found[4])
    for found in _ROW.finditer(DOCUMENT)
]


def ids_of_the_groups() -> list[str]:
    """What the table at the top says there is."""
    table = DOCUMENT.partition("| group | rows |")[2].partition("\n\n")[0]
    found = []
    for line in table.splitlines():
        for letters, first, last in _RANGE.findall(line.rpartition(" | ")[2]):
            found += [f"{letters}{n}" for n in range(int(first), int(last or first) + 1)]
    return found


def test_every_capability_stands_there_once():
    expected = ids_of_the_groups()
    assert len(expected) > 200
    assert Counter(row.id for row in ROWS) == Counter(expected)


def test_every_line_of_the_list_was_read():
    """A slip of the pen must not take a row out of these checks."""
    body = DOCUMENT.partition("\n## ")[2]
    read = sum(1 + len(row.tests) for row in ROWS)
    assert len(re.findall(r"^ *- ", body, re.MULTILINE)) == read


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_has_a_test_or_is_open(row: Row):
    assert len(row.text) > 3
    assert bool(row.tests) != row.is_open
    assert not (row.is_partly and row.is_open)
    if "*partly*" in row.text:
        assert row.is_partly, "it says of what is missing: `*partly*: …`"


def functions_in(path: str) -> set[tuple[str, str]]:
    """(class or nothing, function) of each test in a file."""
    tree = ast.parse((ROOT / path).read_text())
    scopes = [("", tree.body)]
    scopes += [(node.name, node.body) for node in tree.body if isinstance(node, ast.ClassDef)]
    return {
        (name, node.name)
        for name, body in scopes
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_named_test_exists():
    known: dict[str, set[tuple[str, str]]] = {}
    missing = []
    for row in ROWS:
        for path, scope, name in row.tests:
            if path not in known:
                known[path] = functions_in(path) if (ROOT / path).is_file() else set()
            if not name.startswith("test_") or (scope, name) not in known[path]:
                missing.append(f"{row.id}: {path}::{name}")
    assert missing == []


def test_no_row_names_a_test_twice():
    assert [row.id for row in ROWS if len(set(row.tests)) < len(row.tests)] == []
