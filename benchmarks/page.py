"""The web page: seconds until it can be used in Chromium on the same machine, and its size."""

import json
import shutil
import statistics
import subprocess
from pathlib import Path

from tests.harness import ServerProcess

from .inputs import UnavailableError

RUNS = 7
_WEB = Path(__file__).parents[1] / "web"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def measure() -> dict:
    """Measures how long the page takes until it shows the models and the jobs of its server.

    Raises:
        UnavailableError: Node.js, Chromium or the packages of web/ are missing.
    """
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None or shutil.which("node") is None or not (_WEB / "node_modules/playwright-core").is_dir():
        raise UnavailableError("this needs Chromium, Node.js, and the packages of the page: npm ci --prefix web")
    with ServerProcess("--http", "127.0.0.1:0") as server:
        command = ["node", str(_WEB / "tests/usable.js"), browser, server.url, str(RUNS + 1)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)
    # The first one is not counted, because the browser and the server read their files from disk.
    seconds = [milliseconds / 1000 for milliseconds in found["usable"][1:]]
    rows = [
        {"what": "opened to usable, median", "measured": f"{statistics.median(seconds):.2f} s", "bar": "< 1 s"},
        {"what": "opened to usable, slowest", "measured": f"{max(seconds):.2f} s", "bar": "< 1 s"},
        {"what": "its files, compressed", "measured": f"{found['bytes'] / 1000:.0f} kB", "bar": "≤ 150 kB"},
    ]
    how = f"{RUNS} times in a new profile of Chromium, until the models and the jobs are shown; the server has no jobs."
    return {"title": "Web page", "how": how, "rows": rows}
