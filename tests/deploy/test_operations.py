"""The manual for operators: its commands exist with their options, its metrics are there, and its backup can be restored."""

import re
import shlex
import sqlite3
from argparse import ArgumentParser, _SubParsersAction
from pathlib import Path

import httpx
import pytest
from django.core.management import get_commands, load_command_class
from prometheus_client import CollectorRegistry

from gateway.metrics.meters import Meters
from tests.gateway.door import opened
from tests.support.environment import ROOT
from tests.support.server import Server, Yard

DOCUMENT = (ROOT / "docs/operations.md").read_text()
_COMMAND = re.compile(
    r"manage\.py ([a-z][^`\n]*)|run --rm gateway ([a-z][^`\n]*)|`((?:doctor|audit \w+)\b[^`]*)`"
)
COMMANDS = sorted({next(filter(None, found)) for found in _COMMAND.findall(DOCUMENT)})


def subparsers(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    return {
        name: sub
        for action in parser._actions
        if isinstance(action, _SubParsersAction)
        for name, sub in action.choices.items()
    }


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_exists_and_takes_these_options(line: str) -> None:
    name, *words = shlex.split(line)
    command = load_command_class(get_commands()[name], name)
    parser: ArgumentParser = command.create_parser("manage.py", name)
    if choices := subparsers(parser):
        parser = choices[words.pop(0)]
    known = {option for action in parser._actions for option in action.option_strings}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_commands_were_found() -> None:
    assert len(COMMANDS) > 12
    assert {line.split()[0] for line in COMMANDS} >= {"migrate", "serve", "doctor", "key", "audit"}


def test_every_metric_is_in_the_table_and_no_other() -> None:
    registry = CollectorRegistry()
    Meters(registry)
    made = {f"{it.name}_total" if it.type == "counter" else it.name for it in registry.collect()}
    told = set(re.findall(r"^\| `(gatehouse_\w+)`", DOCUMENT, re.MULTILINE))
    assert told == made | {"gatehouse_audit_head"}
    alerts = set(re.findall(r"gatehouse_[a-z_]+(?=[\[{ )])", DOCUMENT))
    assert {name.removesuffix("_bucket") for name in alerts} <= told


def test_every_file_and_script_that_is_named_is_there() -> None:
    named = re.findall(r"\]\(([^)#]+)", DOCUMENT)
    assert [name for name in named if not (ROOT / "docs" / name).exists()] == []
    paths = re.findall(r"(?:deploy|tests)/[\w./-]+\.(?:sh|yaml|conf|py)", DOCUMENT)
    assert [path for path in paths if not (ROOT / path).is_file()] == []


@pytest.mark.sqlite
def test_a_copy_made_while_it_serves_is_a_whole_gateway(yard: Yard, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    copy = folders[1] / "gatehouse.sqlite3"
    [statement] = re.findall(r'"(VACUUM INTO [^"]*)"', DOCUMENT)
    with opened(yard, folders[0]) as door:
        door.row(door.chat("oracle/ok"))
        original = sqlite3.connect(door.server.database_url.removeprefix("sqlite:///"))
        original.execute(statement.replace("/backup/gatehouse.sqlite3", str(copy)))
        original.close()

    restored = Server(folders[1], f"sqlite:///{copy}", yard._secrets)
    restored.var.mkdir()
    assert {found["state"] for found in restored.manage("doctor")["checks"]} <= {"ok", "warning"}
    restored.run("audit", "verify")
    restored.start()
    try:
        answer = httpx.get(f"{restored.api}/models", headers=door.key.bearer, trust_env=False)
        assert answer.status_code == 200
        assert restored.query("SELECT COUNT(*) FROM usage_ledgerentry")[0][0] > 0
    finally:
        restored.stop()
