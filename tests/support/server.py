"""The real thing: `manage.py serve` as a process, with a folder, a database and a Redis prefix of its own."""

import fcntl
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
import psycopg

from tests.support import dump, environment, services
from tests.support.environment import ROOT

START_SECONDS = 60.0
STOP_SECONDS = 30.0
COMMAND_SECONDS = 120.0
SHOWN_LOG = 4000


class ServerFailed(AssertionError):
    """The server or one of its commands did not do what it should; the message ends with its log."""


class Server:
    """One installation: folder, database, secrets; and, between `start` and `stop`, its processes."""

    operator = "root"

    def __init__(self, folder: Path, database_url: str, env: dict[str, str]) -> None:
        self.var = folder / "var"
        self.database_url = database_url
        self.log_file = folder / "server.log"
        self.env = environment.clean(os.environ) | {
            "DJANGO_SETTINGS_MODULE": "gateway.settings",
            "PYTHONUNBUFFERED": "1",
            "GATEHOUSE_VAR": str(self.var),
            "DATABASE_URL": database_url,
            "GATEHOUSE_ALLOWED_UPSTREAMS": "127.0.0.0/8",
            "GATEHOUSE_PROBE_SECONDS": "0",
            "GATEHOUSE_TIMEOUT_PRE_DRAIN": "0",
            "GATEHOUSE_TIMEOUT_DRAIN": "10",
            **environment.mode(),
            **env,
        }
        self.workers = 1
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._excused = False

    # Commands

    def run(
        self, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> str:
        """Standard output of `manage.py …`. Raises ServerFailed when it fails."""
        done = self.attempt(*arguments, stdin=stdin, env=env)
        if done.returncode:
            raise ServerFailed(
                f"manage.py {arguments[0]} exited {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout

    def manage(self, *arguments: str, stdin: str | None = None) -> Any:
        """What a command says with `--json`: the value on its last line of output, None if there is none."""
        lines = self.run(*arguments, "--json", stdin=stdin).splitlines()
        return json.loads(lines[-1]) if lines else None

    def attempt(
        self, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """A command that may fail: its exit code, output and errors."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.env | (env or {}),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    # Life

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        """What an OpenAI client takes as its base address."""
        return f"{self.url}/v1"

    @property
    def master_pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self, workers: int | None = None) -> None:
        """Serve, on the port of the last start if there was one; returns when /readyz says 200. Raises ServerFailed."""
        assert self._process is None, "the server is already running"
        self.workers = workers or self.workers
        self.port = self.port or _free_port()
        command = [
            "manage.py",
            "serve",
            "--workers",
            str(self.workers),
            "--bind",
            f"127.0.0.1:{self.port}",
        ]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                # What it tells others to call: PUBLIC_URL follows from the port, as `make run` has it.
                env={"PORT": str(self.port), **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._excused = False
        self.wait_ready()

    def wait_ready(self, within: float = START_SECONDS) -> None:
        """Wait for /readyz and for all workers. Raises ServerFailed."""
        deadline = time.monotonic() + within
        answer = "nothing"
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                self._fail("the server ended while it was starting")
            try:
                response = httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False)
            except httpx.TransportError as error:
                answer = repr(error)
            else:
                if response.status_code == 200 and len(self.worker_pids()) >= self.workers:
                    return
                answer = f"{response.status_code} {response.text[:500]}"
            time.sleep(0.05)
        self._fail(f"/readyz answered {answer} for {within} s")

    def worker_pids(self) -> list[int]:
        """The worker processes, oldest first: the children of the master."""
        return _children(self.master_pid)

    def kill_worker(self, pid: int | None = None) -> int:
        """SIGKILL one worker, a random one if none is named; returns its pid at once."""
        pid = pid or random.choice(self.worker_pids())
        assert pid in self.worker_pids(), f"{pid} is no worker of this server"
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self, within: float = STOP_SECONDS) -> int:
        """SIGTERM and wait for the end; returns the exit code. Raises ServerFailed when it does not end in time."""
        assert self._process is not None, "the server is not running"
        process = self._process
        process.terminate()
        try:
            code = process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            self._fail(f"the server had not ended {within} s after SIGTERM")
        self._process = None
        if left := _session(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
            self._fail(f"processes outlived the server: {left}")
        return code

    def kill(self) -> None:
        """SIGKILL everything at once. What is then left behind is excused until the next start."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            self._excused = True

    @property
    def running(self) -> bool:
        return self._process is not None

    # Looks inside

    def log_text(self) -> str:
        """Standard output and standard error of all starts so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def journals(self) -> list[Path]:
        """The journal files that are there now."""
        return sorted((self.var / "journal").glob("*.wal"))

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a SELECT on the server's database, on either kind. Parameters are written `%s`."""
        if urlsplit(self.database_url).scheme != "sqlite":
            with psycopg.connect(self.database_url) as server:
                return server.execute(statement.encode(), parameters).fetchall()
        path = urlsplit(self.database_url).path[1:]
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)
        try:
            return connection.execute(statement.replace("%s", "?"), parameters).fetchall()
        finally:
            connection.close()

    def everything_written(self) -> bytes:
        """Database, logs, journals and whatever else lies in the folder: for secrets to be looked for in."""
        files = [
            file for file in self.var.rglob("*") if file.is_file() and file.name != "secrets.env"
        ]
        written = [file.read_bytes() for file in [*files, self.log_file] if file.exists()]
        return b"\n".join([*written, dump.of_database(self.database_url)])

    def leftovers(self) -> list[str]:
        """What a stopped server should not leave behind, each as a sentence."""
        assert self._process is None, "stop the server first"
        found = []
        if _listens(self.port):
            found.append(f"something still listens on port {self.port}")
        if holds := self.query("SELECT COUNT(*) FROM usage_hold")[0][0]:
            found.append(f"{holds} holds are still open")
        # A segment that holds nothing has nothing left to drain.
        found += [
            f"journal {path.name} was not drained ({size} bytes)"
            for path in self.journals()
            if (size := path.stat().st_size)
        ]
        return found

    def finish(self) -> None:
        """The end of a test: stop if it still runs, and fail on what is left behind. Raises ServerFailed."""
        if self._process is not None:
            self.stop()
        if not self._excused and self.port and (left := self.leftovers()):
            self._fail("; ".join(left))

    def _fail(self, sentence: str) -> NoReturn:
        raise ServerFailed(f"{sentence}\n--- log ---\n{self.log_text()[-SHOWN_LOG:]}")


class Yard:
    """Makes installations. Migrating and seeding happens once per kind of database; each server gets a copy."""

    def __init__(self, folder: Path, seeds: "Seeds | None" = None) -> None:
        """`seeds`, if others share them; they outlive the yard."""
        self._folder = folder
        self._seeds = seeds
        self._secrets = seeds.secrets if seeds else environment.fresh_secrets()
        self.operator_password = seeds.password if seeds else secrets.token_urlsafe(24)
        self._templates: dict[str, str] = {}
        self._kept = ExitStack()

    @contextmanager
    def opened(self) -> Iterator["Yard"]:
        with self._kept:
            yield self

    @contextmanager
    def server(
        self,
        folder: Path,
        *,
        kind: str,
        redis: services.RedisSpace | None,
        env: dict[str, str],
        seed: bool,
    ) -> Iterator[Server]:
        """An installation that is not serving yet. Without `seed` its database is empty, not even migrated."""
        given = self._secrets | (
            {"REDIS_URL": redis.url, "GATEHOUSE_REDIS_PREFIX": redis.prefix}
            if redis is not None
            else {}
        )
        with ExitStack() as stack:
            template = self._template(kind) if seed else None
            server = Server(folder, self._database(stack, kind, folder, template), given | env)
            server.var.mkdir(parents=True, exist_ok=True)
            stack.callback(server.kill)
            yield server

    def _database(self, stack: ExitStack, kind: str, folder: Path, template: str | None) -> str:
        if kind == "postgres":
            services.need_postgres()
            return stack.enter_context(services.postgres_database(template=template))
        path = folder / "gatehouse.sqlite3"
        if template:
            shutil.copyfile(urlsplit(template).path[1:], path)
        return f"sqlite:///{path}"

    def _template(self, kind: str) -> str:
        """The address of a migrated database with the first operator and the tenant `default` in it."""
        if kind not in self._templates:
            self._templates[kind] = (
                self._seeds.of(kind, self._seed) if self._seeds else self._seed_of_ones_own(kind)
            )
        return self._templates[kind]

    def _seed_of_ones_own(self, kind: str) -> str:
        folder = self._folder / f"template-{kind}"
        folder.mkdir()
        address = self._database(self._kept, kind, folder, None)
        self._seed(folder, address)
        return address

    def _seed(self, folder: Path, database_url: str) -> None:
        password = folder / "password"
        password.write_text(self.operator_password)
        template = Server(folder, database_url, self._secrets)
        template.var.mkdir()
        template.run("migrate", "--no-input")
        template.run(
            "operator",
            "create",
            "--username",
            Server.operator,
            "--password-file",
            str(password),
        )
        template.run("client", "create", "--name", "Default", "--slug", "default", "--if-missing")
        _fold_wal(database_url)


class Seeds:
    """Seeded databases that many workers copy: ten seconds of work each, done by the first who wants one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._alone():
            kept = folder / "secrets.json"
            if not kept.exists():
                made = {
                    "secrets": environment.fresh_secrets(),
                    "password": secrets.token_urlsafe(24),
                }
                kept.write_text(json.dumps(made))
            known = json.loads(kept.read_text())
        self.secrets: dict[str, str] = known["secrets"]
        self.password: str = known["password"]

    def of(self, kind: str, seed: Callable[[Path, str], None]) -> str:
        """The address of the one of this kind; `seed` fills an empty database, with a folder for what it needs."""
        with self._alone():
            told = self._folder / f"{kind}.address"
            if not told.exists():
                scratch = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self._folder))
                address = self._empty(kind, scratch)
                seed(scratch, address)
                told.write_text(address)
            return told.read_text()

    @staticmethod
    def _empty(kind: str, folder: Path) -> str:
        if kind == "postgres":
            services.need_postgres()
            return services.create_database(environment.seeds_owner())
        return f"sqlite:///{folder / 'gatehouse.sqlite3'}"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def end_seeds() -> None:
    """What seeds of this process are not in their folder; that one goes by itself."""
    if os.getpid() != environment.seeds_owner():
        return
    if (environment.seeds_folder() / "postgres.address").exists():
        services.drop_of(os.getpid())


def _fold_wal(database_url: str) -> None:
    """Bring everything of a SQLite database into its one file, so that copying that file copies everything."""
    if urlsplit(database_url).scheme == "sqlite":
        connection = sqlite3.connect(urlsplit(database_url).path[1:])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


def _free_port() -> int:
    """A port that nobody listens on, from below the range that the system hands out by itself."""
    while True:
        port = random.randrange(15000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _children(pid: int) -> list[int]:
    """Child processes, oldest first (Linux: /proc/PID/stat, field 4 is the parent)."""
    return sorted(child for child, parent, _ in _processes() if parent == pid)


def _session(leader: int) -> list[int]:
    """Processes of a session that still run; zombies do not count."""
    return [pid for pid, _, session in _processes() if session == leader]


def _processes() -> Iterator[tuple[int, int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent, _, session = (
                    (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                )
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != "Z":
                yield int(entry.name), int(parent), int(session)
