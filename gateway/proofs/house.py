"""Processes of a throw-away installation: commands that end, a server and a provider that run; and its admin API."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from gateway.proofs.grounds import ROOT, Grounds, ProofFailed, free_port

OPERATOR: Final = "prover"
COMMAND_SECONDS: Final = 120.0
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05
_SHOWN: Final = 2_000


@dataclass
class House:
    """A server that is ready, on 127.0.0.1. `journals` is the folder in which each worker keeps its own."""

    port: int
    database_url: str
    journals: Path
    api: "AdminAPI"

    def workers(self) -> int:
        """How many workers have begun a journal, which is the first thing that a worker does."""
        return len({path.name.rpartition("-")[0] for path in self.journals.glob("*.wal")})


class AdminAPI:
    """The admin API of a house, as its operator. Raises ProofFailed for whatever is not a success."""

    def __init__(self, port: int) -> None:
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}/v1/admin/", trust_env=False, timeout=30
        )

    async def sign_in(self, username: str, password: str) -> None:
        made = await self.post("auth/login", username=username, password=password)
        self.http.headers["authorization"] = f"Bearer {made['token']}"

    async def post(self, path: str, **fields: Any) -> Any:
        return checked(await self.http.post(path, json=fields))

    async def get(self, path: str) -> Any:
        return checked(await self.http.get(path))


def checked(answer: httpx.Response) -> Any:
    if not answer.is_success:
        told = f"{answer.status_code} {answer.text[:500]}"
        raise ProofFailed(f"The admin API refused {answer.request.url.path}: {told}")
    return answer.json() if answer.content else None


@asynccontextmanager
async def provider(
    log: Path, chunks: int, interval_ms: float, delay_ms: float
) -> AsyncIterator[int]:
    """The provider of `gateway.proofs.upstream` as a process; its port."""
    port = free_port()
    numbers = (str(port), str(chunks), str(interval_ms), str(delay_ms))
    command = ("-m", "gateway.proofs.upstream", *numbers)
    async with _running(command, {"PATH": os.defpath}, log) as process:
        await _wait_for(lambda: _connects(port), process, log, "The provider")
        yield port


@asynccontextmanager
async def serving(
    grounds: Grounds, workers: int, more: Mapping[str, str], password: str
) -> AsyncIterator[House]:
    """Set an installation up and serve it with so many workers until the end of the block. Raises ProofFailed."""
    place = "house"
    database_url = grounds.fresh(place)
    try:
        env = grounds.environment(place, database_url) | dict(more)
        await _set_up(env, grounds.folder / place / "password", password)
        port, log = free_port(), grounds.folder / place / "server.log"
        command = ("manage.py", "serve", "--workers", str(workers), "--bind", f"127.0.0.1:{port}")
        async with _running(command, env, log) as process:
            house = House(
                port, database_url, Path(env["GATEHOUSE_VAR"]) / "journal", AdminAPI(port)
            )
            async with house.api.http:
                await _wait_for(lambda: _is_ready(house, workers), process, log, "The server")
                await house.api.sign_in(OPERATOR, password)
                yield house
    finally:
        grounds.drop(place)


async def _set_up(env: Mapping[str, str], password_file: Path, password: str) -> None:
    await asyncio.to_thread(password_file.write_text, password)
    await _command(env, "migrate", "--no-input")
    as_whom = ("--username", OPERATOR, "--password-file", str(password_file))
    await _command(env, "operator", "create", *as_whom)


async def _command(env: Mapping[str, str], *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "manage.py", *arguments),
        cwd=ROOT,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            told, _ = await process.communicate()
    except TimeoutError:
        raise ProofFailed(f"manage.py {arguments[0]} took over {COMMAND_SECONDS:.0f} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise ProofFailed(f"manage.py {arguments[0]} failed:\n{told.decode()[-_SHOWN:]}")


@asynccontextmanager
async def _running(
    command: tuple[str, ...], env: Mapping[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python program in a session of its own, so that an interrupt at the terminal reaches us alone; ended with the block."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command),
            cwd=ROOT,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _wait_for(good: Any, process: asyncio.subprocess.Process, log: Path, what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not await good():
        if process.returncode is not None:
            told = (await asyncio.to_thread(log.read_text, errors="replace"))[-_SHOWN:]
            raise ProofFailed(f"{what} ended with {process.returncode}:\n{told}")
        if time.monotonic() > deadline:
            raise ProofFailed(f"{what} was not ready within {START_SECONDS:.0f} s.")
        await asyncio.sleep(_POLL_SECONDS)


async def _connects(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _is_ready(house: House, workers: int) -> bool:
    try:
        answer = await house.api.http.get(f"http://127.0.0.1:{house.port}/readyz")
    except httpx.TransportError:
        return False
    return answer.is_success and house.workers() >= workers


async def calls_received(port: int) -> int:
    """How many calls the provider of `provider` has had."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/")
    return int(json.loads(answer.content)["calls"])
