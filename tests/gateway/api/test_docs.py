"""`/v1/admin/docs`: every operation on one page, for who is known."""

import html
import re

import pytest
from django.conf import settings
from django.test import Client

from gateway.api import schema
from tests.cast import Api, Console
from tests.support.page import Elements

# Pages about the API.
pytestmark = pytest.mark.sqlite

PAGE = "/v1/admin/docs"


@pytest.fixture
def page(console):
    answer = console.get(PAGE)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    return answer.content.decode()


def test_it_has_every_operation_with_its_curl_line_and_its_errors(page):
    text = html.unescape(re.sub(r"</?code>", "`", page))
    ids = {attributes.get("id") for _, attributes in Elements(page).found}
    refusals = schema.document()["components"]["responses"]
    for route in schema.routes():
        operation = schema.document()["paths"][route.path][route.method.lower()]
        assert operation["operationId"] in ids
        assert f"{route.method} {route.path}" in text
        assert f"{settings.PUBLIC_URL}{route.path} " in f"{text} "
        for status, response in operation["responses"].items():
            told = refusals[status] if "$ref" in response else response
            assert status < "300" or told["description"] in text


def test_members_of_what_is_in_a_list_of_a_body_are_told(page):
    for name in ("targets[].upstream_model", "prices[].input_usd_per_mtok"):
        assert f"<code>{name}</code>" in page
    assert "any or any" not in page


def test_it_takes_nothing_inline_and_nothing_from_elsewhere(page):
    elements = Elements(page).found
    assert not {tag for tag, _ in elements} & {"script", "style", "iframe", "object", "form"}
    for tag, attributes in elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag
    sources = [str(attributes["href"]) for tag, attributes in elements if tag in {"a", "link"}]
    assert all(re.match(r"[/#](?!/)", source) for source in sources)
    assert "/v1/admin/schema" in sources


def test_a_stranger_signs_in_first_and_comes_back(operator):
    console = Console()
    answer = console.get(PAGE)
    assert answer.status_code == 302
    assert answer.headers["location"] == f"/console/sign-in/?next={PAGE}"
    credentials = {"username": operator.username, "password": "a lamp in every window"}
    back = console.submit(answer.headers["location"], credentials)
    assert back.headers["location"] == PAGE
    assert console.get(PAGE).status_code == 200


def test_programs_show_what_the_api_takes(api, key):
    local = Client(SERVER_NAME="localhost")
    answer = local.get(PAGE, headers={"authorization": f"Bearer {api.token}"})
    assert answer.status_code == 200
    for token in ("nonsense", key.credential.reveal().decode()):
        answer = local.get(PAGE, headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 302


def test_it_is_read_only(console):
    assert console.post(PAGE).status_code in (403, 405)
    assert Api().get("docs").status_code in (302, 403)
