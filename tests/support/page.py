"""Pages as a browser sees them: what a form would send, and what must not be in one."""

from html.parser import HTMLParser
from typing import Any

_VOID = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "wbr",
}


class Page(HTMLParser):
    """`forms` in order, each with what it would send; `texts` between tags; `faults` are what the policy would refuse."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self.actions: list[str] = []
        self.texts: list[str] = []
        self.faults: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self._select = ""
        self._textarea = ""
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag not in _VOID:
            self._open.append(tag)
        self._look_for_faults(tag, values)
        if tag == "form":
            self.forms.append({})
            self.actions.append(values.get("action", ""))
        elif tag == "a":
            self.links.append(values.get("href", ""))
        elif self.forms:
            self._note_control(tag, values)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes what is not open")
        self._textarea = "" if tag == "textarea" else self._textarea

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._textarea:
            self.forms[-1][self._textarea] += data

    def _look_for_faults(self, tag: str, values: dict[str, str]) -> None:
        if tag == "style" or (tag == "script" and "src" not in values):
            self.faults.append(f"inline <{tag}>")
        if tag in {"iframe", "object", "embed", "base"}:
            self.faults.append(f"<{tag}>")
        for name, value in values.items():
            if name == "style" or name.startswith("on"):
                self.faults.append(f"{name} on <{tag}>")
            if (
                name in {"src", "href", "action"}
                and not value.startswith(("/", "?", "#"))
                and value
            ):
                self.faults.append(f"<{tag}> leads to {value}")

    def _note_control(self, tag: str, values: dict[str, str]) -> None:
        form, name = self.forms[-1], values.get("name", "")
        if tag == "select":
            self._select = name
        elif tag == "option" and self._select:
            if "selected" in values or self._select not in form:
                form[self._select] = values.get("value", "")
        elif tag == "textarea":
            self._textarea = name
            form[name] = ""
        elif tag == "input" and name:
            self._note_input(form, name, values)

    @staticmethod
    def _note_input(form: dict[str, Any], name: str, values: dict[str, str]) -> None:
        kind = values.get("type", "text")
        if kind not in {"checkbox", "radio"}:
            form[name] = values.get("value", "")
        elif "checked" in values:
            value = values.get("value", "on")
            form[name] = [*form[name], value] if isinstance(form.get(name), list) else value
            if kind == "checkbox" and "value" in values and not isinstance(form[name], list):
                form[name] = [value]


def last_form(html: str) -> dict[str, Any]:
    """What a browser would send of the last form of a page."""
    forms = Page(html).forms
    assert forms, html
    return forms[-1]


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
