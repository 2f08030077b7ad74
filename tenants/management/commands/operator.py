"""`operator create|list|reset-password|disable|roles`: the staff of the house."""

from typing import Any, Final

from django.core.management.base import CommandParser

from tenants import operator_services
from tenants.commands import (
    Actions,
    HouseCommand,
    Options,
    add_if_missing,
    add_limit,
    read_secret,
    shell_actor,
)
from tenants.models import User
from tenants.passwords import generated_password

ROLES: Final = {
    User.Role.OWNER: "everything, operators and the content of calls included",
    User.Role.OPERATOR: "tenants, keys, providers and models; no audit log, no content",
    User.Role.AUDITOR: "reads everything, the audit log and content included; changes nothing",
    User.Role.VIEWER: "reads configuration and figures; no audit log, no content",
}


class Command(HouseCommand):
    help = "Operators: create, list, reset-password, disable, roles."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        create = actions.add("create", self.create, "Make an operator.")
        create.add_argument(
            "--role",
            choices=[role.value for role in ROLES],
            help="Without it, owner while there is none, else operator.",
        )
        add_if_missing(create)
        reset = actions.add(
            "reset-password", self.reset_password, "Give an operator a new password."
        )
        disable = actions.add(
            "disable", self.disable, "Lock an operator out, open sessions included."
        )
        for named in (create, reset, disable):
            named.add_argument("--username", required=True)
        for guarded in (create, reset):
            guarded.add_argument(
                "--password-file",
                help="A file that holds it (-: standard input); else one is made and shown once.",
            )
        add_limit(actions.add("list", self.list, "Show the operators."))
        actions.add("roles", self.roles, "Show the roles and what each may do.")

    def create(self, options: Options) -> None:
        existing = User.objects.filter(username__iexact=options["username"]).exclude(role="")
        if options["if_missing"] and (found := existing.first()):
            self.answer(
                {**_row(found), "created": False, "password": None},
                f"There is already an operator {found.username}.",
            )
            return
        password, was_made = self._password(options)
        user = operator_services.create_operator(
            actor=shell_actor(),
            username=options["username"],
            password=password,
            role=options["role"] or _default_role(),
            must_change_password=was_made,
        )
        self._show(user, password if was_made else None, f"Made operator {user.username}.", True)

    def reset_password(self, options: Options) -> None:
        password, was_made = self._password(options)
        user = operator_services.reset_password(
            actor=shell_actor(), username=options["username"], password=password
        )
        said = f"The password of {user.username} is replaced; open sessions have ended."
        self._show(user, password if was_made else None, said, None)

    def disable(self, options: Options) -> None:
        user = operator_services.disable_operator(actor=shell_actor(), username=options["username"])
        self.answer(_row(user), f"Operator {user.username} is locked out.")

    def list(self, options: Options) -> None:
        users = User.objects.exclude(role="").order_by("username")[: options["limit"]]
        columns = ("username", "role", "is_active", "must_change_password", "last_login", "id")
        self.answer_rows([_row(user) for user in users], columns)

    def roles(self, options: Options) -> None:
        self.answer_rows(
            [{"role": role.value, "may": may} for role, may in ROLES.items()], ("role", "may")
        )

    def _password(self, options: Options) -> tuple[str, bool]:
        """The password and whether it was made here."""
        if options["password_file"]:
            return read_secret(options["password_file"], "password"), False
        return generated_password(), True

    def _show(self, user: User, made: str | None, said: str, created: bool | None) -> None:
        data: dict[str, Any] = {**_row(user), "password": made}
        if created is not None:
            data["created"] = created
        lines = [said]
        if made is not None:
            lines += [
                f"Password (shown this once): {made}",
                "It must be changed at the first sign-in.",
            ]
        self.answer(data, *lines)


def _default_role() -> str:
    owners = User.objects.filter(role=User.Role.OWNER, is_active=True)
    return str(User.Role.OPERATOR if owners.exists() else User.Role.OWNER)


def _row(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "username": user.username,
        "role": str(user.role),
        "is_active": user.is_active,
        "must_change_password": user.must_change_password,
        "last_login": user.last_login,
    }
