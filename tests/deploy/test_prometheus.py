"""A real Prometheus scrapes a real server: the rules are evaluated, the panels show values, and an alert goes off."""

import re
import shutil
import subprocess

import pytest

from tests.deploy.prometheus import Prometheus
from tests.deploy.test_metrics import CHART, panels, use
from tests.harness import ServerProcess, wait_until

RULES = CHART / "files/rules.yaml"
# Grafana replaces these.
_VARIABLES = {"$instance": ".*", "$__rate_interval": "4s"}


def expanded(expression: str) -> str:
    """An expression of the dashboard with the values of its variables."""
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed: it is in Debian's prometheus")
def test_promtool_accepts_the_rules():
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_panels_show_values_and_the_rules_are_evaluated(tmp_path):
    with ServerProcess("--metrics-port", "0") as server:
        (target,) = re.findall(r"metrics on http://(\S+)/metrics", server.read_log())
        with Prometheus(tmp_path, target, RULES) as prometheus:
            wait_until(prometheus.answers, "the start of Prometheus")
            wait_until(lambda: bool(prometheus.query("gramophone_ready == 1")), "the first scrape of a ready server")
            use(server)
            # A rate needs two samples.
            done = "sum(rate(gramophone_refusals_total[4s]))"
            wait_until(lambda: bool(prometheus.query(done)), "the scrapes of the ended calls")
            assert [expression for expression in panels() if not prometheus.query(expanded(expression))] == []
            wait_until(lambda: all(r["lastEvaluation"] > "2" for r in prometheus.rules().values()), "the rules")
            rules = prometheus.rules()
            assert {name: rule["lastError"] for name, rule in rules.items() if rule["health"] != "ok"} == {}
            assert all(rule["state"] == "inactive" for name, rule in rules.items() if name != "GramophoneWorkerDown")
            server.process.kill()
            # The rule waits two minutes before it fires.
            wait_until(lambda: prometheus.rules()["GramophoneDown"]["state"] == "pending", "the alert")
