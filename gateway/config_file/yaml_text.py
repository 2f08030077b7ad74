"""YAML read strictly: one meaning or none, and of every value where it stands. Pure.

YAML has more than a configuration needs, and guesses. Refused: tags, merge keys, a name twice in one mapping, a second document,
and plain words that YAML 1.1 takes for something else than they look like (`yes`, `0777`, `0x1F`, `1_000`, `12:30`). A date is a
text. What an anchor names counts again wherever it is repeated, so that a few lines cannot become millions of values.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 64
MAX_NODES: Final = 100_000
_MAX_DIGITS: Final = 20
_SHOWN_NAME: Final = 64

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_FLAGS: Final = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WORDS_OF_OLD: Final = re.compile(r"(?:y|n|yes|no|on|off)", re.IGNORECASE)
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_FRACTION: Final = re.compile(
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|nan)",
    re.ASCII | re.IGNORECASE,
)
#: Octal, hexadecimal, binary, underscores, base sixty, a plus sign: numbers to some readers and texts to others.
_NUMBER_TO_SOME: Final = re.compile(
    r"[-+]?0[0-9_]+|[-+]?0[oxb][0-9a-f_]+|[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?|\+[0-9]+"
    r"|[-+]?[0-9]+(?::[0-5]?[0-9])+(?:\.[0-9]*)?",
    re.ASCII | re.IGNORECASE,
)
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_NO_TEXT: Final = "a NUL character or half a surrogate pair has no place in it."


class Mark(NamedTuple):
    """Where something stands, both counted from 1."""

    line: int
    column: int


class Fault(NamedTuple):
    """Something wrong, and where: `path` is like `tenants[0].keys[1].name`, empty for the document as a whole."""

    path: str
    mark: Mark
    sentence: str

    def __str__(self) -> str:
        place = f"line {self.mark.line}, column {self.mark.column}"
        return (
            f"{self.path} ({place}): {self.sentence}" if self.path else f"{place}: {self.sentence}"
        )


class NotReadable(ValueError):
    """The text has no one meaning."""

    def __init__(self, path: str, mark: Mark, sentence: str) -> None:
        super().__init__(sentence)
        self.fault = Fault(path, mark, sentence)


@dataclass(frozen=True, slots=True)
class Document:
    """The value that the text stands for: None, bool, int, float, str, and lists and mappings of such."""

    value: Any
    marks: Mapping[str, Mark]

    def mark(self, path: str) -> Mark:
        """Where the value of a path stands, or the nearest one around it."""
        while path not in self.marks:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.marks[path]


@dataclass(slots=True)
class _Node:
    """Scalars have `scalar`; sequences and mappings `items`, the latter with the names in `names`."""

    mark: Mark
    kind: str
    scalar: Any = None
    items: "list[_Node]" = field(default_factory=list)
    names: "list[tuple[str, Mark]]" = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    pending: "tuple[str, Mark] | None" = None
    is_open: bool = False


def read(text: str) -> Document:
    """Raises `NotReadable`."""
    top = Mark(1, 1)
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise NotReadable("", top, f"the document is larger than {MAX_BYTES} bytes.")
    if found := _UNSTORABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise NotReadable("", Mark(line, 1), _NO_TEXT)
    try:
        root = _tree(text)
    except yaml.MarkedYAMLError as fault:
        problem = fault.problem_mark or fault.context_mark
        at = _mark(problem) if problem else top
        raise NotReadable("", at, f"is no YAML: {fault.problem or fault.context}.") from None
    except (yaml.YAMLError, ValueError) as fault:
        if isinstance(fault, NotReadable):
            raise
        raise NotReadable(
            "", top, "is no YAML: it holds a character that has no place there."
        ) from None
    marks: dict[str, Mark] = {"": root.mark}
    return Document(_value(root, "", 1, marks), marks)


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


# --- from events to a tree ---------------------------------------------------------------------------------------------


def _tree(text: str) -> _Node:
    """Built from events, one by one, so that no nesting reaches anybody's recursion."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _Builder()
    for event in yaml.parse(text, Loader=loader):
        builder.take(event)
    return builder.root or _Node(Mark(1, 1), "scalar")


class _Builder:
    def __init__(self) -> None:
        self.root: _Node | None = None
        self._open: list[_Node] = []
        self._anchors: dict[str, _Node] = {}
        self._nodes = 0

    def take(self, event: Any) -> None:
        try:
            self._take(event)
        except NotReadable as fault:
            raise NotReadable(self._path(), fault.fault.mark, fault.fault.sentence) from None

    def _path(self) -> str:
        """Of what is being read just now."""
        path = ""
        for node in self._open:
            is_last = node is self._open[-1]
            if node.kind == "sequence":
                path += f"[{len(node.items) if is_last else len(node.items) - 1}]"
            elif node.pending or (node.names and not is_last):
                name, _ = node.pending or node.names[-1]
                path = _within(path, name)
        return path

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            if self.root is not None:
                raise NotReadable("", _mark(event.start_mark), "a second document begins here.")
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            self._open.pop().is_open = False
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "sequence"
            node = _Node(_mark(event.start_mark), kind, is_open=True)
            self._place(event, node)
            self._open.append(node)
            if len(self._open) > MAX_DEPTH:
                raise NotReadable("", node.mark, f"is nested deeper than {MAX_DEPTH} levels.")

    def _scalar(self, event: Any) -> None:
        parent = self._open[-1] if self._open else None
        mark = _mark(event.start_mark)
        if parent is not None and parent.kind == "mapping" and parent.pending is None:
            self._refuse_tag(event, mark)
            if event.value == "<<" and event.implicit[0]:
                raise NotReadable("", mark, "merge keys (<<) are not taken; write the names out.")
            parent.pending = (event.value, mark)
            if event.value in parent.known:
                raise NotReadable("", mark, "stands there twice.")
            if _UNSTORABLE.search(event.value):
                raise NotReadable("", mark, _NO_TEXT)
            parent.known.add(event.value)
            return
        self._place(event, _Node(mark, "scalar", _scalar_value(event, mark)))

    def _alias(self, event: Any) -> None:
        mark = _mark(event.start_mark)
        found = self._anchors.get(event.anchor)
        if found is None or found.is_open:
            raise NotReadable(
                "", mark, "an alias of something that is not there, or not whole yet."
            )
        self._attach(found, mark)

    def _place(self, event: Any, node: _Node) -> None:
        self._refuse_tag(event, node.mark)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._attach(node, node.mark)

    def _attach(self, node: _Node, mark: Mark) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise NotReadable("", mark, f"has more than {MAX_NODES} values.")
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if parent.kind == "mapping":
            if parent.pending is None:
                raise NotReadable("", mark, "a name must be a plain text.")
            parent.names.append(parent.pending)
            parent.pending = None
        parent.items.append(node)

    @staticmethod
    def _refuse_tag(event: Any, mark: Mark) -> None:
        if event.tag is not None:
            raise NotReadable("", mark, "tags (!) are not taken.")


def _scalar_value(event: Any, mark: Mark) -> Any:
    text: str = event.value
    if _UNSTORABLE.search(text):
        raise NotReadable("", mark, _NO_TEXT)
    if not event.implicit[0]:
        return text  # quoted, or a block
    if text in _NULL:
        return None
    if text in _FLAGS:
        return _FLAGS[text]
    if _WORDS_OF_OLD.fullmatch(text):
        raise NotReadable(
            "",
            mark,
            f"{text} means different things to different readers: write true or false, or quotes.",
        )
    if _INTEGER.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise NotReadable("", mark, f"a number of more than {_MAX_DIGITS} digits.")
        return int(text)
    if _FRACTION.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if _NUMBER_TO_SOME.fullmatch(text):
        raise NotReadable(
            "",
            mark,
            f"{text[:_SHOWN_NAME]} is a number to some readers: write it in plain digits, or quotes.",
        )
    return text


# --- from the tree to values -------------------------------------------------------------------------------------------


def _value(node: _Node, path: str, depth: int, marks: dict[str, Mark]) -> Any:
    """`marks` grows with every value; what is repeated by an alias counts again."""
    if len(marks) > MAX_NODES:
        raise NotReadable("", node.mark, f"has more than {MAX_NODES} values.")
    if node.kind == "scalar":
        return node.scalar
    if depth > MAX_DEPTH:
        raise NotReadable("", node.mark, f"is nested deeper than {MAX_DEPTH} levels.")
    values = []
    for place, mark, item in _places(node, path):
        marks[place] = mark
        values.append(_value(item, place, depth + 1, marks))
    if node.kind == "sequence":
        return values
    return dict(zip((name for name, _ in node.names), values, strict=True))


def _places(node: _Node, path: str) -> Iterator[tuple[str, Mark, _Node]]:
    if node.kind == "sequence":
        for index, item in enumerate(node.items):
            yield f"{path}[{index}]", item.mark, item
        return
    for (name, mark), item in zip(node.names, node.items, strict=True):
        yield _within(path, name), mark, item


def _within(path: str, name: str) -> str:
    shown = name[:_SHOWN_NAME]
    return f"{path}.{shown}" if path else shown
