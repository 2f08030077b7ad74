"""What can be done to projects: the groups of keys inside a tenant."""

from typing import Any, Final, Protocol
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from tenants import validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import Change, change
from tenants.errors import Conflict, Invalid, NotFound
from tenants.limit_rules import LIMIT_RULES
from tenants.models import Project
from tenants.services import locked_tenant
from tenants.validation import Rule

KIND = "project"
RULES: Final[dict[str, Rule]] = {"name": validation.name, **LIMIT_RULES}


class Bounds(Protocol):
    """What somebody may do who is not of the house (keys/warrants.py): which projects they see, and the last word about a change,
    in its transaction. `judge` is given the project that is to go, or None for one that is to be made; it raises what refuses.
    """

    @property
    def tenant_id(self) -> UUID: ...

    @property
    def projects(self) -> Q: ...

    def judge(self, project: Project | None) -> None: ...


def target_of(project: Project) -> Target:
    return Target(KIND, str(project.id), project.name)


def create_project(
    *, actor: Actor, tenant_id: UUID, name: object, bounds: Bounds | None = None, **limits: Any
) -> Project:
    """Make a project. Raises `Invalid`, and `Conflict` for a name that the tenant has already, in whatever case."""
    with change(actor, "project.created", Target(KIND, "new", str(name)[:64]), tenant_id) as it:
        tenant = locked_tenant(tenant_id)
        if bounds is not None:
            bounds.judge(None)
        values = validation.checked({"name": name, **limits}, RULES)
        project = Project(tenant=tenant, **values)
        _save(project, it)
        it.aim(target_of(project))
        it.detail(**values)
    return project


def update_project(*, actor: Actor, project_id: UUID, **fields: Any) -> Project:
    """Change fields of a project; absent ones stay."""
    with change(actor, "project.updated", Target(KIND, str(project_id))) as it:
        project = _locked(project_id, it)
        if not fields:
            raise Invalid("Nothing to change was given.")
        for name, value in validation.checked(fields, RULES).items():
            it.detail(**{name: {"from": getattr(project, name), "to": value}})
            setattr(project, name, value)
        _save(project, it)
    return project


def delete_project(*, actor: Actor, project_id: UUID, bounds: Bounds | None = None) -> None:
    """Remove a project. Its keys stay and belong to none; what was used under its name keeps that name."""
    home = None if bounds is None else bounds.tenant_id
    with change(actor, "project.deleted", Target(KIND, str(project_id)), home) as it:
        project = _locked(project_id, it, bounds)
        if bounds is not None:
            bounds.judge(project)
        it.touch(KIND, project.id, project.tenant_id)
        project.delete()


def _locked(project_id: UUID, it: Change, bounds: Bounds | None = None) -> Project:
    visible = Q() if bounds is None else bounds.projects
    project = Project.objects.select_for_update().filter(visible, pk=project_id).first()
    if project is None:
        raise NotFound
    it.aim(target_of(project), project.tenant_id)
    return project


def _save(project: Project, it: Change) -> None:
    try:
        with transaction.atomic():
            project.save()
    except IntegrityError:
        raise Conflict(
            f"This tenant has a project {project.name!r} already.",
            fields={"name": "is taken in this tenant."},
        ) from None
    it.touch(KIND, project.id, project.tenant_id)
