"""How the console is reached: TLS or this machine, its cookies, its headers; and that other doors notice nothing of it."""

import pytest
from django.db import OperationalError
from django.test import Client

from tests.cast import PASSWORD, Console
from tests.support.environment import ROOT
from tests.support.page import Page

# Headers, cookies and redirects; signing in is in test_sign_in.py, on both.
pytestmark = pytest.mark.sqlite

POLICY = {
    "default-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "img-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self'",
}
BY_TLS = {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9"}


def assert_guarded(answer) -> None:
    """The headers of every page."""
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
    )
    assert policy == POLICY
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in answer.headers["Permissions-Policy"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_cookies_have_the_names_and_flags_of_their_door(operator, secure, settings):
    settings.SECURE_HSTS_SECONDS = 31_536_000
    browser = Console(secure=secure)
    answer = browser.get("sign-in/")
    assert ("Strict-Transport-Security" in answer.headers) is secure
    browser = browser.signed_in(operator)
    token = browser.form("password/")["csrfmiddlewaretoken"]
    browser.post("theme/", {"csrfmiddlewaretoken": token, "theme": "dark"})
    prefix = "__Host-" if secure else ""
    names = {f"{prefix}gatehouse_{name}" for name in ("session", "form", "theme")}
    cookies = {name: morsel for name, morsel in browser.client.cookies.items() if morsel.value}
    assert set(cookies) == names
    for morsel in cookies.values():
        assert bool(morsel["secure"]) is secure
        assert (morsel["path"], morsel["domain"], morsel["samesite"]) == ("/", "", "Lax")
        assert morsel["httponly"]
    assert not cookies[f"{prefix}gatehouse_session"]["max-age"]


def test_over_tls_a_cookie_without_the_prefix_is_not_believed(operator):
    browser = Console(secure=True).signed_in(operator)
    value = browser.client.cookies["__Host-gatehouse_session"].value
    assert browser.get("keys/").status_code == 200
    other = Console(secure=True)
    other.client.cookies["gatehouse_session"] = value
    assert other.get("keys/").status_code == 302


def test_a_signed_out_browser_loses_its_cookie_over_tls_as_well(operator):
    browser = Console(secure=True).signed_in(operator)
    token = browser.form("password/")["csrfmiddlewaretoken"]
    answer = browser.post("sign-out/", {"csrfmiddlewaretoken": token})
    gone = answer.cookies["__Host-gatehouse_session"]
    assert (gone.value, gone["max-age"]) == ("", 0)
    assert gone["secure"]


def test_a_trusted_proxy_says_that_the_caller_came_by_tls(db, settings):
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    settings.ALLOWED_HOSTS = ["gate.example"]
    answer = Client(REMOTE_ADDR="10.0.0.1", SERVER_NAME="gate.example").get(
        "/console/sign-in/", headers=BY_TLS
    )
    assert answer.status_code == 200
    assert set(answer.cookies) == {"__Host-gatehouse_form"}
    assert_guarded(answer)


@pytest.mark.parametrize(
    ("proxies", "peer", "headers", "host"),
    [
        ([], "203.0.113.9", BY_TLS, "gate.example"),
        (["10.0.0.0/8"], "203.0.113.9", BY_TLS, "gate.example"),
        (["10.0.0.0/8"], "10.0.0.1", {"x-forwarded-for": "203.0.113.9"}, "gate.example"),
        ([], "203.0.113.9", {}, "127.0.0.1"),
        ([], "127.0.0.1", {}, "gate.example"),
        ([], "127.0.0.1", {"x-forwarded-for": "203.0.113.9"}, "localhost"),
        ([], "127.0.0.1", {"via": "1.1 somebody"}, "localhost"),
        (["127.0.0.1"], "127.0.0.1", {"x-forwarded-for": "203.0.113.9"}, "localhost"),
    ],
    ids=[
        "a-stranger-claims-tls",
        "not-the-proxy",
        "the-proxy-has-no-tls",
        "another-machine",
        "not-by-a-name-of-this-machine",
        "through-an-unknown-proxy",
        "through-a-proxy-that-says-little",
        "through-a-proxy-here",
    ],
)
def test_plain_http_from_elsewhere_gets_an_explanation_and_no_cookie(
    db, settings, proxies, peer, headers, host
):
    settings.TRUSTED_PROXIES = proxies
    settings.ALLOWED_HOSTS = ["gate.example", "localhost", "127.0.0.1"]
    client = Client(REMOTE_ADDR=peer, SERVER_NAME=host)
    for answer in (
        client.get("/console/sign-in/", headers=headers),
        client.post("/console/sign-in/", {"username": "x", "password": PASSWORD}, headers=headers),
        client.get("/console/keys/", headers=headers),
    ):
        assert answer.status_code == 403
        assert "TRUSTED_PROXIES" in answer.content.decode()
        assert not answer.cookies
        assert_guarded(answer)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "[::1]", "localhost:9"]
)
def test_this_machine_by_any_of_its_names_gets_in_with_a_banner(db, settings, host):
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
    answer = Client().get("/console/sign-in/", headers={"host": host})
    assert answer.status_code == 200
    assert "Plain HTTP" in answer.content.decode()


def test_over_tls_there_is_no_such_banner(operator):
    assert "Plain HTTP" not in Console(secure=True).get("sign-in/").content.decode()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/console", 302),
        ("/console/", 302),
        ("/console/sign-in/", 200),
        ("/console/nothing/", 302),
        ("/console/keys/\0/", 302),
        ("/console/sign-out/", 405),
    ],
)
def test_every_answer_to_a_stranger_is_guarded(db, path, status):
    answer = Console().get(path)
    assert answer.status_code == status
    assert_guarded(answer)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nothing/", 404),
        ("keys/not-an-id/", 404),
        ("keys/00000000-0000-4000-8000-000000000000/", 404),
        ("keys/?p=nonsense", 200),
        ("keys/?p=9999", 200),
        ("keys/?tenant__slug__regex=(a%2B)%2B", 400),
        ("keys/?o=nonsense", 200),
        ("keys/?status=nonsense", 200),
        ("keys/?q=%00", 200),
        ("audit/?q=" + "x" * 3000, 403),
    ],
)
def test_what_is_not_there_or_cannot_be_read_is_a_page_of_ours(console, path, status):
    answer = console.get(path)
    assert answer.status_code == status
    assert_guarded(answer)
    page = answer.content.decode()
    assert Page(page).faults == []
    for inside in ("Traceback", "django", "Django", str(ROOT), "SELECT "):
        assert inside not in page


def test_a_failure_shows_a_page_without_a_word_of_what_is_inside(console, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("hunter2 lies in /var/lib")

    monkeypatch.setattr("keys.admin.ShownKey.of", fail)
    console.client.raise_request_exception = False
    answer = console.get("keys/00000000-0000-4000-8000-000000000000/rotate/")
    assert answer.status_code == 404
    monkeypatch.setattr("tenants.console.HouseAdmin.get_changelist_instance", fail)
    answer = console.get("keys/")
    assert answer.status_code == 500
    assert "hunter2" not in answer.content.decode()
    assert answer.headers["x-request-id"] in answer.content.decode()
    assert_guarded(answer)


def test_a_database_that_is_away_is_said_so(console, monkeypatch):
    def fail(*_: object) -> None:
        raise OperationalError("connection to 10.9.8.7 refused")

    monkeypatch.setattr("tenants.sessions.cookie_session", fail)
    console.client.raise_request_exception = False
    for answer in (console.get("keys/"), console.get("sign-in/"), console.get("nothing/")):
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
        assert "10.9.8.7" not in answer.content.decode()
        assert_guarded(answer)


@pytest.mark.parametrize("path", ["/livez", "/v1/admin/tenants", "/v1/nothing"])
def test_other_doors_notice_nothing_of_the_console(db, path):
    answer = Client(SERVER_NAME="localhost").get(path, headers={"cookie": "gatehouse_session=x"})
    assert "Content-Security-Policy" not in answer.headers
    assert "Permissions-Policy" not in answer.headers
    assert not answer.cookies
    assert answer.headers["content-type"] == "application/json"


def test_static_files_may_be_kept_for_ever_under_names_that_change(db):
    page = Console().get("sign-in/").content.decode()
    links = [part.split('"')[0] for part in page.split('href="')[1:]]
    sheets = [link for link in links if link.startswith("/static/") and link.endswith(".css")]
    assert len(sheets) == 2
    for sheet in sheets:
        answer = Client(SERVER_NAME="localhost").get(sheet)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "max-age=315360000, public, immutable"
        assert answer.headers["Content-Type"].startswith("text/css")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert not answer.cookies
        again = Client().get(sheet, headers={"if-none-match": answer.headers["ETag"]})
        assert again.status_code == 304
        packed = Client().get(sheet, headers={"accept-encoding": "gzip"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert len(packed.content) < len(answer.content)


@pytest.mark.parametrize(
    "name",
    ["nothing.css", "../manage.py", "console/../../manage.py", "sources.sha256.gz", "%2e%2e/x"],
)
def test_nothing_but_static_files_is_served_as_such(db, name):
    assert Client().get(f"/static/{name}").status_code == 404
