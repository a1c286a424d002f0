"""The manifests in deploy/kubernetes, checked against Kubernetes' own schemas."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from fastsmaps.cli.parser import parse

yaml = pytest.importorskip("yaml", reason="no PyYAML")

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"
MANIFESTS = sorted(KUBERNETES.glob("*/*.yaml"))


def manifest(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((KUBERNETES / name).read_text())
    assert isinstance(loaded, dict)
    return loaded


def exporter() -> dict[str, Any]:
    (container,) = manifest("base/daemonset.yaml")["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def kustomizations() -> list[tuple[Path, dict[str, Any]]]:
    return [
        (path.parent, yaml.safe_load(path.read_text()))
        for path in MANIFESTS
        if path.name == "kustomization.yaml"
    ]


def patches() -> list[dict[str, Any]]:
    host = manifest("host-cgroups/kustomization.yaml")
    return [change for patch in host["patches"] for change in yaml.safe_load(patch["patch"])]


@pytest.mark.parametrize("version", ["1.30", "1.33"])
def test_manifests_match_kubernetes_schemas(version: str) -> None:
    """strict: a misspelt field is an error, too."""
    validate = pytest.importorskip("kubernetes_validate", reason="no kubernetes-validate").validate
    checked = 0
    for path in (KUBERNETES / "base").glob("*.yaml"):
        if path.name != "kustomization.yaml":
            validate(yaml.safe_load(path.read_text()), version, strict=True)
            checked += 1
    assert checked == 3


def test_kustomizations_name_every_manifest() -> None:
    named = set()
    for directory, found in kustomizations():
        assert found["kind"] == "Kustomization"
        for resource in found["resources"]:
            path = (directory / resource).resolve()
            assert path.exists()
            named.add(path)
    files = {path for path in MANIFESTS if path.name != "kustomization.yaml"}
    assert {path.name for path in files - named} == {"podmonitor.yaml"}  # the alternative


@pytest.mark.parametrize(
    ("name", "endpoints"),
    [("service", "endpoints"), ("pod", "podMetricsEndpoints")],
)
def test_monitors_select_the_exporter(name: str, endpoints: str) -> None:
    """The operator's schemas are not those of Kubernetes: check what selects and scrapes."""
    monitor = manifest(f"prometheus-operator/{name}monitor.yaml")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["kind"] == f"{name.title()}Monitor"
    wanted = monitor["spec"]["selector"]["matchLabels"]
    daemon_set = manifest("base/daemonset.yaml")
    service = manifest("base/service.yaml")
    pod = daemon_set["spec"]["template"]["metadata"]["labels"]
    assert wanted.items() <= (service["metadata"]["labels"] if name == "service" else pod).items()
    assert service["spec"]["selector"].items() <= pod.items()
    assert daemon_set["spec"]["selector"]["matchLabels"].items() <= pod.items()
    (endpoint,) = monitor["spec"][endpoints]
    assert endpoint["honorLabels"] is True
    ports = {port["name"] for port in exporter()["ports"]}
    assert endpoint["port"] in ports & {port["name"] for port in service["spec"]["ports"]}
    for rule in endpoint["relabelings"]:
        re.compile(rule.get("regex", ""))
        assert rule.keys() <= {"action", "regex", "sourceLabels", "targetLabel"}


def test_arguments_are_options_of_the_command() -> None:
    replaced = {change["path"].rpartition("/")[2]: change["value"] for change in patches()}
    for arguments in (exporter()["args"], replaced["args"]):
        options = parse(arguments)
        assert options.command == "export"
        port = exporter()["ports"][0]["containerPort"]
        assert options.listen == f":{port}"
    assert replaced["command"][-1] == "fastsmaps"


def test_patches_change_what_is_there() -> None:
    for change in patches():
        *parents, last = change["path"].strip("/").split("/")
        place: Any = manifest("base/daemonset.yaml")
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        assert (last in place) == (change["op"] == "replace")


def test_exporter_has_the_least_rights() -> None:
    pod = manifest("base/daemonset.yaml")["spec"]["template"]["spec"]
    context = exporter()["securityContext"]
    assert pod["hostPID"] is True
    assert context["runAsUser"] == 0  # of another uid the capability would not be effective
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["SYS_PTRACE"]}
    assert context["appArmorProfile"] == {"type": "Unconfined"}
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert exporter()["resources"]["limits"] == {"memory": "64Mi"}  # and no CPU limit
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert exporter()[probe]["httpGet"]["path"] in ("/-/ready", "/-/healthy")


def test_dockerfile_starts_the_exporter() -> None:
    lines = (KUBERNETES / "Dockerfile").read_text().splitlines()
    command = yaml.safe_load(next(line for line in lines if line.startswith("CMD "))[4:])
    assert parse(command).command == "export"
    entry = next(line for line in lines if line.startswith("ENTRYPOINT "))
    assert shlex.split(entry.removeprefix("ENTRYPOINT ")) == ["[fastsmaps]"]
    copied = (KUBERNETES / "Dockerfile.dockerignore").read_text().split()
    root = KUBERNETES.parents[1]
    assert all((root / name[1:]).exists() for name in copied if name.startswith("!"))
