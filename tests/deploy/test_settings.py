"""The files in deploy/ set only what the server knows, and give it the time that it needs to stop."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from gramophone_server.cli.serve import serve
from gramophone_server.settings import Settings, entries

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KNOWN = {entry.variable for entry in entries(Settings) if entry.variable}
# A server has ended this many seconds after --grace.
_AFTER_GRACE = 5


def files() -> list[Path]:
    return [path for path in DEPLOY.rglob("*") if path.is_file()]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_the_variables_are_settings_of_the_server(path):
    text = path.read_text()
    assert set(re.findall(r"\bGRAMOPHONE_[A-Z_]+[A-Z]\b", text)) <= KNOWN
    flags = set(re.findall(r"gramophone serve.*?(--[a-z-]+)", text))
    assert flags <= {option for parameter in serve.params for option in parameter.opts}


def test_the_settings_of_the_service_are_valid():
    keys = {entry.key for entry in entries(Settings)}
    assert set(tomllib.loads((DEPLOY / "systemd/gramophone.toml").read_text())) <= keys


def test_every_deployment_waits_longer_than_the_server_needs_to_stop():
    service = (DEPLOY / "systemd/gramophone.service").read_text()
    settings = tomllib.loads((DEPLOY / "systemd/gramophone.toml").read_text())
    (patience,) = re.findall(r"^TimeoutStopSec=(\d+)$", service, re.MULTILINE)
    assert float(patience) > settings["grace"] + _AFTER_GRACE
    server = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gramophone"]
    assert float(server["stop_grace_period"].removesuffix("s")) > float(server["environment"]["GRAMOPHONE_GRACE"]) + 5


def test_the_files_that_compose_mounts_exist():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    sources = [mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", [])]
    assert all((DEPLOY / source).exists() for source in sources if source.startswith("./"))
    assert {source for source in sources if not source.startswith("./")} == set(compose["volumes"])
    variables = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert variables == set(re.findall(r"^(\w+)=", (DEPLOY / "compose.env.example").read_text(), re.MULTILINE))
