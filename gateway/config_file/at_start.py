"""The configuration file of `GATEHOUSE_CONFIG`, applied before a server makes its workers. It is applied once, whoever starts."""

import logging
from pathlib import Path
from typing import Final

from django.conf import settings

from gateway.config_file import applying, shape, sources
from tenants.actor import system_actor
from tenants.errors import Invalid, ServiceError

logger = logging.getLogger(__name__)

#: In `GATEHOUSE_VAR`: keys that a start has made.
MADE_KEYS: Final = "made-keys.jsonl"


def apply_file() -> None:
    """Nothing to do without the variable. Raises `Invalid` with one sentence that names the file and the place in it."""
    if settings.CONFIG_FILE is None:
        return
    path: Path = settings.CONFIG_FILE
    try:
        text = sources.read_file(path)
        wish = shape.read(text, sources.on_this_machine(path.parent))
        applied = applying.apply(
            wish, system_actor("configuration file"), deliver=sources.into(settings.VAR / MADE_KEYS)
        )
    except ServiceError as refusal:
        raise Invalid(f"GATEHOUSE_CONFIG ({path}): {refusal.message}") from None
    if applied.is_new:
        logger.info("The configuration file is applied as revision %d.", applied.revision)
    else:
        logger.info("The configuration file changes nothing; revision %d.", applied.revision)
    if applied.made:
        logger.warning(
            "%d keys were made and written to %s.", len(applied.made), settings.VAR / MADE_KEYS
        )
    for warning in applied.plan.warnings:
        logger.warning("Configuration file: %s", warning)
