"""Nothing that is secret is compared by an operator that stops at the first difference."""

import ast
import hmac
from unittest import mock

from keys import tokens
from tenants.sealing import Secret
from tests.support import floor_plan

#: Names under which digests and clear credentials are at hand.
SECRET_NAMES = {"fingerprint", "pepper", "password", "api_key", "credential", "kek", "root"}


def compared(tree: ast.AST) -> list[ast.expr]:
    """Everything that stands beside `==`, `!=`, `in` or `<`."""
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and not all(
            isinstance(operator, ast.Is | ast.IsNot) for operator in node.ops
        ):
            found += [node.left, *node.comparators]
    return found


def reveals(node: ast.expr) -> bool:
    return any(
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and part.func.attr == "reveal"
        for part in ast.walk(node)
    )


def test_secrets_are_compared_in_constant_time():
    with mock.patch("tenants.sealing.hmac.compare_digest", wraps=hmac.compare_digest) as compare:
        assert Secret(b"one") != Secret(b"two")
        assert Secret(b"one") == Secret(b"one")
    assert compare.call_count == 2


def test_nothing_compares_what_a_secret_reveals():
    found = [
        f"{source.at(node)} compares {ast.unparse(node)}"
        for source in floor_plan.product()
        for node in compared(source.tree)
        if reveals(node)
    ]
    assert found == []


def test_no_credential_or_digest_is_compared_by_its_name():
    """A caller is found by the index over an HMAC, a password by Argon2, a token by its MAC: nothing is left to compare."""
    found = [
        f"{source.at(node)} compares {ast.unparse(node)}"
        for source in floor_plan.product()
        for node in compared(source.tree)
        if (isinstance(node, ast.Name) and node.id in SECRET_NAMES)
        # `user.password` is a hash of ours: that it is still the one from before is nobody's guess.
        or (isinstance(node, ast.Attribute) and node.attr in SECRET_NAMES - {"password"})
    ]
    assert found == []


def test_a_fingerprint_depends_on_every_character_so_an_index_gives_no_prefix_away():
    pepper, other = Secret(bytes(32)), Secret(bytes(31) + b"\1")
    text = tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode()
    digests = {tokens.fingerprint(pepper, text[:at] + "_" + text[at + 1 :]) for at in range(4, 53)}
    assert len(digests | {tokens.fingerprint(pepper, text)}) == 50
    assert len({digest[:4] for digest in digests}) == 49
    assert tokens.fingerprint(other, text) != tokens.fingerprint(pepper, text)
