"""The named schemas of a document. Each is made once, beside what it describes, and has its example."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.openapi.schemas import Schema, example_of


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema with a name. `shown` are those members of its example that its pieces do not give."""

    name: str
    schema: Schema
    shown: Mapping[str, Any]

    @property
    def ref(self) -> Schema:
        return {"$ref": f"#/components/schemas/{self.name}"}


@dataclass(frozen=True, slots=True)
class Shapes:
    """All of one document."""

    _known: dict[str, Shape] = field(default_factory=dict)

    def add(self, name: str, schema: Schema, /, **shown: Any) -> Shape:
        if name in self._known:
            raise ValueError(f"There are two shapes called {name}.")
        shape = self._known[name] = Shape(name, schema, shown)
        return shape

    @property
    def schemas(self) -> dict[str, Schema]:
        return {name: shape.schema for name, shape in self._known.items()}

    def example(self, shape: Shape) -> Any:
        """A value of this shape; of a body that asks for something, only what is shown."""
        if "additionalProperties" in shape.schema and shape.shown:
            return dict(shape.shown)
        # Examples of what others refer to are theirs, not made of pieces anew.
        known = {
            name: {**it.schema, "examples": [self.example(it)]} if it is not shape else it.schema
            for name, it in self._known.items()
            if it.shown or it is shape
        }
        made = example_of(shape.schema, {**self.schemas, **known})
        return {**made, **shape.shown}
