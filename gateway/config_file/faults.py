"""What is wrong with a configuration file, each fault with its path, line and column."""

from collections.abc import Sequence
from typing import Final

from gateway.config_file.yaml_text import Document, Fault
from tenants.errors import Conflict, Invalid, ServiceError

_MOST: Final = 100


class ConfigInvalid(Invalid):
    """The file cannot be applied. `fields` has a sentence by path, `facts` every fault with its place."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(
            f"{faults[0]}{more}",
            fields={
                fault.path or "document": f"line {fault.mark.line}: {fault.sentence}"
                for fault in faults
            },
            facts={
                "faults": [
                    {
                        "path": fault.path,
                        "line": fault.mark.line,
                        "column": fault.mark.column,
                        "message": fault.sentence,
                    }
                    for fault in faults
                ]
            },
        )
        self.faults = tuple(faults)


class StaleRevision(Conflict):
    """Somebody applied another revision meanwhile."""

    code = "stale"

    def __init__(self, current: int) -> None:
        super().__init__(
            f"The revision in force is {current}, not the one that this was made for.",
            facts={"revision": current},
        )


class Faults:
    """Gathers them, so that one look at a file tells all."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: list[Fault] = []

    def add(self, path: str, sentence: str) -> None:
        if len(self._found) < _MOST:
            self._found.append(Fault(path, self._document.mark(path), sentence))

    def of_fields(self, path: str, fault: ServiceError) -> None:
        """What a rule or a service refuses about an entry, field by field."""
        for name, sentence in fault.fields.items():
            self.add(f"{path}.{name[:64]}" if path else name[:64], sentence)
        if not fault.fields:
            self.add(path, fault.message)

    def raise_if_any(self) -> None:
        if self._found:
            raise ConfigInvalid(self._found)
