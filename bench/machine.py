"""On what machine and of what commit a figure was taken, in one line each."""

import os
import platform
import re
import sqlite3
import subprocess
from importlib.metadata import version
from pathlib import Path

import psycopg

from bench import peers
from bench.cases import nginx_program, nginx_version
from gateway.proofs.grounds import ROOT


def described(database: str) -> str:
    """Nothing of it names the machine or its owner."""
    parts = [
        _processor(),
        f"{len(os.sched_getaffinity(0))} cores",
        f"{_memory_gib():.0f} GiB",
        f"Linux {platform.release().partition('-')[0]}",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in ("Django", "gunicorn", "uvloop", "httptools")),
        _database_version(database),
        *([f"nginx {nginx_version()}"] if nginx_program() else []),
        *peers.versions(),
    ]
    return ", ".join(parts)


def commit() -> str:
    """The commit of this tree, and whether it was changed since. `unknown` outside of a clone."""
    try:
        short = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{short}, with changes" if changed else short


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _database_version(database: str) -> str:
    if database == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    with psycopg.connect(database, connect_timeout=5) as server:
        return f"PostgreSQL {server.info.server_version // 10_000}"
