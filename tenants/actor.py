"""Who does something, and by what means. Every service takes one; none can be made empty."""

import uuid
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Actor:
    """`type` `operator` | `command` | `key` | `system`; `method` how they proved it; `source` the door they came by."""

    type: str
    id: str
    label: str
    method: str
    source: str
    request_id: str
    address: str = ""
    user_agent: str = ""

    def __post_init__(self) -> None:
        for name in ("type", "id", "label", "method", "source", "request_id"):
            if not getattr(self, name):
                raise ValueError(f"An actor needs its {name}.")

    def named(self, *, type: str, id: str, label: str) -> "Actor":
        """The same circumstances with somebody else in them: a visitor who turned out to be an operator."""
        return replace(self, type=type, id=id, label=label)


def new_request_id() -> str:
    return uuid.uuid4().hex


def command_actor(user: str) -> Actor:
    """Somebody with a shell on this machine."""
    return Actor(
        type="command",
        id=user or "shell",
        label=user or "shell",
        method="shell",
        source="command",
        request_id=new_request_id(),
    )


def system_actor(label: str) -> Actor:
    """Gatehouse itself: first run, the relay noticing something, housekeeping."""
    return Actor(
        type="system",
        id=label,
        label=label,
        method="none",
        source="system",
        request_id=new_request_id(),
    )
