"""Projects, as tenants/project_services.py and gateway/api/bodies/tenants.py have them for both doors."""

from typing import Final

from gateway.openapi.schemas import ID, MOMENT, TEXT, Schema, answer, constant, shown, told
from gateway.shapes.fields import named
from gateway.shapes.limits import LIMITS_TAKEN, LIMITS_TOLD
from tenants import project_services

_PROJECT: Final[dict[str, Schema]] = {
    "name": told(shown(named(), "Search"), "Once in the tenant."),
    **LIMITS_TAKEN,
}
TAKEN: Final = {name: _PROJECT[name] for name in project_services.RULES}
PROJECT: Final = answer(
    id=ID,
    object=constant("project"),
    tenant=told(ID, "The id of its tenant."),
    name=shown(TEXT, "Search"),
    **LIMITS_TOLD,
    created_at=MOMENT,
)
