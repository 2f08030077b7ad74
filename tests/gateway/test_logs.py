"""The log: one line per record, without secrets, and nothing in it can break or forge a line."""

import io
import json
import logging
import secrets
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import context
from gateway.logs import JSONFormatter, RedactionFilter, redact
from tenants.sealing import Secret
from tests.gateway.door import Door

CREDENTIAL = "gwk_" + "aB3" * 16 + "x"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"


class Log:
    """A logger as the settings make it, whose lines can be read."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(JSONFormatter())
        handler.addFilter(RedactionFilter())
        self.logger = logging.getLogger("gatehouse.test")
        self.logger.handlers[:] = [handler]
        self.logger.propagate = False
        self.logger.setLevel(logging.INFO)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def line(self) -> dict[str, Any]:
        lines = self.text.splitlines()
        assert len(lines) == 1, lines
        line: dict[str, Any] = json.loads(lines[0])
        return line


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_record_is_one_json_line_with_time_level_logger_and_message(log):
    before = time.time()
    log.logger.warning("%s calls by %s", 3, "somebody")
    line = log.line()
    assert line["level"] == "WARNING"
    assert line["logger"] == "gatehouse.test"
    assert line["message"] == "3 calls by somebody"
    moment = datetime.fromisoformat(line["time"])
    assert line["time"].endswith("Z")
    assert moment.utcoffset() == timedelta(0)
    assert abs(moment.timestamp() - before) < 5
    assert "request_id" not in line


def test_a_record_carries_the_id_of_the_request_in_hand(log):
    token = context.request_id.set("abcdef123456")
    try:
        log.logger.info("hello")
    finally:
        context.request_id.reset(token)
    assert log.line()["request_id"] == "abcdef123456"


def test_a_record_may_name_the_request_that_it_is_about(log):
    token = context.request_id.set("somebody-elses")
    try:
        log.logger.info("hello", extra={"request_id": "abc\n123"})
    finally:
        context.request_id.reset(token)
    assert log.line()["request_id"] == r"abc\u000a123"


def test_a_line_of_the_relay_carries_the_id_that_the_caller_saw(door: Door):
    model = f"talkative-{secrets.token_hex(4)}"
    door.new_model(model, door.provider_id, "drip:50x0", max_output_tokens=2)
    answers = [door.chat(model, stream=stream) for stream in (False, True)]
    told = [line for line in door.server.log_text().splitlines() if "reported more" in line]
    lines = [json.loads(line) for line in told]
    named = [line["request_id"] for line in lines if line["logger"] == "gateway.relay.using"]
    assert named[-2:] == [answer.headers["x-request-id"] for answer in answers]


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}",
        "{{'authorization': 'Bearer {}'}}",
        "[(b'x-api-key', b'{}'), (b'accept', b'*/*')]",
        'x-api-key: "{}"',
        "X-API-Key={}&x=1",
        '{{"password": "{}"}}',
        "password='{}",
        "proxy-authorization: Basic {}",
        "cookie: sessionid={}; a=b",
        "client_secret={}",
    ],
)
@pytest.mark.parametrize("secret", [CREDENTIAL, "tinysecret1", "sk-live-0123456789abcdef"])
def test_what_is_named_a_secret_is_not_written(log, text, secret):
    log.logger.error(text.format(secret))
    assert secret not in log.text
    assert "***" in log.line()["message"]


@pytest.mark.parametrize(
    "secret",
    [
        CREDENTIAL,
        CREDENTIAL.replace("gwk_", "gwm_"),
        CREDENTIAL.replace("gwk_", "gwa_"),
        "sk-proj-abcDEF123456",
        JWT,
        "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
        "3f8a1c5e7092b4d6f8132a4c6e80b2d4f61839a5c7e90b2d4f6a8c1e3057b9d2",
        "gsk_abcdefghij0123456789",
    ],
)
@pytest.mark.parametrize("form", ["{}", "got <{}>", "x={},", "'{}'", "a\n{}\tb"])
def test_what_looks_like_a_secret_is_not_written(log, secret, form):
    log.logger.error("%s", form.format(secret))
    assert secret not in log.text


def test_a_password_in_an_address_is_not_written(log):
    log.logger.error("cannot reach postgres://house:hunter2@db.example:5432/gatehouse")
    assert "hunter2" not in log.text
    assert "db.example:5432/gatehouse" in log.line()["message"]


def test_a_secret_as_argument_stays_one(log):
    log.logger.error("%s %r", Secret(b"tinysecret1"), Secret(b"tinysecret1"))
    assert "tinysecret1" not in log.text


def test_addresses_and_ids_are_kept(log):
    path = "/v1/admin/tenants/0b9dd6bc-4b2e-4b9e-8f35-5d4ae8d1a4f5/api-keys/0b9dd6bc-4b2e-4b9e-8f35-5d4ae8d1a4f5"
    log.logger.info("GET %s took 12 ms, tokens_in=5", path)
    assert log.line()["message"] == f"GET {path} took 12 ms, tokens_in=5"


@pytest.mark.parametrize(
    "nasty",
    [
        "\n",
        "\r",
        "\x1b[31m",
        "\x00",
        "\u2028",
        "\u2029",
        "\u202e",
        "\u2066",
        "\x85",
        "\ud800",
        "\x9b",
    ],
)
def test_nothing_can_break_or_disguise_a_line(log, nasty):
    log.logger.info("before%safter", nasty)
    assert len(log.text.split("\n")) == 2
    assert nasty not in log.text[:-1]
    message = log.line()["message"]
    assert nasty not in message
    assert message.startswith("before\\u")


def test_a_record_whose_arguments_do_not_fit_is_logged_without_them(log):
    log.logger.error("%d calls", "tinysecret1")
    assert log.line()["message"] == "%d calls (the arguments do not fit: TypeError)"


def test_an_argument_that_cannot_be_shown_does_no_harm(log):
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("tinysecret1")

    log.logger.error("%s", Broken())
    log.logger.error(Broken())
    assert log.text.count("RuntimeError") == 2
    assert "tinysecret1" not in log.text


def test_an_exception_is_told_by_type_message_and_bounded_stack(log):
    def deeper(depth: int) -> None:
        if depth:
            deeper(depth - 1)
        raise ValueError(f"bad {CREDENTIAL}\nforged line")

    try:
        deeper(100)
    except ValueError:
        log.logger.exception("it failed")
    told = log.line()["exception"]
    assert told["type"] == "builtins.ValueError"
    assert CREDENTIAL not in log.text
    assert "\n" not in told["message"]
    assert 1 < len(told["stack"]) <= 40
    assert "test_logs.py:" in told["stack"][-1]


def test_causes_are_told_and_a_circle_of_them_ends(log):
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    try:
        raise first
    except ValueError:
        log.logger.exception("it failed")
    assert log.line()["exception"]["cause"]["type"] == "builtins.KeyError"


def test_a_message_is_bounded(log):
    log.logger.info("x y " * 100_000)
    assert len(log.text) < 10_000


@pytest.mark.parametrize(
    "text", ["a" * 16_000, "eyJ-" * 4_000, "token=" * 3_000, "bearer " * 2_500]
)
def test_redaction_takes_linear_time(text):
    began = time.perf_counter()
    redact(text)
    assert time.perf_counter() - began < 0.5


@given(st.text(), st.text())
def test_any_text_becomes_one_parseable_line(message, argument):
    log = Log()
    template = message.replace("%", "%%") + "%s"
    log.logger.info(template, argument)
    assert log.text.count("\n") == 1
    assert log.line()["level"] == "INFO"


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_credential_never_survives_its_surroundings(before, after):
    secret = "gwk_" + secrets.token_hex(24) + "z"
    log = Log()
    log.logger.info("%s", before + secret + after)
    assert secret not in log.text
