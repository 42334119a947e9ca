"""compose.yaml and the manifests of Kubernetes: valid by their schemas, and about the programs that there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from pipeline.core.programs import PROGRAMS
from pipeline.core.settings import PROJECT, names_of, sections

KUBERNETES = PROJECT / "deploy" / "kubernetes"
SERVED = {one.name: one for one in PROGRAMS if one.name != "watchdog"}  # a container that ends is started by its host
SETTINGS = {name for section in sections() for name in names_of(section)}


def documents(name: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all((KUBERNETES / name).read_text()) if one]


def compose() -> Any:
    return yaml.safe_load((PROJECT / "compose.yaml").read_text())


def test_compose_is_valid() -> None:
    """Prevents a file that `compose up` refuses."""
    tool = Path(sys.executable).with_name("check-jsonschema")
    command = [str(tool), "--builtin-schema", "vendor.compose-spec", str(PROJECT / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["namespace.yaml", "programs.yaml", "candles.yaml"])
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_manifests_are_valid(name: str, version: str) -> None:
    """Prevents a file that a cluster refuses; unknown fields are errors."""
    for one in documents(name):
        kubernetes_validate.validate(one, version, strict=True)


def test_kustomization_names_every_file() -> None:
    """Its own schema comes with no package: the fields that are used are checked here."""
    (kustomization,) = documents("kustomization.yaml")
    others = {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == others
    assert set(kustomization) == {
        "apiVersion",
        "kind",
        "namespace",
        "resources",
        "images",
        "replicas",
        "configMapGenerator",
    }
    (generated,) = kustomization["configMapGenerator"]
    assert {line.partition("=")[0] for line in generated["literals"]} <= SETTINGS
    containers = [one for file in ("programs.yaml", "candles.yaml") for one in documents(file)]
    assert {image["name"] for image in kustomization["images"]} == {container(one)["image"] for one in containers}


def pod(one: dict[str, Any]) -> dict[str, Any]:
    spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
    return dict(spec["template"]["spec"])


def container(one: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(one)["containers"]
    return dict(found)


def test_what_is_off_has_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a Deployment of a program that is switched off: it ends with 0, and is started again for ever."""
    (kustomization,) = documents("kustomization.yaml")
    for line in kustomization["configMapGenerator"][0]["literals"]:
        monkeypatch.setenv(*line.split("=", 1))
    counts = {one["metadata"]["name"]: one["spec"]["replicas"] for one in documents("programs.yaml")}
    changed = {one["name"]: one["count"] for one in kustomization["replicas"]}
    assert changed.keys() <= counts.keys()
    assert counts | changed == {name: int(SERVED[name].enabled) for name in counts}


def test_no_pod_takes_the_address_of_a_service_for_a_setting() -> None:
    """Prevents pods that all end with exit code 2 once somebody makes a Service called dashboard, pulsar or database:
    the cluster would set DASHBOARD_PORT=tcp://10.0.0.1:8500 and more in each of them."""
    for one in [*documents("programs.yaml"), *documents("candles.yaml")]:
        assert pod(one)["enableServiceLinks"] is False


def test_compose_starts_every_program_with_its_own_port() -> None:
    """Prevents a program that is forgotten, or a health check of another one's port."""
    services = compose()["services"]
    assert services.keys() == SERVED.keys() | {"pulsar", "database"}
    for name, program in SERVED.items():
        assert services[name]["command"] == [program.module, *program.args]
        assert f":{program.port}/health" in services[name]["healthcheck"]["test"][-1]
        assert set(services[name]["environment"]) <= SETTINGS


def test_the_broker_of_compose_sends_clients_to_its_own_name() -> None:
    """Prevents programs that are told to look for every topic in their own container: a standalone Pulsar calls itself
    localhost, unless it is given a name."""
    services = compose()["services"]
    command = services["pulsar"]["command"]
    assert command[command.index("--advertised-address") + 1] == "pulsar"
    for name in SERVED:
        assert urlsplit(services[name]["environment"]["PULSAR_URL"]).hostname == "pulsar"


def test_kubernetes_runs_every_program_with_its_own_port() -> None:
    """The same; candles of exchanges are the CronJob's; retention and the archive are left out, as docs say."""
    deployments = {one["metadata"]["name"]: container(one) for one in documents("programs.yaml")}
    assert deployments.keys() == SERVED.keys() - {"exchange-candles", "retention", "archive"}
    for name, found in deployments.items():
        assert found["args"] == [SERVED[name].module, *SERVED[name].args]
        assert found["ports"][0] == {"name": "health", "containerPort": SERVED[name].port}
    (job,) = documents("candles.yaml")
    assert container(job)["args"][0] == SERVED["exchange-candles"].module
