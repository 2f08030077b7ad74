"""Projects, managed by a key of their tenant."""

from typing import Final

from gateway.openapi.schemas import request
from gateway.shapes import projects
from gateway.shapes.pages import page_of
from gateway.views.shapes.base import SHAPES

NEW_PROJECT: Final = SHAPES.add(
    "NewProject", request(("name",), **projects.TAKEN), name="Web", cost_budget_usd="25"
)
PROJECT: Final = SHAPES.add("Project", projects.PROJECT)
PROJECTS: Final = SHAPES.add("Projects", page_of(PROJECT.ref))
