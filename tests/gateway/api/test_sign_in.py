"""Operators sign in, are recognised, sign out; nothing but a live session's token opens the admin API."""

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from unittest import mock

import jwt
import pytest
import time_machine
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth.hashers import MD5PasswordHasher

from keys import tokens
from keys.models import APIKey
from tenants import keyring
from tenants.models import AuditEvent, Session, SignInTry, User
from tenants.operator_services import create_operator, disable_operator, reset_password
from tenants.tries import API, HELD_AGAINST, MOST, REMEMBERED, WRONG_TRIES
from tests.cast import PASSWORD, Api, Console

NEW_PASSWORD = "another lamp, another window"


def _login(username: object, password: object = PASSWORD):
    return Api().post("auth/login", {"username": username, "password": password})


def test_a_good_login_gives_a_token_and_its_end(operator):
    answer = _login("THE-operator")
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {"token", "token_type", "expires_at", "username", "must_change_password"}
    assert (body["token_type"], body["username"]) == ("Bearer", "the-operator")
    assert body["must_change_password"] is False
    life = datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)
    assert body["expires_at"].endswith("Z")
    assert timedelta(hours=7, minutes=59) < life <= timedelta(hours=8)
    assert "set-cookie" not in answer.headers


def test_a_login_notes_when_and_makes_no_key(operator):
    assert operator.last_login is None
    _login("the-operator")
    operator.refresh_from_db()
    assert operator.last_login is not None
    assert APIKey.objects.count() == 0


@pytest.mark.parametrize(
    ("username", "password"),
    [("the-operator", "wrong"), ("nobody", PASSWORD), ("nobody", "wrong")],
)
def test_a_wrong_password_and_an_unknown_user_get_the_same_401(operator, username, password):
    expected = _login("the-operator", "something else").json()["error"]
    answer = _login(username, password)
    assert answer.status_code == 401
    assert answer.json()["error"] == expected
    assert expected["code"] == "invalid_credentials"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_unknown_user_costs_as_much_hashing_as_a_wrong_password(operator):
    hashed = []
    for username in ("the-operator", "nobody"):
        encode = MD5PasswordHasher.encode
        with mock.patch.object(MD5PasswordHasher, "encode", autospec=True) as counted:
            counted.side_effect = encode
            assert _login(username, "wrong").status_code == 401
            hashed.append(counted.call_count)
    assert hashed == [1, 1]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "the-operator"},
        {"username": "the-operator", "password": ""},
        {"username": 1, "password": PASSWORD},
        {"username": "the-operator", "password": [PASSWORD]},
        {"username": "the-operator", "password": "x" * 1025},
        {"username": "the-operator", "password": PASSWORD, "role": "owner"},
        [],
    ],
)
def test_a_login_that_is_no_login_is_a_400(operator, body):
    answer = Api().post("auth/login", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_a_login_body_over_8_kib_is_a_413(operator):
    assert _login("the-operator", "x" * 9000).status_code == 413


def test_attempts_are_audited_but_not_what_was_typed_as_a_name(operator):
    """People type passwords into the wrong field, and this log keeps what it gets."""
    _login("correct horse battery staple", "wrong")
    row = AuditEvent.objects.get(action="operator.sign_in")
    assert (row.outcome, row.error_code) == ("refused", "invalid_credentials")
    assert (row.actor_type, row.actor_id, row.method) == ("visitor", "anonymous", "password")
    assert (row.target_id, row.target_label) == ("unknown", "")
    _login("the-operator", "wrong")
    row = AuditEvent.objects.filter(action="operator.sign_in").latest("created_at")
    assert (row.outcome, row.target_label) == ("refused", "the-operator")
    _login("the-operator")
    row = AuditEvent.objects.filter(action="operator.sign_in").latest("created_at")
    assert (row.outcome, row.actor_type, row.actor_label) == ("ok", "operator", "the-operator")


def test_no_token_opens_nothing(db):
    answer = Api().get("tenants")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_credentials")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_good_token_says_who_it_is(api, operator):
    body = api.get("auth/me").json()
    assert (body["username"], body["role"]) == ("the-operator", "operator")
    assert body["session"]["id"] == str(Session.objects.get().id)
    assert api.get("tenants").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer " + "a" * 5000,
        "Bearer  {token}",
        "Basic {token}",
        "Token {token}",
        "{token}",
        "Bearer {token}x",
        "Bearer {token} more",
        "Bearer {key}",
        "Bearer gwm_" + "0" * 49,
        "Bearer gwa_" + "0" * 49,
    ],
)
def test_a_bad_token_opens_nothing(api, key, header):
    sent = header.format(token=api.token, key=key.credential.reveal().decode())
    answer = Api().get("tenants", headers={"authorization": sent})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_credentials")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("name", ["x-api-key", "api-key", "x-admin-key", "cookie"])
def test_a_token_anywhere_else_opens_nothing(api, name):
    value = f"sessionid={api.token}" if name == "cookie" else api.token
    assert Api().get("tenants", headers={name: value}).status_code == 401


def test_a_token_in_the_address_opens_nothing(api):
    assert Api().get(f"tenants?token={api.token}").status_code == 401


def test_logout_ends_the_token(api):
    assert api.post("auth/logout").status_code == 204
    assert api.get("auth/me").status_code == 401
    assert api.post("auth/logout").status_code == 401


def test_a_session_ends_after_eight_hours(api):
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=8, seconds=1)):
        assert api.get("auth/me").status_code == 401


def test_a_disabled_operator_is_out_at_once(api, operator, owner, staging):
    disable_operator(actor=staging, username=operator.username)
    assert api.get("auth/me").status_code == 401
    assert _login("the-operator").status_code == 401


def test_a_person_without_a_role_is_no_operator(api, operator):
    User.objects.filter(pk=operator.pk).update(role="")
    assert api.get("auth/me").status_code == 401
    assert _login("the-operator").status_code == 401


def test_a_password_change_ends_the_other_sessions(api, operator):
    other = api.signed_in(operator)
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert api.post("auth/change-password", body).status_code == 204
    assert other.get("auth/me").status_code == 401
    assert api.get("auth/me").status_code == 200
    assert _login("the-operator").status_code == 401
    assert _login("the-operator", NEW_PASSWORD).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"current_password": "wrong", "new_password": NEW_PASSWORD}, 401),
        ({"current_password": PASSWORD, "new_password": "short"}, 400),
        ({"current_password": PASSWORD, "new_password": PASSWORD}, 400),
        ({"current_password": PASSWORD, "new_password": 7}, 400),
        ({"new_password": NEW_PASSWORD}, 400),
    ],
)
def test_a_password_change_needs_the_old_and_a_good_new_one(api, body, status):
    assert api.post("auth/change-password", body).status_code == status
    assert _login("the-operator").status_code == 200


def test_an_open_session_is_no_place_to_guess_at_its_password(api, operator):
    guesses = [
        api.post(
            "auth/change-password",
            {"current_password": f"wrong {number}", "new_password": NEW_PASSWORD},
        ).status_code
        for number in range(8)
    ]
    assert guesses == [401] * 5 + [429] * 3
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert api.post("auth/change-password", body).status_code == 429, "nothing is looked at"
    operator.refresh_from_db()
    assert operator.check_password(PASSWORD)


def test_who_must_change_the_password_can_do_only_that(operator, staging):
    reset_password(actor=staging, username=operator.username, password=NEW_PASSWORD)
    answer = _login("the-operator", NEW_PASSWORD)
    assert answer.json()["must_change_password"] is True
    api = Api(answer.json()["token"])
    refused = api.get("tenants")
    assert (refused.status_code, refused.json()["error"]["code"]) == (
        403,
        "password_change_required",
    )
    assert api.get("auth/me").status_code == 200
    body = {"current_password": NEW_PASSWORD, "new_password": PASSWORD}
    assert api.post("auth/change-password", body).status_code == 204
    assert api.get("tenants").status_code == 200


# Forged tokens


def _parts(token: str) -> tuple[dict, dict, str]:
    header, claims, signature = token.split(".")
    return _unpacked(header), _unpacked(claims), signature


def _unpacked(part: str):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _packed(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _signed(header: dict, claims: dict, secret: bytes, digest: str = "sha256") -> str:
    """Signed by hand: a good library refuses to forge."""
    body = f"{_packed(header)}.{_packed(claims)}"
    signature = hmac.digest(secret, body.encode(), digest)
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _true_key() -> bytes:
    return keyring.platform_key(keyring.SIGN_IN, "operator-token").reveal()


def _refused(token: str) -> bool:
    answer = Api(token).get("auth/me")
    return answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_credentials"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, "HS0", "ES256"])
def test_a_token_that_names_no_real_algorithm_is_refused(api, algorithm):
    _, claims, signature = _parts(api.token)
    head = _packed({"alg": algorithm, "typ": "JWT"})
    for tail in ("", signature):
        assert _refused(f"{head}.{_packed(claims)}.{tail}")


@pytest.mark.parametrize(
    "secret", [b"", b"\x00" * 32, b"secret", b"gatehouse", b"x" * 32], ids=lambda s: s[:8].hex()
)
def test_a_token_signed_with_another_secret_is_refused(api, secret):
    header, claims, _ = _parts(api.token)
    assert _refused(_signed(header, claims, secret))


def test_a_token_signed_with_django_s_own_secret_is_refused(api, settings):
    header, claims, _ = _parts(api.token)
    assert _refused(_signed(header, claims, settings.SECRET_KEY.encode()))


@pytest.mark.parametrize("bits", [384, 512])
def test_the_true_secret_under_another_algorithm_is_refused(api, bits):
    header, claims, _ = _parts(api.token)
    forged = {**header, "alg": f"HS{bits}"}
    assert _refused(_signed(forged, claims, _true_key(), f"sha{bits}"))


def test_a_token_signed_with_rsa_is_refused_also_when_it_calls_itself_hmac(api):
    header, claims, _ = _parts(api.token)
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert _refused(jwt.encode(claims, private, algorithm="RS256"))
    for encoding in (serialization.Encoding.DER, serialization.Encoding.PEM):
        public = private.public_key().public_bytes(
            encoding, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert _refused(_signed(header, claims, public))


@pytest.mark.parametrize(
    "extra",
    [
        {"kid": "../../dev/null"},
        {"kid": "x' OR '1'='1"},
        {"jku": "https://evil.example/jwks"},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"x5u": "https://evil.example/x5u"},
        {"x5c": ["AAAA"]},
        {"crit": ["exp"], "exp": 1},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_a_well_signed_token_that_brings_its_own_key_is_refused(api, extra):
    header, claims, _ = _parts(api.token)
    assert _refused(_signed({**header, **extra}, claims, _true_key()))


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "somebody-else"},
        {"aud": None},
        {"iss": "somebody-else"},
        {"typ": "confirm-ticket"},
        {"typ": None},
        {"exp": 1},
        {"exp": None},
        {"iat": 99999999999},
        {"jti": "6f0a3c1e-0000-4000-8000-000000000001"},
        {"jti": "x"},
        {"jti": None},
        {"sub": "6f0a3c1e-0000-4000-8000-000000000002"},
        {"sub": None},
    ],
    ids=str,
)
def test_a_well_signed_token_with_a_wrong_claim_is_refused(api, change):
    header, claims, _ = _parts(api.token)
    forged = {name: value for name, value in {**claims, **change}.items() if value is not None}
    assert _refused(_signed(header, forged, _true_key()))


def test_the_unchanged_claims_signed_again_are_accepted(api):
    """So that the refusals above are due to what was changed."""
    header, claims, _ = _parts(api.token)
    assert not _refused(_signed(header, claims, _true_key()))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_token_with_one_changed_character_is_refused(api, part):
    parts = api.token.split(".")
    middle = len(parts[part]) // 2
    other = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
    assert _refused(".".join(parts))


@pytest.mark.parametrize("head", ["[" * 700, '{"a":' * 150, "null", "[]", '"HS256"'])
def test_a_token_with_a_strange_head_is_refused(db, head):
    packed = base64.urlsafe_b64encode(head.encode()).rstrip(b"=").decode()
    assert _refused(f"{packed}.e30.AAAA")


def test_a_service_token_that_nobody_issued_opens_nothing(db):
    assert _refused(tokens.generate(tokens.Kind.SERVICE_TOKEN).reveal().decode())


def test_a_forgotten_password_leaves_no_open_session(api, operator, staging):
    reset_password(actor=staging, username=operator.username, password=NEW_PASSWORD)
    assert api.get("auth/me").status_code == 401


def test_two_people_have_two_sessions(db, cheap_passwords, staging):
    for name in ("ann", "ben"):
        create_operator(actor=staging, username=name, password=PASSWORD)
    ann, ben = (Api(_login(name).json()["token"]) for name in ("ann", "ben"))
    assert ann.post("auth/logout").status_code == 204
    assert ben.get("auth/me").json()["username"] == "ben"


def _from(address: str, username: str = "the-operator", password: str = PASSWORD):
    body = {"username": username, "password": password}
    return Api().post("auth/login", body, address=address)


def test_who_guesses_has_to_wait_and_keeps_nobody_else_out(operator):
    for n in range(WRONG_TRIES):
        assert _login("the-operator" if n % 2 else "nobody", "wrong").status_code == 401
    refused = _login("the-operator")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert Session.objects.count() == 0
    assert _from("192.0.2.7").status_code == 200
    with time_machine.travel(datetime.now(UTC) + HELD_AGAINST + timedelta(seconds=1)):
        assert _login("the-operator").status_code == 200


def test_the_sixth_login_in_a_minute_is_refused_also_if_all_were_right(operator):
    start = datetime.now(UTC)
    with time_machine.travel(start, tick=False) as clock:
        for _ in range(MOST[API]):
            assert _login("the-operator").status_code == 200
            clock.shift(timedelta(seconds=10))
        for _ in range(3):
            assert _login("the-operator").status_code == 429
        assert _from("192.0.2.7").status_code == 200
        clock.move_to(start + timedelta(seconds=61))
        assert _login("the-operator").status_code == 200
        assert _login("the-operator").status_code == 429


def test_what_was_refused_counts_against_nobody(operator):
    start = datetime.now(UTC)
    with time_machine.travel(start, tick=False) as clock:
        for _ in range(MOST[API] + 10):
            _login("the-operator")
        clock.shift(timedelta(seconds=61))
        assert _login("the-operator").status_code == 200


def test_the_address_that_counts_is_not_one_that_a_caller_made_up(operator):
    body = {"username": "the-operator", "password": "wrong"}
    statuses = [
        Api().post("auth/login", body, headers={"x-forwarded-for": f"198.51.100.{n}"}).status_code
        for n in range(WRONG_TRIES + 1)
    ]
    assert statuses == [401] * WRONG_TRIES + [429]


def test_a_name_that_is_guessed_at_from_everywhere_is_not_locked(operator):
    for n in range(30):
        assert _from(f"192.0.2.{n}", password="wrong").status_code == 401
    assert _from("198.51.100.1").status_code == 200


def _waits(*attempts: tuple[str, str]) -> list[float]:
    """By how much each answer is to be late, of attempts that come each from somewhere else."""
    waits: list[float] = []
    with mock.patch("gateway.lateness.hold_back", side_effect=lambda _, wait: waits.append(wait)):
        for n, (username, password) in enumerate(attempts):
            _from(f"203.0.113.{n}", username, password)
    return waits


def test_answers_for_a_name_that_is_guessed_at_come_later_and_later_but_never_very_late(operator):
    waits = _waits(*[("the-operator", "wrong")] * 12)
    assert waits == [0, 0, 0, 0.25, 0.5, 1, 2, 2, 2, 2, 2, 2]


def test_the_wait_tells_neither_whether_the_name_is_known_nor_whether_the_password_is_right(
    operator, viewer
):
    known, unknown = (_waits(*[(name, "wrong")] * 6) for name in ("The-Operator", "nobody-here"))
    assert known == unknown
    assert _waits(("the-operator", PASSWORD)) == _waits(("nobody-here", PASSWORD)) == [2]
    assert _waits(("the-viewer", PASSWORD)) == [0]


def test_what_was_tried_is_forgotten_after_a_quarter_of_an_hour(operator):
    _waits(*[("the-operator", "wrong")] * 6)
    with time_machine.travel(datetime.now(UTC) + REMEMBERED + timedelta(seconds=1)):
        assert _waits(("the-operator", PASSWORD)) == [0]
        assert SignInTry.objects.count() == 1


def test_of_a_name_that_was_tried_no_table_has_the_text(operator):
    _login("correct horse battery staple", "wrong")
    row = SignInTry.objects.get()
    assert len(bytes(row.name_digest)) == 32
    assert "horse" not in str(SignInTry.objects.values().get())


def test_one_signs_out_everywhere_at_once(api, operator, viewer):
    other, console = api.signed_in(operator), Console().signed_in(operator)
    somebody = Api().signed_in(viewer)
    answer = api.post("auth/sign-out-everywhere")
    assert (answer.status_code, answer.json()) == (200, {"ended_sessions": 3})
    assert [each.get("auth/me").status_code for each in (api, other, somebody)] == [401, 401, 200]
    assert console.get("keys/").status_code == 302
