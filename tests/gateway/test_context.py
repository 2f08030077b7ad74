"""The id of a request, and where it comes from."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import cast

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client

from gateway import context
from gateway.context import client_address, request_id_for
from gateway.middleware import RequestContext
from tenants.models import AuditEvent

PROXIES = ["10.0.0.0/8", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:4711", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.1,", "10.0.0.1"),
        ("::ffff:10.0.0.1", "2001:db8::2", "2001:db8::2"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("2001:db8::1", "2600::7", "2600::7"),
        ("", "198.51.100.1", ""),
        ("unix", "198.51.100.1", ""),
        ("10.0.0.1", ", ".join(["6.6.6.6"] + ["10.0.0.2"] * 5000), "10.0.0.2"),
    ],
)
def test_the_caller_is_the_nearest_hop_that_is_no_proxy_of_ours(peer, forwarded, expected):
    assert client_address(peer, forwarded, PROXIES) == expected


def test_without_proxies_nobody_can_say_where_they_come_from():
    assert client_address("10.0.0.1", "198.51.100.1", []) == "10.0.0.1"


@pytest.mark.parametrize("own", ["12345678", "a-b_C9" * 2, "x" * 64])
def test_a_caller_s_own_id_of_good_form_is_kept(own):
    assert request_id_for(own) == own


@pytest.mark.parametrize(
    "own", [None, "", "1234567", "x" * 65, "a b c d e", "né" * 8, "12345678\n"]
)
def test_any_other_id_is_replaced_by_a_new_one(own):
    made = {request_id_for(own) for _ in range(2)}
    assert len(made) == 2
    assert all(len(text) == 32 for text in made)


def test_the_audit_has_the_forwarded_address_only_from_a_trusted_proxy(
    db, cheap_passwords, settings
):
    body = {"username": "nobody", "password": "wrong"}
    for trusted, expected in (([], "127.0.0.1"), (["127.0.0.1"], "198.51.100.1")):
        settings.TRUSTED_PROXIES = trusted
        Client().post(
            "/v1/admin/auth/login",
            body,
            content_type="application/json",
            headers={"x-forwarded-for": "6.6.6.6, 198.51.100.1"},
        )
        assert AuditEvent.objects.latest("created_at").address == expected


def test_either_header_brings_an_id_and_both_carry_it_back():
    for name in ("x-request-id", "request-id"):
        answer = Client().get("/livez", headers={name: "my-own-id"})
        assert answer.headers["x-request-id"] == answer.headers["request-id"] == "my-own-id"


async def test_an_asynchronous_request_has_its_id_as_well():
    answer = await AsyncClient().get("/livez", headers={"x-request-id": "my-own-id"})
    assert answer.headers["x-request-id"] == answer.headers["request-id"] == "my-own-id"


async def test_requests_at_once_never_see_each_other_s_id():
    seen: dict[str, set[str]] = {}

    async def view(request: HttpRequest) -> HttpResponse:
        own = str(getattr(request, "request_id"))  # noqa: B009 - the middleware adds it
        seen[own] = {context.request_id.get()}
        for _ in range(5):
            await asyncio.sleep(0)
            seen[own].add(context.request_id.get())
        return HttpResponse()

    middleware = RequestContext(view)

    async def call(number: int) -> None:
        request = HttpRequest()
        request.META["HTTP_X_REQUEST_ID"] = f"request-{number:04d}"
        await cast(Awaitable[HttpResponse], middleware(request))

    await asyncio.gather(*(call(number) for number in range(200)))
    assert all(ids == {own} for own, ids in seen.items())
    assert len(seen) == 200
    assert context.request_id.get() == ""


def test_the_id_is_gone_after_the_request_and_after_a_failure():
    def failing(request: HttpRequest) -> HttpResponse:
        logging.getLogger(__name__).debug("%s", context.request_id.get())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        RequestContext(failing)(HttpRequest())
    assert context.request_id.get() == ""
