"""Where a configuration file and the secrets that it names come from, and where keys go that it has made."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from django.conf import settings

from gateway.config_file.applying import Deliver, Made
from gateway.config_file.shape import Resolve
from gateway.config_file.yaml_text import MAX_BYTES
from tenants.commands import read_secret
from tenants.errors import Invalid, Unavailable
from tenants.sealing import Secret

#: What keeps the house itself is nobody's credential.
_NEVER: Final = frozenset(
    {"SECRET_KEY", "SECRET_KEY_FALLBACKS", "GATEHOUSE_KEK", "DATABASE_URL", "REDIS_URL"}
)


def read_file(path: Path) -> str:
    """The text of a configuration file. Raises `Invalid`."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        return raw.decode()
    except OSError as fault:
        raise Invalid(f"{path} cannot be read: {fault.strerror}.") from None
    except UnicodeDecodeError:
        raise Invalid(f"{path} is not UTF-8 text.") from None


def on_this_machine(folder: Path) -> Resolve:
    """`{env: NAME}` from the environment, `{file: PATH}` from `folder` on."""

    def resolve(way: str, name: str) -> Secret:
        if way == "file":
            return Secret(read_secret(str(folder / name), "secret").encode())
        if name in _NEVER:
            raise Invalid.field("secret", f"{name} is a secret of the house itself.")
        read: Callable[[str], str] = settings.CONFIG_SECRET
        value = read(name)
        if not value:
            raise Invalid.field("secret", f"the variable {name[:64]} is not set.")
        return Secret(value.encode())

    return resolve


def unlooked_at(way: str, name: str) -> None:
    """For who only wants to know whether a file could be meant."""


def over_http(way: str, name: str) -> Secret:
    """Nobody reads this machine's environment or files from elsewhere."""
    raise Invalid.field(
        "secret", "env and file are for the command and the start of a server; give the text."
    )


def into(path: Path) -> Deliver:
    """Keys that were made are written to a file that its owner alone reads, before anything is committed."""

    def deliver(made: list[Made]) -> None:
        if not made:
            return
        lines = [
            json.dumps({"tenant": tenant, "name": name, "key": credential.reveal().decode()})
            for tenant, name, credential in made
        ]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags, 0o600)
            with os.fdopen(descriptor, "w") as file:
                os.fchmod(descriptor, 0o600)
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                os.fsync(descriptor)
        except OSError as fault:
            raise Unavailable(f"{path} cannot be written: {fault.strerror}.") from None

    return deliver
