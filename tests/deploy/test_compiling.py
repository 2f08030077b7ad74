"""Compiled code: that mypyc takes what is to be compiled, and that nothing but a build of these sources is ever used.

Whether it does the same as its sources is the business of tests/gateway/test_parity.py, where `make compile` was called.
"""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import compiled
from tests.support import environment
from tests.support.environment import ROOT

pytestmark = pytest.mark.sqlite

SUFFIX = compiled._suffix()
SAYS_HOW_IT_RUNS = """
from gateway import compiled
compiled.use()
from usage import money
print(compiled.is_used(), money.__file__)
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Sources with what passes for a build: an extension module that is really another one's."""
    for package in compiled._PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for name in ("gateway/compiled.py", "usage/money.py"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    folder = tmp_path / compiled.FOLDER
    (folder / "usage").mkdir(parents=True)
    (folder / "usage" / f"money{SUFFIX}").touch()
    compiled.mark(folder, tmp_path)
    return tmp_path


def run(house: Path, **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SAYS_HOW_IT_RUNS],
        cwd=house,
        env={**environment.clean({"PATH": "/usr/bin:/bin"}), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_mypyc_takes_every_module() -> None:
    command = [sys.executable, "deploy/build/compile.py", "--translate"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_defines_what_loses_its_meaning_when_compiled() -> None:
    """A Struct's options are lost without a word, and with them the journal's format."""
    for module in compiled.MODULES:
        path = ROOT / f"{module.replace('.', '/')}.py"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base) for base in node.bases}
                assert not bases & {"msgspec.Struct", "Struct"}, (module, node.name)
                assert not node.keywords, (module, node.name)


def test_no_module_awaits_where_it_would_have_to_clean_up() -> None:
    """After an `await` in a `finally` an exception that was over is raised again when that is compiled."""
    for module in compiled.MODULES:
        path = ROOT / f"{module.replace('.', '/')}.py"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Try | ast.AsyncWith | ast.AsyncFor):
                assert not any(isinstance(inner, ast.Await) for inner in ast.walk(node)), module


def test_who_inherits_of_a_compiled_class_may() -> None:
    """An interpreted class may not, unless the compiled one says so; that shows when the first object is made."""
    paths = {ROOT / f"{module.replace('.', '/')}.py" for module in compiled.MODULES}
    closed = {
        name
        for path in paths
        for name, node in _classes(path)
        if "allow_interpreted_subclasses" not in "".join(map(ast.unparse, node.decorator_list))
    }
    outside = [
        path
        for package in compiled._PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path not in paths
    ]
    heirs = {
        (str(path.relative_to(ROOT)), node.name)
        for path in outside
        for _, node in _classes(path)
        for base in node.bases
        if ast.unparse(base).partition("[")[0] in closed
    }
    assert heirs == set()


def _classes(path: Path) -> list[tuple[str, ast.ClassDef]]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return [(node.name, node) for node in nodes if isinstance(node, ast.ClassDef)]


def test_a_build_of_these_sources_is_used(house: Path) -> None:
    assert compiled.look(house) == "ready"
    code, said = run(house)
    assert code == 1
    assert f"money{SUFFIX}: file too short" in said


def test_a_build_can_be_left_aside(house: Path) -> None:
    code, said = run(house, GATEHOUSE_COMPILED="off")
    assert (code, said.split()) == (0, ["False", str(house / "usage/money.py")])


@pytest.mark.parametrize(
    "changed", ["usage/money.py", "gateway/compiled.py", "keys/__init__.py", "tenants/new.py"]
)
def test_a_build_of_other_sources_is_not_used(house: Path, changed: str) -> None:
    with (house / changed).open("a") as file:
        file.write("\n# another word\n")
    assert compiled.look(house) == "stale"
    code, said = run(house)
    assert (code, said.split()) == (0, ["False", str(house / "usage/money.py")])


def test_without_a_build_the_sources_are_run(house: Path) -> None:
    shutil.rmtree(house / compiled.FOLDER)
    assert compiled.look(house) == "missing"
    code, said = run(house)
    assert (code, said.split()) == (0, ["False", str(house / "usage/money.py")])
