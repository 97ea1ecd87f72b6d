"""`gramophone studio`: a server with the web page, or the page of the server that runs already."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gramophone_server.http.page import Page
from tests.http import web

COMMAND = [sys.executable, "-c", "from gramophone_server.cli.studio import studio; studio()", "--no-browser"]


@pytest.mark.skipif(not Page().exists, reason="the page is not built")
def test_the_page_is_opened_and_a_second_call_finds_its_server(tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    environment = os.environ | {"XDG_DATA_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)}
    del environment["GRAMOPHONE_KEEP"]
    first = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert first.stderr is not None
        said = ""
        while "the page is at" not in said:
            said = first.stderr.readline()
            assert said, "the server has ended"
        (url,) = re.findall(r"at (http://127\.0\.0\.1:\d+);", said)
        page = web.request(url, "GET", "/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        again = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60)
        assert (again.returncode, again.stdout) == (0, "")
        assert f"{url}, of the server that runs already" in again.stderr
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)
    assert first.returncode == 0
