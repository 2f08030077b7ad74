"""What is secret stays secret: planted, used on every path that fails, and then looked for in all that was written or said."""

import json
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest
from django.conf import settings

from tests.gateway.door import Door, Key, eventually, opened
from tests.support import dump, page
from tests.support.server import Server, Yard

SCRIPTS = [
    *("ok", "cut:2", "cut-utf8", "error-event:2", "no-done", "stall:1", "hang", "close", "reset"),
    *("html", "empty", "garbage", "gzip-bomb:8MiB", "endless-headers"),
    *(f"status:{status}" for status in (400, 401, 403, 429, 500, 503)),
    *("echo-auth-in-error", "echo-auth-in-error+status:500", "redirect:http://127.0.0.1:9/"),
]


#: Pages of the console that are looked at: more than there are kinds, fewer than would take long.
MOST_PAGES = 160


@dataclass
class Planted:
    """A server, what nobody may find again, and every word that it said to anybody."""

    door: Door
    password: str
    key: Key
    upstream_keys: list[str]
    metrics_token: str
    cookies: list[str] = field(default_factory=list)
    prompt: str = field(default_factory=lambda: f"prompt {secrets.token_hex(16)}")
    said: list[bytes] = field(default_factory=list)

    def hear(self, answer: httpx.Response) -> None:
        head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
        self.said.append(head.encode() + answer.content)

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.prompt}]

    @property
    def never(self) -> list[bytes]:
        """What may stand nowhere at all."""
        texts = [self.password, self.key.secret, self.key.secret[10:], *self.upstream_keys]
        texts += [self.metrics_token, *self.cookies]
        texts += [key.removeprefix("sk-") for key in self.upstream_keys]
        return [text.encode() for text in texts]


@pytest.fixture(scope="module")
def planted(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """At the most talkative level; on a server of its own, because at the end it is stopped and taken apart."""
    metrics_token = secrets.token_urlsafe(32)
    env = {
        "GATEHOUSE_TIMEOUT_FIRST_BYTE": "1",
        "GATEHOUSE_TIMEOUT_BETWEEN_CHUNKS": "1",
        "GATEHOUSE_METRICS_TOKEN": metrics_token,
        "LOG_LEVEL": "DEBUG",
    }
    with opened(yard, tmp_path_factory.mktemp("secrets"), env) as door:
        tenant = door.new_tenant(content_logging=True)
        key = door.new_key(tenant, log_content=True)
        found = Planted(door, yard.operator_password, key, [door.upstream_key], metrics_token)
        _work(found)
        yield found


def _work(planted: Planted) -> None:
    """Every path that a secret could leave by."""
    door, key = planted.door, planted.key
    for script in SCRIPTS:
        for stream in (False, True):
            model, messages = f"oracle/{script}", planted.messages
            planted.hear(door.chat(model, key=key, messages=messages, stream=stream))
    _bad_requests(planted)
    _broken_requests(planted)
    _changes(planted)
    _browse(planted)
    bearer = {"authorization": f"Bearer {planted.metrics_token}"}
    planted.hear(door.client.get("/metrics", headers=bearer))
    planted.hear(door.client.get("/metrics", headers=planted.key.bearer))


def _bad_requests(planted: Planted) -> None:
    door, key, prompt = planted.door, planted.key, planted.prompt
    good = {"model": "oracle/ok", "messages": planted.messages}
    text = json.dumps(good).encode()
    for body in (text[:-1], text + text, b"[" + text, text[:-1] + b',"x":NaN}', prompt.encode()):
        planted.hear(door.post("/v1/chat/completions", body, key=key))
    for changes in ({"model": "no-such"}, {"stream": prompt}, {"n": prompt}, {"messages": prompt}):
        planted.hear(door.post("/v1/chat/completions", {**good, **changes}, key=key))
    for path in (
        "/v1/nope",
        "/v1/models/x",
        "/v1/admin/tenants",
        "/livez",
        "/v1/chat/completions/",
    ):
        planted.hear(door.client.get(path, headers=key.bearer))
    twice = {"x-api-key": key.secret[:-1] + "x"}
    planted.hear(door.post("/v1/chat/completions", good, key=key, headers=twice))
    for header in ("x-api-key", "api-key", "x-goog-api-key", "cookie", "authorization"):
        planted.hear(door.client.post("/v1/embeddings", json=good, headers={header: key.secret}))
    planted.hear(door.client.post(f"/v1/chat/completions?key={key.secret[:-1]}", json=good))


def _broken_requests(planted: Planted) -> None:
    """What the server refuses before anything of ours sees it."""
    secret = planted.key.secret.encode()
    for lines in (
        b"authorization: Bearer %s\0\r\n" % secret,
        b"authorization : Bearer %s\r\n" % secret,
        b"x-%s\x01: 1\r\n" % secret,
        b"authorization: Bearer %s\r\ncontent-length: %s\r\n" % (secret, secret),
        b"authorization: Bearer %s\r\n" % (secret * 200),
        b"authorization: Bearer %s\r\ntransfer-encoding: %s\r\n" % (secret, secret),
    ):
        with planted.door.connect() as caller:
            caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n" + lines + b"\r\n")
            caller.shutdown(socket.SHUT_WR)
            while piece := caller.recv(65536):
                planted.said.append(piece)


def _changes(planted: Planted) -> None:
    """Credentials that come, change, go, and are refused."""
    door = planted.door
    one, two, three = (f"sk-{secrets.token_hex(20)}" for _ in range(3))
    planted.upstream_keys += [one, two, three]
    provider = door.new_provider(door.oracle.api, one)
    door.change("POST", f"providers/{provider}/rotate-credential", {"api_key": two})
    door.change("PATCH", f"providers/{provider}", {"api_key": None})
    client = httpx.Client(base_url=door.server.url, trust_env=False)
    with client:
        for path, body in (
            (
                "/v1/admin/auth/login",
                {"username": Server.operator, "password": planted.password + "x"},
            ),
            ("/v1/admin/providers", {"name": "x", "kind": "openai", "api_key": three}),
        ):
            planted.hear(client.post(path, json=body))
        refused = {"name": "x", "kind": "nonsense", "api_key": three, "nonsense": three}
        token = door.admin.token
        headers = {"authorization": f"Bearer {token}"}
        planted.hear(client.post("/v1/admin/providers", json=refused, headers=headers))
        bad = json.dumps(refused)[:-1].encode()
        headers["content-type"] = "application/json"
        planted.hear(client.post("/v1/admin/providers", content=bad, headers=headers))
    rotated = door.admin.call("POST", f"keys/{planted.key.id}/rotate", {})
    door.wait_seen()
    assert door.chat("oracle/ok", key=planted.key).status_code == 401
    planted.key = Key(planted.key.id, rotated["key_prefix"], rotated["key"])


def _browse(planted: Planted) -> None:
    """Every page of the console that a link leads to, and forms that are refused with a credential in them."""
    with httpx.Client(base_url=planted.door.server.url, trust_env=False, timeout=30) as browser:
        who = {"username": Server.operator, "password": planted.password}
        assert _send(browser, "/console/sign-in/", who).status_code == 302
        # The one answer that carries it has been given.
        planted.cookies.append(browser.cookies[settings.SESSION_COOKIE_NAME])
        seen, ahead = {"/console/"}, ["/console/"]
        while ahead and len(seen) < MOST_PAGES:
            answer = browser.get(ahead.pop())
            planted.hear(answer)
            if answer.headers["content-type"].startswith("text/html"):
                links = [
                    link for link in page.Page(answer.text).links if link.startswith("/console/")
                ]
                ahead += [link for link in dict.fromkeys(links) if link not in seen]
                seen.update(links)
        assert len(seen) > 40, seen
        key = f"sk-{secrets.token_hex(20)}"
        planted.upstream_keys.append(key)
        refused = {"name": "", "base_url": "nowhere", "api_key": key}
        for path in ("/console/providers/new/?kind=openai", "/console/providers/new/?kind=azure"):
            answer = _send(browser, path, refused)
            assert answer.status_code == 400
            planted.hear(answer)


def _send(browser: httpx.Client, path: str, values: dict[str, str]) -> httpx.Response:
    """The last form of a page, filled in."""
    form = page.last_form(browser.get(path).text)
    return browser.post(path, data={**form, **values}, headers={"origin": str(browser.base_url)})


def test_no_answer_holds_a_secret(planted: Planted) -> None:
    """API, data plane, every page of the console, metrics; heads and bodies."""
    assert len(planted.said) > 100
    assert dump.occurrences(planted.never, b"\n".join(planted.said)) == []


def test_no_error_of_ours_repeats_the_prompt(planted: Planted) -> None:
    """An upstream that quotes the body in its error says to the caller what the caller said; that passes."""
    ours = [text for text in planted.said if b"Incorrect API key provided" not in text]
    assert dump.occurrences([planted.prompt.encode()], b"\n".join(ours)) == []


def test_what_is_kept_is_kept_sealed(planted: Planted) -> None:
    """The prompts were kept, as key and tenant asked: and still they stand nowhere in clear."""
    eventually(lambda: planted.door.count("usage_requestcontent") >= 2 * len(SCRIPTS))


def test_a_running_house_holds_no_secret_in_clear(planted: Planted) -> None:
    """Database with what was deleted from it, write-ahead log, journals, logs at their most talkative."""
    planted.door.assert_nothing_left()
    written = planted.door.server.everything_written()
    assert planted.key.prefix.encode() in written, "this looked in the wrong place"
    assert dump.occurrences([*planted.never, planted.prompt.encode()], written) == []


def test_a_journal_of_calls_in_flight_holds_none_either(planted: Planted) -> None:
    """Killed with calls open, so that the journal cannot have been emptied."""
    door, server = planted.door, planted.door.server
    since = len(door.oracle.calls)
    body = {"model": "oracle/drip:500x0.02", "messages": planted.messages, "stream": True}
    with door.client.stream(
        "POST", "/v1/chat/completions", json=body, headers=planted.key.bearer
    ) as answer:
        next(answer.iter_raw())
        assert len(door.oracle.calls) > since
        server.kill()
    journals = b"".join(path.read_bytes() for path in server.journals())
    assert journals
    assert dump.occurrences([*planted.never, planted.prompt.encode()], journals) == []
    server.start()
    everything = server.everything_written()
    assert dump.occurrences([*planted.never, planted.prompt.encode()], everything) == []
