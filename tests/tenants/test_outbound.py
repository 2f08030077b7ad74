"""The address filter against the tricks that have got past others."""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.outbound import (
    MAX_ADDRESSES,
    AddressFilter,
    AddressRefused,
    BadUrl,
    NameNotFound,
    OutboundError,
    ParsedUrl,
)
from tenants.resolver import SystemResolver
from tests.tenants.outbound_corpus import CORPUS, FORBIDDEN, PUBLIC, embedded_forms


class FakeResolver:
    """Answers each look-up with the next of `answers`, for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = itertools.cycle(answers)
        self.lookups = 0

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        return self.lookup_sync(host, port)

    def lookup_sync(self, host: str, port: int) -> Sequence[str]:
        self.lookups += 1
        return next(self._answers)


class NoSuchName:
    async def lookup(self, host: str, port: int) -> Sequence[str]:
        return self.lookup_sync(host, port)

    def lookup_sync(self, host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "not known")


CLOSED = AddressFilter([], resolver=FakeResolver([PUBLIC]))


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) > 2000


def passes(addresses: AddressFilter, url: str) -> bool:
    try:
        addresses.check_destination(url)
    except OutboundError:
        return False
    return True


def test_no_trick_gets_past_the_filter() -> None:
    assert [url for url in CORPUS if passes(CLOSED, url)] == []


def test_a_name_that_leads_to_a_forbidden_address_is_refused() -> None:
    for ip in FORBIDDEN:
        addresses = AddressFilter([], resolver=FakeResolver([ip]))
        with pytest.raises(AddressRefused):
            addresses.check_destination("https://api.example.com/v1")
        with pytest.raises(AddressRefused):
            asyncio.run(addresses.resolve("api.example.com", 443))


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://api.openai.com/v1", ("https", "api.openai.com", 443, "/v1")),
        ("https://api.openai.com/v1/", ("https", "api.openai.com", 443, "/v1")),
        ("https://api.openai.com", ("https", "api.openai.com", 443, "")),
        ("https://api.openai.com/", ("https", "api.openai.com", 443, "")),
        ("HTTPS://API.Example.COM:8443/Api/v1", ("https", "api.example.com", 8443, "/Api/v1")),
        ("https://93.184.215.14:444/x", ("https", "93.184.215.14", 444, "/x")),
        ("https://[2606:4700:0::1111]/v1", ("https", "2606:4700::1111", 443, "/v1")),
        ("https://xn--exmple-cua.com/v1", ("https", "xn--exmple-cua.com", 443, "/v1")),
        (
            "https://my_host.example/a-b/c~d/e:f@g",
            ("https", "my_host.example", 443, "/a-b/c~d/e:f@g"),
        ),
        ("https://openrouter.ai/api/v1", ("https", "openrouter.ai", 443, "/api/v1")),
    ],
)
def test_an_ordinary_url_is_read(url: str, parts: tuple[str, str, int, str]) -> None:
    parsed = CLOSED.check_url(url)
    assert parsed == ParsedUrl(*parts)
    assert CLOSED.check_url(str(parsed)) == parsed


@pytest.mark.parametrize(
    "ip",
    [PUBLIC, "1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"],
)
def test_a_public_address_passes(ip: str) -> None:
    CLOSED.check_address(ip, "api.example.com")


@pytest.mark.parametrize(
    "ip", ["", "api.example.com", "127.1", "fe80::1%eth0", "1.2.3.4 ", "0x7f000001"]
)
def test_an_address_that_cannot_be_read_is_refused(ip: str) -> None:
    with pytest.raises(AddressRefused):
        CLOSED.check_address(ip, "api.example.com")


def test_one_bad_address_among_good_ones_refuses_the_name() -> None:
    addresses = AddressFilter([], resolver=FakeResolver([PUBLIC, "1.1.1.1", "10.0.0.1"]))
    with pytest.raises(AddressRefused):
        asyncio.run(addresses.resolve("api.example.com", 443))


def test_a_bad_address_beyond_the_bound_is_seen_too() -> None:
    many = [f"8.8.8.{n}" for n in range(40)]
    addresses = AddressFilter([], resolver=FakeResolver(many, [*many, "127.0.0.1"]))
    assert len(addresses.resolve_sync("api.example.com", 443)) == MAX_ADDRESSES
    with pytest.raises(AddressRefused):
        addresses.resolve_sync("api.example.com", 443)


def test_addresses_keep_their_order_and_come_once() -> None:
    addresses = AddressFilter([], resolver=FakeResolver(["2606:4700::1", PUBLIC, "2606:4700::1"]))
    assert addresses.resolve_sync("api.example.com", 443) == [
        (socket.AF_INET6, "2606:4700::1"),
        (socket.AF_INET, PUBLIC),
    ]


def test_a_literal_address_asks_no_resolver() -> None:
    resolver = FakeResolver(["8.8.8.8"])
    addresses = AddressFilter([], resolver=resolver)
    assert addresses.resolve_sync("1.1.1.1", 443) == [(socket.AF_INET, "1.1.1.1")]
    assert asyncio.run(addresses.resolve("[2606:4700::1]", 443)) == [
        (socket.AF_INET6, "2606:4700::1")
    ]
    with pytest.raises(BadUrl):
        addresses.resolve_sync("0x7f000001", 443)
    assert resolver.lookups == 0


def test_an_allowed_host_may_be_anywhere_and_speak_plain_http() -> None:
    addresses = AddressFilter(["localhost", "Ollama.lan"], resolver=FakeResolver(["127.0.0.1"]))
    assert addresses.check_destination("http://localhost:11434").port == 11434
    assert addresses.check_destination("http://OLLAMA.lan/v1").host == "ollama.lan"
    with pytest.raises(AddressRefused):
        addresses.check_destination("https://other.lan")
    with pytest.raises(BadUrl):
        addresses.check_destination("http://other.lan")
    with pytest.raises(BadUrl):
        addresses.check_url("http://notlocalhost")


def test_an_allowed_network_lets_its_addresses_through_and_no_others() -> None:
    addresses = AddressFilter(["127.0.0.0/8", "fd12::/16", "10.1.2.3"], FakeResolver(["10.1.2.3"]))
    for url in (
        "http://127.0.0.1:8080/v1",
        "http://[::ffff:127.0.0.1]/v1",
        "https://[fd12::5]",
        "http://10.1.2.3",
        "https://inside.example",
    ):
        addresses.check_destination(url)
    for url in (
        "https://10.1.2.4",
        "https://[fd13::5]",
        "https://[::1]",
        "https://[64:ff9b::7f00:1]",
    ):
        with pytest.raises(AddressRefused):
            addresses.check_destination(url)
    with pytest.raises(BadUrl):
        addresses.check_url("http://inside.example")


@pytest.mark.parametrize("entry", ["", "*.example.com", "10.0.0.0/33", "http://x", "a b", "127.1"])
def test_an_unreadable_entry_of_the_allow_list_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        AddressFilter([entry])


def test_a_name_without_an_address_may_be_saved_but_not_connected_to() -> None:
    addresses = AddressFilter([], resolver=NoSuchName())
    assert addresses.check_destination("https://later.example/v1").host == "later.example"
    with pytest.raises(NameNotFound):
        addresses.resolve_sync("later.example", 443)
    with pytest.raises(NameNotFound):
        asyncio.run(addresses.resolve("later.example", 443))
    empty = AddressFilter([], resolver=FakeResolver([]))
    with pytest.raises(NameNotFound):
        empty.resolve_sync("later.example", 443)


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    hung = threading.Event()

    def hang(host: str, port: int) -> Sequence[str]:
        hung.wait(30)
        return ["8.8.8.8"]

    addresses = AddressFilter([], resolver=SystemResolver(hang, seconds=0.05))
    started = time.monotonic()
    with pytest.raises(NameNotFound):
        asyncio.run(addresses.resolve("slow.example", 443))
    with pytest.raises(NameNotFound):
        addresses.resolve_sync("slow.example", 443)
    assert time.monotonic() - started < 5
    hung.set()


def test_the_systems_own_resolver_is_used_by_default() -> None:
    addresses = AddressFilter(["127.0.0.0/8", "::1"])
    found = asyncio.run(addresses.resolve("localhost", 80))
    assert {ip for _, ip in found} <= {"127.0.0.1", "::1"}
    assert set(addresses.resolve_sync("localhost", 80)) == set(found)
    with pytest.raises(AddressRefused):
        CLOSED_SYSTEM.resolve_sync("localhost", 80)


CLOSED_SYSTEM = AddressFilter([])


def test_a_rebinding_name_is_judged_at_every_look_up() -> None:
    addresses = AddressFilter([], resolver=FakeResolver([PUBLIC], ["127.0.0.1"]))
    for _ in range(5_000):
        assert addresses.resolve_sync("rebind.example", 443) == [(socket.AF_INET, PUBLIC)]
        with pytest.raises(AddressRefused):
            addresses.resolve_sync("rebind.example", 443)


@given(st.ip_addresses())
def test_what_passes_is_global_unicast(address: IPv4Address | IPv6Address) -> None:
    try:
        CLOSED.check_address(str(address), "api.example.com")
    except AddressRefused:
        return
    inner = getattr(address, "ipv4_mapped", None) or address
    if isinstance(inner, IPv6Address) and str(inner).startswith("64:ff9b::"):
        inner = IPv4Address(int(inner) & 0xFFFFFFFF)
    assert inner.is_global
    assert not inner.is_multicast
    assert not inner.is_private


@given(st.integers(0, 2**32 - 1))
def test_an_embedded_address_is_never_better_than_the_address_itself(number: int) -> None:
    ip = str(IPv4Address(number))
    try:
        CLOSED.check_address(ip, "api.example.com")
    except AddressRefused:
        for form in embedded_forms(ip):
            with pytest.raises(AddressRefused):
                CLOSED.check_address(form, "api.example.com")


MUTATIONS = st.sampled_from(list("\\@#?%:/.[] \t\n\x000123456789abcdefxXoO-_;。①\u200b"))


@given(
    st.sampled_from([url for url in CORPUS if url]),
    st.lists(st.tuples(st.integers(0, 200), MUTATIONS, st.booleans()), max_size=4),
)
def test_no_mutation_of_a_trick_reaches_a_forbidden_address(
    url: str, edits: list[tuple[int, str, bool]]
) -> None:
    for position, character, replaces in edits:
        at = position % (len(url) + 1)
        url = url[:at] + character + url[at + replaces :]
    try:
        parsed = CLOSED.check_destination(url)
    except OutboundError:
        return
    # What passed is a name (the resolver decides where it leads) or a public address, and reads the same again.
    assert CLOSED.check_url(str(parsed)) == parsed
    try:
        assert ip_address(parsed.host).is_global
    except ValueError:
        # A name that the C library would take for a number never passes for a name.
        with pytest.raises(OSError):
            socket.inet_aton(parsed.host)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://api.example.com/{text}"):
        try:
            parsed = CLOSED.check_url(url)
        except BadUrl:
            continue
        assert parsed.scheme == "https"
        assert parsed.host.isascii()
