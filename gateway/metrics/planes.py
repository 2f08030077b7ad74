"""Which part of the house an address belongs to, as a label: one of a few words, whatever is asked for."""

from typing import Final

DATA: Final = "data"
ADMIN: Final = "admin"
CONSOLE: Final = "console"
MCP: Final = "mcp"
PLATFORM: Final = "platform"
OTHER: Final = "other"

#: By the first part of the path, or the first two for what is more exact.
_PLANES: Final = {
    "/v1/admin": ADMIN,
    "/v1": DATA,
    "/v1beta": DATA,
    "/openai": DATA,
    "/chat": DATA,
    "/completions": DATA,
    "/embeddings": DATA,
    "/models": DATA,
    "/mcp": MCP,
    "/console": CONSOLE,
    "/static": CONSOLE,
    "/livez": PLATFORM,
    "/readyz": PLATFORM,
    "/health": PLATFORM,
    "/metrics": PLATFORM,
}


def plane_of(path: str) -> str:
    parts = path.split("/", 3)
    first_two = "/".join(parts[:3])
    return _PLANES.get(first_two) or _PLANES.get("/".join(parts[:2])) or OTHER
