"""Where this house may connect to: the address filter. `fetch.py` is the client on top of it that is not the relay.

A URL is parsed once, by a parser that refuses whatever two parsers could read differently. A name is resolved once, every
address it has is judged, and the connection goes to a judged address: there is no second look-up that could answer
otherwise (DNS rebinding). `Host` and TLS name stay the name.

Special ranges: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), RFC 6052 (NAT64), RFC 3056 (6to4),
RFC 4380 (Teredo), RFC 5214 (ISATAP). `ipaddress.is_global` alone is no filter: Python 3.12.1 calls NAT64, 6to4, site-local
and multicast forms of forbidden addresses global.

    OutboundError
    ├── BadUrl           not a URL that we accept
    ├── AddressRefused   an address that the filter does not let through
    ├── NameNotFound     the name has no address now, or the resolver did not answer in time
    ├── Unreachable      no connection, or no whole answer in time
    └── BadAnswer        an answer that is not the expected one (`status` says which)
"""

import contextlib
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple, Protocol

from tenants.resolver import SYSTEM

MAX_ADDRESSES = 8
MAX_URL = 2048

_DEFAULT_PORTS = {"http": 80, "https": 443}


class OutboundError(Exception):
    """Something we will not or cannot connect to. `str()` is a sentence fit for the person who configured it."""


class BadUrl(OutboundError):
    """The text is not a URL that we accept."""


class AddressRefused(OutboundError):
    """The address filter does not let this address through."""


class NameNotFound(OutboundError):
    """The name has no address now, or the resolver did not answer in time."""


class Unreachable(OutboundError):
    """No connection could be made, or no whole answer arrived in time."""


class BadAnswer(OutboundError):
    """The other side answered something unexpected. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Address(NamedTuple):
    """One judged address: `family` is AF_INET or AF_INET6, `ip` its literal text."""

    family: int
    ip: str


@dataclass(frozen=True, slots=True)
class ParsedUrl:
    """A base URL in parts. `host` is lower case, an IPv6 literal without brackets; `path` is '' or '/x/y', no last slash."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


class Resolver(Protocol):
    """Names to literal addresses, unjudged. Both raise OSError when there are none in a time that they limit themselves."""

    async def lookup(self, host: str, port: int) -> Sequence[str]: ...

    def lookup_sync(self, host: str, port: int) -> Sequence[str]: ...


def _networks(*texts: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text) for text in texts)


_DENIED_V4 = _networks(
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is Alibaba's metadata service
    "127.0.0.0/8",
    "168.63.129.16/32",  # Azure's wire server, a public address reachable inside its networks only
    "169.254.0.0/16",  # link-local, with most clouds' metadata services
    "172.16.0.0/12",
    "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is Oracle's older metadata service
    "192.0.2.0/24",
    "192.31.196.0/24",  # AS112
    "192.52.193.0/24",  # automatic multicast tunnelling
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",
    "192.175.48.0/24",  # AS112
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
# Only 2000::/3 is global unicast at all; within it, these are not. Addresses that tunnel to an IPv4 address of the
# writer's choice (6to4, Teredo) are refused whatever they carry: no provider has one.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_DENIED_V6 = _networks(
    "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",  # AS112
    "3fff::/20",
)
# An IPv6-only network with DNS64 sees every IPv4-only provider behind this prefix, so what it carries is judged.
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP_IDS = frozenset({0x00005EFE, 0x02005EFE})

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~:@+=,-]*)*)",
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_FORBIDDEN_CHARACTERS = (
    ("\\", "a backslash"),
    ("%", "a percent sign"),
    ("#", "a fragment"),
    ("?", "a query"),
)


class AddressFilter:
    """Judges URLs and addresses. `allowed` holds host names, addresses and CIDR networks that are let through."""

    def __init__(self, allowed: Sequence[str], resolver: Resolver | None = None) -> None:
        """Raises ValueError for an entry of `allowed` that is neither a host name nor an address or network."""
        self._resolver = resolver or SYSTEM
        self._allowed_hosts: set[str] = set()
        self._allowed_networks: list[IPv4Network | IPv6Network] = []
        for entry in allowed:
            self._allow(entry.strip().lower())

    def _allow(self, entry: str) -> None:
        try:
            self._allowed_networks.append(ip_network(entry.strip("[]"), strict=False))
        except ValueError:
            try:
                self._allowed_hosts.add(_read_host(entry))
            except BadUrl:
                message = f"{entry!r} is neither a host name nor an address or network."
                raise ValueError(message) from None

    def check_url(self, url: str) -> ParsedUrl:
        """The parts of a base URL: https, or http where host or literal address is allowed. Raises BadUrl."""
        parsed = _parse(url)
        if parsed.scheme == "http" and not self._is_allowed(parsed.host):
            raise BadUrl(
                "Only https URLs are accepted; plain http needs the host in GATEHOUSE_ALLOWED_UPSTREAMS."
            )
        return parsed

    def check_destination(self, url: str) -> ParsedUrl:
        """`check_url`, and where it leads now: for forms and commands, when a URL is saved.

        A name that does not resolve at the moment may be saved: it is judged again at every connection.
        Raises BadUrl, AddressRefused. Blocks up to `resolver.RESOLVE_SECONDS`.
        """
        parsed = self.check_url(url)
        with contextlib.suppress(NameNotFound):
            self.resolve_sync(parsed.host, parsed.port)
        return parsed

    def check_address(self, ip: str, host: str) -> None:
        """Raises AddressRefused unless `ip`, which `host` stands for, is public or let through."""
        try:
            address = _unmapped(ip_address(ip))
        except ValueError:
            raise AddressRefused(f"{host} has the address {ip!r}, which cannot be read.") from None
        if host.lower() in self._allowed_hosts or self._in_allowed_network(address):
            return
        # An IPv6 scope (`fe80::1%eth0`) belongs to link-local addresses, which are refused anyway.
        if not _is_public(address):
            raise AddressRefused(
                f"{host} leads to {ip}, which is not a public address; "
                "an operator can let it through with GATEHOUSE_ALLOWED_UPSTREAMS."
            )

    async def resolve(self, host: str, port: int) -> list[Address]:
        """The addresses to connect to, at most `MAX_ADDRESSES`, all judged: one bad one refuses the name.

        Raises BadUrl, AddressRefused, NameNotFound (also after `resolver.RESOLVE_SECONDS`).
        """
        name = _read_host(host)
        if _literal(name) is not None:
            return self._judged([name], name)
        try:
            found = await self._resolver.lookup(name, port)
        except (OSError, UnicodeError) as error:
            raise NameNotFound(f"The name {name} does not resolve.") from error
        return self._judged(found, name)

    def resolve_sync(self, host: str, port: int) -> list[Address]:
        """`resolve` for code without an event loop."""
        name = _read_host(host)
        if _literal(name) is not None:
            return self._judged([name], name)
        try:
            found = self._resolver.lookup_sync(name, port)
        except (OSError, UnicodeError) as error:
            raise NameNotFound(f"The name {name} does not resolve.") from error
        return self._judged(found, name)

    def _judged(self, ips: Iterable[str], host: str) -> list[Address]:
        unique = list(dict.fromkeys(ips))
        for ip in unique:
            self.check_address(ip, host)
        if not unique:
            raise NameNotFound(f"The name {host} has no address.")
        return [
            Address(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
            for ip in unique[:MAX_ADDRESSES]
        ]

    def _is_allowed(self, host: str) -> bool:
        literal = _literal(host)
        if host in self._allowed_hosts:
            return True
        return literal is not None and self._in_allowed_network(_unmapped(literal))

    def _in_allowed_network(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._allowed_networks)


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """`::ffff:a.b.c.d` as a.b.c.d: the kernel connects to the very same host."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return _is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP_IDS:
            return False
    denied = _DENIED_V4 if isinstance(address, IPv4Address) else _DENIED_V6
    return (
        not any(address in network for network in denied)
        and address.is_global
        and not (address.is_multicast or address.is_reserved)
    )


def _parse(url: str) -> ParsedUrl:
    if not url:
        raise BadUrl("A base URL is required.")
    if len(url) > MAX_URL:
        raise BadUrl(f"A URL has at most {MAX_URL} characters.")
    if not _PRINTABLE.fullmatch(url):
        raise BadUrl("A URL has no spaces, control characters or non-ASCII characters.")
    for character, name in _FORBIDDEN_CHARACTERS:
        if character in url:
            raise BadUrl(f"A base URL has no {character} in it ({name}).")
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise BadUrl("A base URL has no user name or password in it.")
    match = _URL.fullmatch(scheme.lower() + separator + authority.lower() + slash + path)
    if match is None:
        raise BadUrl(
            "Expected https://host[:port][/path] with plain letters, digits and . _ ~ : + = , -"
        )
    port = int(match["port"] or _DEFAULT_PORTS[match["scheme"]])
    if port > 65535:
        raise BadUrl("A port is a number from 1 to 65535.")
    return ParsedUrl(match["scheme"], _read_host(match["host"]), port, _read_path(match["path"]))


def _read_path(path: str) -> str:
    path = path.removesuffix("/")
    segments = path.split("/")[1:]
    if any(segment in {"", ".", ".."} for segment in segments):
        raise BadUrl("A path has no empty parts and no . or .. in it.")
    return path


def _read_host(text: str) -> str:
    """The one spelling of a host: a lower-case name, strict dotted quad, or IPv6 literal without brackets."""
    host = text.lower()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise BadUrl(f"{text!r} is not an IPv6 address.")
    if ":" in host:
        if "%" in host:
            raise BadUrl("An address with a zone is not accepted.")
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise BadUrl(f"{text!r} is not an IPv6 address.") from None
    labels = host.split(".")
    # A last label that is a number makes resolvers and browsers read the whole as an IPv4 address, in forms such as
    # 127.1, 0x7f000001 or 0177.0.0.1; only the plain one is accepted.
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise BadUrl(f"{text!r} is not an IPv4 address in the form 192.0.2.1.") from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadUrl(f"{text[:100]!r} is not a host name.")
    return host


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
