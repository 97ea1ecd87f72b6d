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
FILES: dict[str, Any] = {"files": {"url": "s3://bucket/demo", "endpoint": "https://s3.test", "existingSecret": "keys"}}
RAY: dict[str, Any] = {"ray": {"enabled": True, "cpus": 4}, "data": {"accessMode": "ReadWriteMany"}}
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


def pod_of(resources: dict[str, Any]) -> dict[str, Any]:
    """Returns the pod of the servers."""
    return resources["Deployment"]["spec"]["template"]["spec"]


def environment(resources: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables of the server."""
    server = pod_of(resources)["containers"][0]
    return {variable["name"]: variable.get("value") for variable in server["env"]}


def pod_templates(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the templates of the pods of a Ray cluster, the head's first."""
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def volumes(pod: dict[str, Any]) -> dict[str, Any]:
    """Returns the volumes of a pod by their path in its first container."""
    named = {volume["name"]: volume for volume in pod["volumes"]}
    return {mount["mountPath"]: named[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}


@pytest.mark.parametrize(
    "values",
    [
        {"insecure": True},
        {**SECURE, "gpus": 1, "models": {"existingClaim": "models"}, "settings": {"GRAMOPHONE_MAX_QUEUED": "9"}},
        {**SECURE, **CLUSTER, **MONITORED, "keda": {"enabled": True}, "nodeSelector": {"kind": "gpu"}},
        {**SECURE, **CLUSTER, **FILES, "data": {"accessMode": "ReadWriteOnce"}, "serviceAccountName": "painter"},
        {**SECURE, **RAY, "gpus": 1, "models": {"existingClaim": "models"}},
    ],
    ids=["smallest", "gpu", "everything", "object store", "ray"],
)
def test_the_resources_follow_the_schemas_of_kubernetes(values):
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed: run `make helm`"
    )
    for kind, resource in render(values).items():
        # Prometheus Operator, KEDA and KubeRay define the other kinds.
        if kind not in ("ServiceMonitor", "PrometheusRule", "ScaledObject", "RayCluster"):
            validate.validate(resource, _VERSION, strict=True)
        for template in pod_templates(resource) if kind == "RayCluster" else ():
            validate.validate({"apiVersion": "v1", "kind": "Pod", **template}, _VERSION, strict=True)


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
        ({"insecure": True, "ray": {"enabled": True}}, "ray.enabled needs data.accessMode: ReadWriteMany"),
        ({"insecure": True, **CLUSTER, **FILES, **RAY}, "leave files.url empty"),
        ({"insecure": True, **CLUSTER, **RAY}, "needs settings.GRAMOPHONE_RAY_WORKERS"),
        ({"insecure": True, "files": {"url": "bucket"}}, "at '/files/url'"),
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
    pod = pod_of(resources)
    assert pod["terminationGracePeriodSeconds"] > 40 + _AFTER_GRACE


def test_a_cluster_has_several_servers():
    several = render({"insecure": True, **CLUSTER})
    assert several["Deployment"]["spec"]["replicas"] == 3
    assert environment(several)["GRAMOPHONE_CLUSTER"] == "true"
    # With KEDA, an update of the release must not change the number of servers.
    assert "replicas" not in render({"insecure": True, **CLUSTER, "keda": {"enabled": True}})["Deployment"]["spec"]


def test_servers_with_an_object_store_share_no_volume():
    resources = render({"insecure": True, **CLUSTER, **FILES, "data": {"accessMode": "ReadWriteOnce"}})
    assert "PersistentVolumeClaim" not in resources
    assert "emptyDir" in volumes(pod_of(resources))["/data"]
    variables = environment(resources)
    assert variables["GRAMOPHONE_FILES"] == "s3://bucket/demo"
    assert variables["AWS_ENDPOINT_URL"] == "https://s3.test"
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= variables.keys()
    # A server alone may have its database in the volume.
    assert "PersistentVolumeClaim" in render({"insecure": True, **FILES})


def test_workers_on_ray_see_the_folders_of_the_server_at_the_same_paths():
    resources = render({"insecure": True, **RAY, "gpus": 1, "models": {"existingClaim": "models"}})
    pod, cluster = pod_of(resources), resources["RayCluster"]
    _, worker = (template["spec"] for template in pod_templates(cluster))
    own, theirs = volumes(pod), volumes(worker)
    assert own["/data"] == theirs["/data"] and own["/models"] == theirs["/models"]
    server, node = pod["containers"]
    assert node["command"][:2] == ["ray", "start"] and "--num-cpus=0" in node["command"]
    variables = environment(resources)
    head = f"{cluster['metadata']['name']}-head-svc:6379"
    assert variables["GRAMOPHONE_RAY_ADDRESS"] == head and f"--address={head}" in node["command"]
    assert (variables["GRAMOPHONE_EXECUTOR"], variables["GRAMOPHONE_DEVICE"]) == ("ray", "cuda")
    assert variables["GRAMOPHONE_THREADS"] == cluster["spec"]["workerGroupSpecs"][0]["rayStartParams"]["num-cpus"]
    assert "nvidia.com/gpu" not in server["resources"]["limits"]
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    # Ray 2.55 and later find the node only among the processes that they see.
    assert pod["shareProcessNamespace"]


def test_only_the_release_reaches_the_ray_cluster():
    resources = render({"insecure": True, **RAY})
    policy, name = resources["NetworkPolicy"]["spec"], resources["RayCluster"]["metadata"]["name"]
    assert policy["podSelector"]["matchLabels"] == {"ray.io/cluster": name}
    servers = resources["Deployment"]["spec"]["selector"]["matchLabels"]
    (rule,) = policy["ingress"]
    assert [peer["podSelector"]["matchLabels"] for peer in rule["from"]] == [{"ray.io/cluster": name}, servers]


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
