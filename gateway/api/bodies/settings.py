"""How runtime settings look from outside."""

from collections.abc import Sequence
from typing import Any

from tenants.setting_services import State


def settings_body(states: Sequence[State]) -> dict[str, Any]:
    """All of them: there are never more than a page."""
    return {
        "object": "list",
        "data": [_setting_body(state) for state in states],
        "has_more": False,
        "next_cursor": None,
        "total": len(states),
    }


def _setting_body(state: State) -> dict[str, Any]:
    return {
        "object": "setting",
        "name": state.name,
        "value": state.value,
        "source": state.source,
        "locked": state.is_locked,
        "variable": state.known.variable or None,
        "applies": state.known.applies,
        "description": state.known.description,
    }
