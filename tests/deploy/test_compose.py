"""compose.yaml without an engine: what it refers to exists, what it sets is known, and nothing has more rights than it needs.

That it keeps to the Compose specification was checked with `check-jsonschema --builtin-schema vendor.compose-spec`.
"""

import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.gateway.test_configuration_docs import DOCUMENTED
from tests.support.environment import ROOT

FILE = ROOT / "deploy/compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("gatehouse:")}
every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))


def test_there_are_a_gateway_a_database_valkey_and_a_migration():
    assert set(SERVICES) == {"gateway", "migrate", "postgres", "valkey"}
    assert {"gateway", "migrate"} == OURS
    assert set(COMPOSE) - {"services", "networks", "volumes", "secrets", "name"} == {
        "x-confined",
        "x-gatehouse",
    }


@every_service
def test_no_service_may_more_than_it_must(service: dict[str, Any]):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "env_file"} & set(service)
    assert re.fullmatch(r"[\w/]+:\d[\w.-]*", service["image"])
    # Ours says who it runs as in the Dockerfile.
    assert service["image"].startswith("gatehouse:") or not service["user"].startswith("0")


@every_service
def test_what_a_service_names_exists(service: dict[str, Any]):
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(
        COMPOSE["volumes"]
    )
    for name, how in service.get("depends_on", {}).items():
        waits_for_health = how["condition"] == "service_healthy"
        assert waits_for_health == ("test" in SERVICES[name].get("healthcheck", {}))
        assert waits_for_health or SERVICES[name]["restart"] == "no"


def test_every_variable_is_one_that_the_settings_read():
    for name in OURS:
        variables = SERVICES[name]["environment"]
        assert {variable.removesuffix("_FILE") for variable in variables} - set(DOCUMENTED) == set()


@every_service
def test_secrets_come_as_files_and_each_is_handed_over(service: dict[str, Any]):
    environment: dict[str, str] = service.get("environment", {})
    files = {value for name, value in environment.items() if name.endswith("_FILE")}
    assert files == {f"/run/secrets/{name}" for name in service.get("secrets", [])}
    text = "\n".join(str(value) for value in environment.values())
    assert not re.search(r"://[^@\s]*:[^@\s]*@", text)
    assert not any(
        "PASSWORD" in name or "KEY" in name for name in environment if name[-5:] != "_FILE"
    )


def test_only_the_gateway_is_reached_from_outside_and_only_from_its_own_host():
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"gateway"}
    assert SERVICES["gateway"]["ports"] == ["127.0.0.1:8000:8000"]
    assert COMPOSE["networks"]["back"]["internal"] is True
    for name in ("postgres", "valkey", "migrate"):
        assert SERVICES[name]["networks"] == ["back"]
    # The proxy on the host is seen under the address of the bridge.
    gateway = COMPOSE["networks"]["front"]["ipam"]["config"][0]["gateway"]
    assert gateway in SERVICES["gateway"]["environment"]["TRUSTED_PROXIES"]


def test_it_has_time_to_drain():
    """Longer than both drain times together, GATEHOUSE_TIMEOUT_PRE_DRAIN and GATEHOUSE_TIMEOUT_DRAIN."""
    minutes = int(SERVICES["gateway"]["stop_grace_period"].removesuffix("m"))
    drains = [DOCUMENTED[f"GATEHOUSE_TIMEOUT_{name}"] for name in ("PRE_DRAIN", "DRAIN")]
    assert minutes * 60 > sum(float(text.strip("`")) for text in drains)


def test_commands_are_files_of_the_image_and_commands_of_ours():
    test = SERVICES["gateway"]["healthcheck"]["test"]
    assert test[:2] == ["CMD", "python"]
    assert (ROOT / test[2]).is_file()
    assert SERVICES["migrate"]["command"][0] == "migrate"
    assert SERVICES["gateway"].get("command") is None


def made(folder: Path) -> dict[str, str]:
    done = subprocess.run(
        [str(ROOT / "deploy/make-secrets.sh"), str(folder)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    found = {path.name: path.read_text().strip() for path in folder.iterdir()}
    assert not [secret for secret in found.values() if secret in done.stdout + done.stderr]
    return found


def test_secrets_are_made_once_and_nobody_else_can_enter(tmp_path: Path):
    folder = tmp_path / "secrets"
    first = made(folder)
    assert made(folder) == first
    assert set(first) == set(COMPOSE["secrets"])
    assert len(set(first.values())) == len(first)
    assert first["postgres_password"] in first["database_url"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name, where in COMPOSE["secrets"].items():
        assert where == {"file": f"./secrets/{name}"}


def test_the_settings_take_the_secrets_that_are_made(tmp_path: Path):
    made(tmp_path / "secrets")
    variables = SERVICES["gateway"]["environment"]
    env = {
        name: str(tmp_path / value.removeprefix("/run/"))
        for name, value in variables.items()
        if name.endswith("_FILE")
    }
    done = subprocess.run(
        [sys.executable, "-c", "import gateway.settings as s; print(s.DATABASES)"],
        cwd=ROOT,
        env={**env, "GATEHOUSE_VAR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'HOST': 'postgres'" in done.stdout
