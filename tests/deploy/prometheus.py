"""Runs a real Prometheus, which scrapes a server."""

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import yaml


class Prometheus:
    """Prometheus on a free loopback port, until its `with` block ends.

    Skips the test where Prometheus is not installed.

    Args:
        folder: folder for its configuration and data.
        target: host and port that it scrapes every half second.
        rules: file of alert rules.
    """

    def __init__(self, folder: Path, target: str, rules: Path) -> None:
        program = shutil.which("prometheus")
        if program is None:
            pytest.skip("Prometheus is not installed: on Debian, `apt-get install prometheus`")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{taken.getsockname()[1]}"
        configuration = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "gramophone", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        command = [
            program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self._address}",
        ]  # fmt: skip
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)

    def __enter__(self) -> "Prometheus":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def query(self, expression: str) -> list[Any]:
        """Returns the series of an expression.

        Raises:
            urllib.error.HTTPError: it is invalid.
        """
        answer = self._get(f"query?query={urllib.parse.quote(expression)}")
        assert answer["status"] == "success"
        series: list[Any] = answer["data"]["result"]
        return series

    def rules(self) -> dict[str, Any]:
        """Returns the state of each alert rule, by its name."""
        return {rule["name"]: rule for group in self._get("rules")["data"]["groups"] for rule in group["rules"]}

    def answers(self) -> bool:
        """Returns whether it accepts requests yet."""
        try:
            return bool(self._get("rules"))
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{path}", timeout=10) as response:
            return json.load(response)
