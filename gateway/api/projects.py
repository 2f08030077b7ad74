"""Projects: the groups of keys inside a tenant."""

from typing import Final
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented, paging
from gateway.api.bodies.tenants import project_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import fields_of, listed, owner_of, query_of
from gateway.api.shapes import tenants as shapes
from gateway.shapes.pages import PAGES
from tenants import project_services as services
from tenants.models import Project

_FIXED: Final = ("id", "object", "tenant", "created_at")
_TAKEN: Final = {409: "`conflict`: its tenant has one of that name."}


class ProjectsView(AdminView):
    @documented.operation(
        "listProjects",
        "List projects",
        query={**PAGES, **documented.OF_TENANT},
        answer=shapes.PROJECTS,
    )
    def get(self, request: Request) -> Response:
        query = query_of(request, (*paging.PARAMETERS, "tenant"))
        projects = listed(Project.objects.all(), query, self.reach)
        return paging.page(projects, query, project_body)

    @documented.operation(
        "createProject",
        "Make a project",
        body=shapes.NEW_PROJECT,
        answer=shapes.PROJECT,
        status=201,
        refuses=_TAKEN,
    )
    def post(self, request: Request) -> Response:
        fields = fields_of(request, ("tenant", *services.RULES))
        project = services.create_project(
            actor=actor_of(request),
            tenant_id=owner_of(fields, self.reach).id,
            name=fields.pop("name", None),
            **fields,
        )
        return Response(project_body(project), status=201)


class ProjectView(AdminView):
    @documented.operation("getProject", "Look at a project", answer=shapes.PROJECT)
    def get(self, request: Request, project_id: UUID) -> Response:
        query_of(request)
        return Response(project_body(self.reach.one(Project.objects.all(), pk=project_id)))

    @documented.operation(
        "updateProject",
        "Change a project",
        body=shapes.PROJECT_CHANGES,
        answer=shapes.PROJECT,
        refuses=_TAKEN,
    )
    def patch(self, request: Request, project_id: UUID) -> Response:
        self.reach.guard(Project, project_id)
        fields = fields_of(request, services.RULES, fixed=_FIXED)
        project = services.update_project(actor=actor_of(request), project_id=project_id, **fields)
        return Response(project_body(project))

    @documented.operation("deleteProject", "Remove a project", answer=None)
    def delete(self, request: Request, project_id: UUID) -> Response:
        """Its keys stay and belong to none."""
        query_of(request)
        self.reach.guard(Project, project_id)
        services.delete_project(actor=actor_of(request), project_id=project_id)
        return Response(status=204)
