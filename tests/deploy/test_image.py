"""The steps of the image, as the Dockerfile lists them, in a bare folder; then what comes of them is started as a container
would: by a user who owns nothing but `$GATEHOUSE_VAR`, from sources that cannot be written.
"""

import os
import re
import secrets
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support import environment
from tests.support.environment import ROOT
from tests.support.server import _free_port

DOCKERFILE = (ROOT / "Dockerfile").read_text()
#: As in the Dockerfile; the tests below check it.
UID = 10001
_STARTED_WITHIN = 60.0
_STEP_SECONDS = 300.0
#: Three minutes and a C compiler, which not every machine has: not run here.
_ONLY_TO_COMPILE = 'if [ "$COMPILE" = on ]; then '
_STEP = re.compile(r"^RUN (deploy/build/\S+\.sh)(?: (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Image:
    """`app` stands for /app, `python` for /opt/gatehouse, `var` for /var/lib/gatehouse."""

    app: Path
    python: Path
    var: Path

    def env(self, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{self.python}/bin:/usr/bin:/bin",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "GATEHOUSE_VAR": str(self.var),
            **more,
        }

    def run(self, *command: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            as_nobody([str(part) for part in command]),
            cwd=self.app,
            env=self.env(**env),
            capture_output=True,
            text=True,
            timeout=_STEP_SECONDS,
            check=False,
        )

    @property
    def entrypoint(self) -> str:
        return str(self.app / "deploy/build/entrypoint.sh")

    @property
    def health_check(self) -> list[str]:
        return [str(self.python / "bin/python"), str(self.app / "deploy/build/healthcheck.py")]


def is_root() -> bool:
    return os.geteuid() == 0


def as_nobody(command: list[str]) -> list[str]:
    """As a user without a name, a home, or any rights. Whoever is no root is such a user already."""
    if not is_root():
        return command
    return ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *command]


def python_for_everybody() -> str:
    """An interpreter that another user may run: a developer's own may lie in a home that nobody else can enter."""
    for name in ("python3.11", "python3", "python3.12", "python3.13"):
        path = shutil.which(name, path="/usr/local/bin:/usr/bin" if is_root() else None)
        if (
            path
            and subprocess.run([path, "-c", "import ensurepip, venv"], check=False).returncode == 0
        ):
            return path
    pytest.skip("there is no Python that another user may run")


def copy_context(to: Path) -> None:
    """What `.dockerignore` lets into the image."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    for rule in rules[1:]:
        if not rule.startswith("!"):
            assert rule == "**/__pycache__"
            continue
        source, target = ROOT / rule[1:], to / rule[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)


def without_write_permission(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    python = python_for_everybody()
    # Not below pytest's own folder, which nobody else may enter.
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-image-"))
    folder.chmod(0o755)
    image = Image(folder / "app", folder / "python", folder / "var")
    try:
        copy_context(image.app)
        for script, argument in _STEP.findall(DOCKERFILE):
            assert argument == "/opt/gatehouse"
            done = subprocess.run(
                [f"./{script}", str(image.python)],
                cwd=image.app,
                env={**environment.clean(os.environ), "PYTHON": python},
                capture_output=True,
                text=True,
                timeout=_STEP_SECONDS,
                check=False,
            )
            assert done.returncode == 0, f"{script}:\n{done.stdout}\n{done.stderr}"
        image.var.mkdir(mode=0o700)
        if is_root():
            os.chown(image.var, UID, UID)
        without_write_permission(image.app)
        yield image
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def serving(image: Image, log: Path, **env: str) -> Iterator[int]:
    """The entry point without arguments; gives its port once it is healthy, and ends it by SIGTERM."""
    port = _free_port()
    env |= {"PORT": str(port), "GATEHOUSE_TIMEOUT_PRE_DRAIN": "0"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            as_nobody([image.entrypoint]),
            cwd="/",
            env=image.env(**env),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + _STARTED_WITHIN
            while (seen := image.run(*image.health_check, "/readyz", **env)).returncode:
                told = f"{seen.stdout}\n{log.read_text()[-4000:]}"
                assert process.poll() is None, told
                assert time.monotonic() < deadline, told
                time.sleep(0.1)
            yield port
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def given() -> dict[str, str]:
    return environment.fresh_secrets()


pytestmark = [pytest.mark.slow, pytest.mark.sqlite]


def test_it_refuses_to_serve_what_it_cannot_then_serves_and_says_how_it_is(
    image: Image, given: dict[str, str], tmp_path: Path
) -> None:
    before = image.run(image.entrypoint, **given)
    assert (before.returncode, before.stdout) == (1, "")
    assert before.stderr.startswith("The database is not up to date: run this image once with")
    away = image.run(image.entrypoint, **given, DATABASE_URL="postgres://u:hunter2@127.0.0.1:9/x")
    assert away.returncode == 1
    assert "could not be asked" in away.stderr
    assert "hunter2" not in away.stderr
    assert len(away.stderr.splitlines()) == 1
    weak = image.run(image.entrypoint, **{**given, "SECRET_KEY": "hunter2"})
    assert weak.stderr.startswith("SECRET_KEY is too short")
    assert len(weak.stderr.splitlines()) == 1

    done = image.run(image.entrypoint, "migrate", "--no-input", **given)
    assert done.returncode == 0, done.stderr
    token = secrets.token_urlsafe(32)
    env = {**given, "GATEHOUSE_METRICS_TOKEN": token, "PUBLIC_URL": "https://gatehouse.example.com"}
    env |= {"ALLOWED_HOSTS": "gatehouse.example.com", "WEB_CONCURRENCY": "2"}
    with serving(image, tmp_path / "log", **env) as port:
        asks = {"PORT": str(port), "PUBLIC_URL": env["PUBLIC_URL"]}
        assert [
            image.run(*image.health_check, *path, **asks).returncode for path in (["/livez"], [])
        ] == [0, 0]
        assert "404" in image.run(*image.health_check, "/nothing", **asks).stdout
        asked = {"host": "gatehouse.example.com", "authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{port}"
        answer = httpx.get(f"{url}/metrics", headers=asked, trust_env=False)
        assert (answer.status_code, "gatehouse_audit_head" in answer.text) == (200, True)
        is_kept_for_ever(image, url, asked)
    gone = image.run(*image.health_check, PORT=str(port))
    assert (gone.returncode, "no answer" in gone.stdout) == (1, True)
    nothing_was_written(image)


def is_kept_for_ever(image: Image, url: str, headers: dict[str, str]) -> None:
    """A style sheet has a name that changes with its content, so it may be cached without an end."""
    built = image.app / "static-built"
    hashed = next(
        path for path in built.rglob("*.css") if re.search(r"\.[0-9a-f]{12}\.css$", path.name)
    )
    name = hashed.relative_to(built).as_posix()
    answer = httpx.get(f"{url}/static/{name}", headers=headers, trust_env=False)
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]


def nothing_was_written(image: Image) -> None:
    """What the steps made is all there is: the root of the file system may be read-only."""
    mine = [path for path in image.app.rglob("*") if path.lstat().st_uid == UID]
    assert mine == [] or not is_root()
    assert not list(image.app.glob("var"))


def test_the_health_check_fails_on_anything_but_a_good_answer(image: Image) -> None:
    nothing = image.run(*image.health_check, "/livez", PORT=str(_free_port()))
    assert (nothing.returncode, nothing.stderr) == (1, "")


def test_the_image_has_no_installer_and_everything_compiled(image: Image) -> None:
    assert not (image.python / "bin/pip").exists()
    assert "No module" in image.run("python", "-c", "import pip").stderr
    assert list((image.app / "gateway/__pycache__").glob("settings.*.pyc"))


def test_every_step_of_the_dockerfile_is_one_of_these_scripts() -> None:
    runs = re.findall(r"^RUN (.*)$", DOCKERFILE, re.MULTILINE)
    assert len(_STEP.findall(DOCKERFILE)) == 3
    assert [
        run for run in runs if not run.startswith(("deploy/build/", "mkdir ", _ONLY_TO_COMPILE))
    ] == []
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == [f"{UID}:{UID}"]
    images = re.findall(r"^(?:ARG PYTHON_IMAGE=|FROM )(\S+)", DOCKERFILE, re.MULTILINE)
    assert images == ["python:3.11-slim-bookworm", "${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    for script in re.findall(r"deploy/build/\S+?\.(?:sh|py)", DOCKERFILE):
        assert (ROOT / script).is_file()
        assert script.endswith(".py") or os.access(ROOT / script, os.X_OK)
    # The parts of the interpreter's path that the tests replace, and what is set beside them.
    assert "GATEHOUSE_VAR=/var/lib/gatehouse" in DOCKERFILE
    assert "HOST=0.0.0.0" in DOCKERFILE
