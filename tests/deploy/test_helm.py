"""The Helm chart, rendered by Helm itself and checked against the schemas of Kubernetes; `make helm` installs both."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gramophone_server.settings.groups import LifetimeSettings

CHART = Path(__file__).resolve().parents[2] / "deploy/helm/gramophone"
# A server has ended this many seconds after --grace.
_AFTER_GRACE = 5
_VERSION = "1.31"

SECURE: dict[str, Any] = {"tls": {"existingSecret": "tls"}, "tokens": {"existingSecret": "tokens"}}
CLUSTER: dict[str, Any] = {
    "cluster": {"enabled": True}, "database": {"existingSecret": "database"}, "data": {"accessMode": "ReadWriteMany"},
    "replicas": 3,
}  # fmt: skip
MONITORED: dict[str, Any] = {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")}


def render(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the rendered resources by their kind.

    Raises:
        helm_python.HelmError: the chart rejects the values.
    """
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed: run `make helm`")
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values=values, name="demo", namespace="paint")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return {found["kind"]: found for text in texts for found in yaml.safe_load_all(text) if found}


def environment(resources: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables of the server."""
    (container,) = resources["Deployment"]["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value") for variable in container["env"]}


@pytest.mark.parametrize(
    "values",
    [
        {"insecure": True},
        {**SECURE, "gpus": 1, "models": {"existingClaim": "models"}, "settings": {"GRAMOPHONE_MAX_QUEUED": "9"}},
        {**SECURE, **CLUSTER, **MONITORED, "keda": {"enabled": True}, "nodeSelector": {"kind": "gpu"}},
    ],
    ids=["smallest", "gpu", "everything"],
)
def test_the_resources_follow_the_schemas_of_kubernetes(values):
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed: run `make helm`"
    )
    for kind, resource in render(values).items():
        # Prometheus Operator and KEDA define the other kinds.
        if kind not in ("ServiceMonitor", "PrometheusRule", "ScaledObject"):
            validate.validate(resource, _VERSION, strict=True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "set tls.existingSecret and tokens.existingSecret, or insecure: true"),
        ({"insecure": True, "replicas": 2}, "need cluster.enabled: true"),
        ({"insecure": True, "keda": {"enabled": True}}, "need cluster.enabled: true"),
        ({"insecure": True, "cluster": {"enabled": True}}, "needs database.existingSecret"),
        (
            {"insecure": True, **CLUSTER, "data": {"accessMode": "ReadWriteOnce"}},
            "needs data.accessMode: ReadWriteMany",
        ),
        ({"insecure": True, "settings": {"GRAMOPHONE_GRACE": "60"}}, "Set grace instead"),
        ({"insecure": True, "replica": 1}, "'replica' not allowed"),
        ({"insecure": True, "grace": "ten"}, "at '/grace': got string, want integer"),
    ],
)
def test_values_that_cannot_work_are_rejected_in_sentences(values, words):
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed: run `make helm`")
    with pytest.raises(helm.HelmError, match=re.escape(words)):
        render(values)


def test_the_pod_has_more_time_than_the_server_needs_to_stop():
    resources = render({"insecure": True, "grace": 40})
    assert environment(resources)["GRAMOPHONE_GRACE"] == "40"
    pod = resources["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 40 + _AFTER_GRACE


def test_a_cluster_has_several_servers():
    several = render({"insecure": True, **CLUSTER})
    assert several["Deployment"]["spec"]["replicas"] == 3
    assert environment(several)["GRAMOPHONE_CLUSTER"] == "true"
    # With KEDA, an update of the release must not change the number of servers.
    assert "replicas" not in render({"insecure": True, **CLUSTER, "keda": {"enabled": True}})["Deployment"]["spec"]


def test_the_rules_and_the_dashboard_are_in_the_release():
    resources = render({"insecure": True, **MONITORED})
    assert resources["PrometheusRule"]["spec"] == yaml.safe_load((CHART / "files/rules.yaml").read_text())
    dashboard = json.loads(resources["ConfigMap"]["data"]["gramophone.json"])
    assert dashboard == json.loads((CHART / "files/dashboard.json").read_text())


def test_the_default_values_follow_the_schema():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    assert set(values) == set(schema["properties"]) - {"global"}
    assert values["grace"] == LifetimeSettings.grace
