"""Every metric in the alert rules, the dashboard and the chart is one that a real server has, with these labels."""

import json
import re
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gramophone.v1 import model_service_pb2
from tests.harness import ServerProcess, run, style_request

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "deploy/helm/gramophone"
# Labels that Prometheus adds.
_ADDED = {"instance", "job", "namespace", "service", "le"}
# Functions and words of PromQL are not followed by a name of ours.
_SELECTOR = re.compile(r"\b(gramophone_\w+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPING = re.compile(r"\bby\s*\(([^)]*)\)")


def rules() -> list[str]:
    """The expressions of the alert rules."""
    groups = yaml.safe_load((CHART / "files/rules.yaml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def panels() -> list[str]:
    """The expressions of the dashboard."""
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def scaling() -> list[str]:
    """The expressions by which the chart scales the number of servers; their labels are those that Prometheus adds."""
    template = (CHART / "templates/scaledobject.yaml").read_text()
    return [re.sub(r"\{ \{\{.*?\}\} \}", "", line) for line in template.splitlines() if "gramophone_jobs" in line]


def use(server: ServerProcess) -> None:
    """Runs a job, and makes a unary call and an invalid one: a metric with labels has no samples before that."""
    run(server, style_request())
    server.models.ListModels(model_service_pb2.ListModelsRequest())
    with pytest.raises(grpc.RpcError):
        run(server, style_request(size=-1))


@pytest.fixture(scope="module")
def scraped() -> dict[str, set[str]]:
    """The names of the labels of each metric of a server that has been used."""
    with ServerProcess("--metrics-port", "0") as server:
        use(server)
        (url,) = re.findall(r"metrics on (\S+)", server.read_log())
        text = urllib.request.urlopen(url, timeout=10).read().decode()
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return found


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yields each metric of an expression, with the labels that its selector names."""
    for name, selector in _SELECTOR.findall(expression):
        yield name, set(_LABEL.findall(selector))


@pytest.mark.parametrize("expressions", [rules, panels, scaling])
def test_the_metrics_and_their_labels_exist(scraped, expressions):
    found = [item for expression in expressions() for item in used(expression)]
    assert len(found) >= 2
    for name, labels in found:
        assert name in scraped, name
        assert labels - _ADDED <= scraped[name], (name, labels)


@pytest.mark.parametrize("expressions", [rules, panels])
def test_sums_are_grouped_by_labels_that_exist(scraped, expressions):
    for expression in expressions():
        known = set.union(_ADDED, *(scraped[name] for name, _ in used(expression)))
        for names in _GROUPING.findall(expression):
            assert {name.strip() for name in names.split(",")} <= known, expression


def test_the_documentation_names_every_alert_and_every_metric():
    page = (REPOSITORY / "docs/operations.md").read_text()
    for name in {name for expression in (*rules(), *panels()) for name, _ in used(expression)}:
        assert re.sub(r"_(bucket|count)$", "", name) in page, name
