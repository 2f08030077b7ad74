"""Whichever way calls are served, the answers and the books are the same: one corpus, sent through all of them.

The express edge with the native transport is what the others are measured by. What it must answer is the business of the
other tests; that it answered at all, and in many ways, is checked here too, so that nothing agrees about nothing.
"""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway import compiled
from tests.gateway.parity.corpus import corpus
from tests.gateway.parity.player import Outcome, play
from tests.support.server import Yard

CASES = corpus()
NAMES = [case.name for case in CASES]
REFERENCE = "express, native"
MODES: dict[str, dict[str, str]] = {
    REFERENCE: {"GATEHOUSE_EXPRESS": "on", "GATEHOUSE_TRANSPORT": "native"},
    "views, native": {"GATEHOUSE_EXPRESS": "off", "GATEHOUSE_TRANSPORT": "native"},
    "express, httpx": {"GATEHOUSE_EXPRESS": "on", "GATEHOUSE_TRANSPORT": "httpx"},
    "views, httpx": {"GATEHOUSE_EXPRESS": "off", "GATEHOUSE_TRANSPORT": "httpx"},
}
for settings in MODES.values():
    settings["GATEHOUSE_COMPILED"] = "off"
if compiled.look() == "ready":  # after `make compile`: it does what its sources do
    MODES["compiled, native"] = {"GATEHOUSE_EXPRESS": "on", "GATEHOUSE_TRANSPORT": "native"}
    MODES["compiled, views, httpx"] = {"GATEHOUSE_EXPRESS": "off", "GATEHOUSE_TRANSPORT": "httpx"}
OTHERS = [name for name in MODES if name != REFERENCE]

Played = Mapping[str, Mapping[str, Outcome]]

pytestmark = pytest.mark.sqlite


@pytest.fixture(scope="module")
def played(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Every mode's outcomes, by mode and case."""

    def run(mode: str) -> Mapping[str, Outcome]:
        return play(yard, tmp_path_factory.mktemp("parity"), MODES[mode], CASES)

    first = run(REFERENCE)
    with ThreadPoolExecutor(len(OTHERS)) as pool:
        return {REFERENCE: first, **dict(zip(OTHERS, pool.map(run, OTHERS), strict=True))}


def test_the_corpus_is_large_and_says_much(played: Played) -> None:
    seen = Counter(outcome.status for outcome in played[REFERENCE].values())
    assert len(CASES) == len(set(NAMES)) >= 150
    assert {200, 400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 502, 503, 504} <= set(seen)
    assert seen[None] == sum(case.leave is not None for case in CASES) > 4
    books = [outcome.rows for outcome in played[REFERENCE].values()]
    assert sum("usage_ledgerentry" in rows for rows in books) > 100


@pytest.mark.parametrize("name", NAMES, ids=NAMES)
def test_an_exchange_is_the_same(played: Played, name: str) -> None:
    expected = played[REFERENCE][name]
    for mode in OTHERS:
        assert played[mode][name] == expected, mode


def test_who_leaves_is_in_the_books(played: Played) -> None:
    """The callers who left have nothing else to be compared by."""
    for case in CASES:
        if case.leave in (None, "sent"):
            continue
        for mode in MODES:
            (row,) = played[mode][case.name].rows["usage_requestlog"]
            assert 499 in row, (mode, case.name)


def test_whatever_is_accepted_the_answer_is_the_same(played: Played) -> None:
    """Neither 406 nor much work, of the header's ten thousand characters neither."""
    accepting = [case for case in CASES if any(name == "accept" for name, _ in case.headers)]
    assert max(len(value) for case in accepting for _, value in case.headers) == 10_000
    for mode in MODES:
        assert {played[mode][case.name].status for case in accepting} == {200}
