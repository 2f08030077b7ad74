"""A machine that nobody has configured: its secrets, made once, and the providers that its environment already has keys for."""

import base64
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from providers import presets
from tenants.sealing import Secret

#: Keys that people have in their environment for dialects that this release does not speak.
_OTHER_DIALECTS = ("ANTHROPIC_API_KEY", "GEMINI_API_KEY")
FILE_NAME = "secrets.env"

_HEADER = """\
# Made by `manage.py quickstart`. Whoever has this file and the database can read everything sealed in it:
# back it up apart from the database, and never commit it. Real environment variables win over these lines.
"""


def ensure_secrets(var: Path) -> Path:
    """Write `secrets.env` into `var` if there is none; never changes one that exists. Returns its path."""
    var.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = var / FILE_NAME
    lines = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "GATEHOUSE_KEK": base64.b64encode(secrets.token_bytes(32)).decode(),
        # Somebody's own machine: a model server on loopback is the ordinary case there.
        "GATEHOUSE_ALLOWED_UPSTREAMS": "localhost,127.0.0.0/8,::1",
    }
    if path.exists():
        return path
    # Whole and on the disk before it has its name: what is sealed with a key that a power cut lost is lost with it.
    with tempfile.NamedTemporaryFile("w", dir=var, prefix=f".{FILE_NAME}-") as file:
        file.write(_HEADER + "".join(f"{name}={value}\n" for name, value in lines.items()))
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return path
    return path


@dataclass(frozen=True, slots=True)
class Found:
    """A provider in the environment; `base_url` is empty where the preset's own is meant."""

    api_key: Secret | None
    base_url: str


def found_providers(read: Callable[[str], str]) -> dict[str, Found]:
    """Providers by preset name. `read` gives a variable's value, empty when it is not set."""
    found = {}
    for preset in presets.PRESETS.values():
        key = read(preset.env_key).strip() if preset.env_key else ""
        base_url = _base_url(preset, read)
        if key or (base_url and not preset.needs_key):
            found[preset.name] = Found(Secret(key.encode()) if key else None, base_url)
    return found


def _base_url(preset: presets.Preset, read: Callable[[str], str]) -> str:
    text = read(preset.env_base_url).strip() if preset.env_base_url else ""
    if not text or preset.env_base_url != "OLLAMA_HOST":
        return text.rstrip("/")
    return presets.ollama_base_url(text)


def unused_keys(read: Callable[[str], str]) -> list[str]:
    """Variables that hold a key which no preset takes."""
    taken = {preset.env_key for preset in presets.PRESETS.values()}
    return [name for name in _OTHER_DIALECTS if name not in taken and read(name)]
