"""A tenant's projects, managed by one of its keys: `/v1/projects`."""

from uuid import UUID

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import paging
from gateway.api.bodies.tenants import project_body
from gateway.api.requests import fields_of, query_of
from gateway.shapes.pages import PAGES
from gateway.views import documented
from gateway.views.access import MayManageProjects, actor_of, warrant_of
from gateway.views.shapes import projects as shapes
from gateway.views.state import StateView
from keys import self_service
from tenants.errors import NotFound
from tenants.models import Project
from tenants.project_services import RULES


class _ProjectsView(StateView):
    permission_classes = (MayManageProjects,)


def _visible(request: Request) -> "QuerySet[Project]":
    return Project.objects.filter(warrant_of(request).projects)


class ProjectsView(_ProjectsView):
    @documented.state(
        "listProjects", "List projects", shapes.PROJECTS, tag=documented.PROJECTS, query=PAGES
    )
    def get(self, request: Request) -> Response:
        """This key's own project, or all of its tenant if it belongs to none; newest first. Needs the scope `projects`."""
        query = query_of(request, paging.PARAMETERS)
        return paging.page(_visible(request), query, project_body)

    @documented.change(
        "createProject",
        "Make a project",
        documented.PROJECTS,
        shapes.NEW_PROJECT,
        shapes.PROJECT,
        status=201,
        by_name=False,
        is_made_once=True,
    )
    def post(self, request: Request) -> Response:
        """A group of keys, with limits that all of them share. Needs the scope `projects`, and a key of no project."""
        fields = fields_of(request, RULES)
        project = self_service.create_project(
            actor=actor_of(request),
            warrant=warrant_of(request),
            name=fields.pop("name", None),
            **fields,
        )
        return Response(project_body(project), status=201)


class ProjectView(_ProjectsView):
    @documented.one_state(
        "getProject", "Look at a project", shapes.PROJECT, tag=documented.PROJECTS
    )
    def get(self, request: Request, project_id: UUID) -> Response:
        """Needs the scope `projects`."""
        query_of(request)
        project = _visible(request).filter(pk=project_id).first()
        if project is None:
            raise NotFound
        return Response(project_body(project))

    @documented.change("deleteProject", "Delete a project", documented.PROJECTS, status=204)
    def delete(self, request: Request, project_id: UUID) -> Response:
        """Its keys stay and belong to none. Refused where that would set one of them free to do more than this key may.
        Needs the scope `projects`, and a key of no project.
        """
        query_of(request)
        self_service.delete_project(
            actor=actor_of(request), warrant=warrant_of(request), project_id=project_id
        )
        return Response(status=204)
