"""YAML has one meaning here, or none; and of every fault we know where it is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config_file import yaml_text
from gateway.config_file.yaml_text import Fault, NotReadable


def fault_of(text: str) -> Fault:
    with pytest.raises(NotReadable) as refusal:
        yaml_text.read(text)
    return refusal.value.fault


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", 1),
        ("a: -7", -7),
        ("a: true", True),
        ("a: null", None),
        ("a: ~", None),
        ("a:", None),
        ("a: 1.5", 1.5),
        ("a: 1e3", 1000.0),
        ("a: text", "text"),
        ("a: '1'", "1"),
        ('a: "yes"', "yes"),
        ("a: 2024-10-21", "2024-10-21"),
        ("a: 2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("a: gpt-4o", "gpt-4o"),
        ("a: |\n  one\n  two\n", "one\ntwo\n"),
        ("a: &x {b: 1}", {"b": 1}),
    ],
)
def test_a_word_means_what_it_looks_like(text: str, value: Any) -> None:
    read = yaml_text.read(text).value["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: yes", "true or false"),
        ("a: On", "true or false"),
        ("a: n", "true or false"),
        ("a: 0777", "a number to some readers"),
        ("a: 0o17", "a number to some readers"),
        ("a: 0x1F", "a number to some readers"),
        ("a: 1_000", "a number to some readers"),
        ("a: 12:30", "a number to some readers"),
        ("a: +1", "a number to some readers"),
        ("a: 111111111111111111111", "digits"),
        ("a: !!python/object/apply:os.system [x]", "tags"),
        ("a: !!int '1'", "tags"),
        ("a: {<<: {b: 1}}", "merge keys"),
        ("a: *nothing", "alias"),
        ("a: &x [*x]", "alias"),
        ("a: {[1]: 2}", "plain text"),
        ('a: "\\0"', "NUL"),
        ('a: {"\\0": 1}', "NUL"),
        ("a: [", "no YAML"),
        ("a: '", "no YAML"),
    ],
)
def test_what_could_mean_two_things_is_refused_with_its_place(text: str, said: str) -> None:
    fault = fault_of(text)
    assert said in fault.sentence
    assert fault.mark.line >= 1
    assert fault.mark.column >= 1


def test_a_fault_is_told_by_path_line_and_column() -> None:
    text = "tenants:\n  - slug: acme\n    keys:\n      - {name: a}\n      - name: b\n        made: yes\n"
    fault = fault_of(text)
    assert (fault.path, fault.mark) == ("tenants[0].keys[1].made", (6, 15))


def test_a_name_that_stands_there_twice_is_refused_where_it_stands_again() -> None:
    fault = fault_of("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
    assert (fault.path, fault.mark.line) == ("b.c", 5)
    assert "twice" in fault.sentence


@pytest.mark.parametrize("bracket", ["[", "{a: "])
def test_nesting_has_a_bound(bracket: str) -> None:
    assert "deeper than 64" in fault_of(bracket * 500).sentence
    assert yaml_text.read("[" * 60 + "]" * 60).value


def test_a_few_lines_of_aliases_do_not_become_millions_of_values() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{c}: &{c} [{', '.join([f'*{b}'] * 10)}]"
        for b, c in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert "more than 100000 values" in fault_of("\n".join(lines)).sentence


def test_a_document_has_a_bound() -> None:
    assert "larger than" in fault_of("# " + "x" * yaml_text.MAX_BYTES).sentence


def test_there_is_one_document_in_a_text() -> None:
    assert "second document" in fault_of("a: 1\n---\na: 2\n").sentence


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert "surrogate" in fault_of("a: \ud800").sentence


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abcdefgh", min_size=1), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_VALUES)
def test_json_is_read_as_json(value: Any) -> None:
    assert yaml_text.read(json.dumps(value, ensure_ascii=False)).value == value


@given(st.text() | st.text("[]{}:,-&*!|>'\"%@` \n#ab01?~<"))
def test_every_text_is_a_document_or_a_fault(text: str) -> None:
    try:
        document = yaml_text.read(text)
    except NotReadable:
        return
    json.dumps(document.value)
