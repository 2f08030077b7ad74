"""The circumstances of a request: its id, and where it comes from."""

import ipaddress
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

from django.conf import settings

#: The id of the request in work, for log lines alone; empty outside of one. Identity never travels this way.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_CALLERS_OWN: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_CALLERS_OWN_BYTES: Final = re.compile(_CALLERS_OWN.pattern.encode())
#: More hops than any chain of proxies has; what lies beyond was made up.
_MAX_HOPS: Final = 32

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def request_id_for(offered: str | None) -> str:
    """The caller's own id if it has the form we keep, else a new one."""
    if offered and _CALLERS_OWN.fullmatch(offered):
        return offered
    return uuid.uuid4().hex


def is_callers_own(offered: bytes) -> bool:
    """Whether it has the form that we keep."""
    return _CALLERS_OWN_BYTES.fullmatch(offered) is not None


@lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def client_address(peer: str, forwarded_for: str, trusted_proxies: Sequence[str]) -> str:
    """The right-most hop that is no trusted proxy; `forwarded_for` (X-Forwarded-For) counts only from a trusted peer.

    An entry that is no address ends the walk: what is to its left was written by nobody we know.
    """
    nearest = _address(peer)
    if nearest is None:
        return ""
    networks = _networks(tuple(trusted_proxies))
    hops = forwarded_for.split(",")[-_MAX_HOPS:] if forwarded_for else []
    while hops and any(nearest in network for network in networks):
        hop = _address(hops.pop())
        if hop is None:
            break
        nearest = hop
    return str(nearest)


def forwarded_for(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Through whom a request says that it came, of headers as they came."""
    return ",".join(
        value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"
    )


def is_trusted_peer(peer: str, trusted_proxies: Sequence[str]) -> bool:
    """Whether whoever is at the other end of the connection may speak for somebody else."""
    address = _address(peer)
    networks = _networks(tuple(trusted_proxies))
    return address is not None and any(address in network for network in networks)


def address_of(meta: Mapping[str, Any]) -> str:
    """The caller's address, from Django's `request.META`."""
    return client_address(
        meta.get("REMOTE_ADDR", ""), meta.get("HTTP_X_FORWARDED_FOR", ""), settings.TRUSTED_PROXIES
    )


def circumstances(meta: Mapping[str, Any], request_id: str, source: str) -> dict[str, str]:
    """What an `Actor` is told about a request, by the door it came through."""
    agent = str(meta.get("HTTP_USER_AGENT", ""))[:256]
    return {
        "source": source,
        "request_id": request_id,
        "address": address_of(meta),
        "user_agent": "".join(c if c.isprintable() else "?" for c in agent),
    }
