"""Twenty rotations at the same moment, against a real server: one happens, and one secret works in the end."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.gateway.door import Door, Key, eventually
from tests.support.page import Page, last_form
from tests.support.server import Server

AT_ONCE = 20


@pytest.fixture
def browser(door: Door, yard) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{door.server.url}/console/", trust_env=False, timeout=60
    ) as client:
        credentials = {"username": Server.operator, "password": yard.operator_password}
        answer = client.post(
            "sign-in/", data={**last_form(client.get("sign-in/").text), **credentials}
        )
        assert answer.status_code == 302, answer.text
        yield client


def send_at_once(
    browser: httpx.Client, path: str, forms: list[dict[str, Any]]
) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(forms)) as threads:
        return list(threads.map(lambda form: browser.post(path, data=form), forms))


def secrets_in(answers: list[httpx.Response]) -> list[str]:
    marked = 'aria-label="The secret">'
    return [a.text.split(marked)[1].split("<")[0] for a in answers if marked in a.text]


def rotations(door: Door, key: Key) -> int:
    statement = "SELECT COUNT(*) FROM tenants_auditevent WHERE action = %s AND outcome = %s AND target_id = %s"
    return int(door.server.query(statement, ["key.rotated", "ok", key.id])[0][0])


@pytest.mark.parametrize("tabs", [1, AT_ONCE], ids=["one-form-twenty-times", "twenty-tabs"])
def test_of_twenty_rotations_at_once_one_happens(door: Door, browser: httpx.Client, tabs: int):
    key = door.new_key(name="rotated")
    path = f"keys/{key.id}/rotate/"
    drawn = [last_form(browser.get(path).text) for _ in range(tabs)]
    values = {"grace": "0", "typed": "rotated"}
    forms = [{**drawn[number % tabs], **values} for number in range(AT_ONCE)]

    answers = send_at_once(browser, path, forms)

    statuses = sorted(answer.status_code for answer in answers)
    shed = statuses.count(503)
    assert statuses.count(200) == 1
    assert statuses.count(409) == AT_ONCE - 1 - shed, statuses
    [secret] = secrets_in(answers)
    assert rotations(door, key) == 1
    current = door.server.query(
        "SELECT COUNT(*) FROM keys_keysecret WHERE key_id = %s AND not_after IS NULL",
        [_stored(door, key)],
    )
    assert current == [(1,)]
    eventually(lambda: door.chat("oracle/x", key=key).status_code == 401)
    assert door.chat("oracle/x", key=Key(key.id, secret[:10], secret)).status_code == 200


def _stored(door: Door, key: Key) -> str:
    """An id as the database has it."""
    return key.id.replace("-", "") if door.on_sqlite else key.id


def test_the_pages_of_a_real_server_are_guarded_and_its_static_files_there(
    door: Door, browser: httpx.Client
):
    answer = browser.get("keys/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Page(answer.text)
    assert page.faults == []
    for link in [part.split('"')[0] for part in answer.text.split('"/static/')[1:]]:
        served = browser.get(f"{door.server.url}/static/{link}")
        assert (served.status_code, "immutable" in served.headers["cache-control"]) == (200, True)


def test_too_large_a_form_is_refused_by_a_page(browser: httpx.Client):
    answer = browser.post("tenants/new/", content=b"x" * (2 * 1024 * 1024))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert Page(answer.text).faults == []
