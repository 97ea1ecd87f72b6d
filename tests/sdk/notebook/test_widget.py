"""The widget's script in Chromium, with a model that the page controls."""

import html
import io
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import gramophone
from tests.harness import encode, png

HERE = Path(__file__).parent
SOURCE = Path(gramophone.__file__ or "").parent / "notebook"
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Writes no log."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page that shows the widget; the pictures are of 40x30 and 24x16 pixels."""
    folder = tmp_path_factory.mktemp("page")
    for file in (SOURCE / "widget.js", SOURCE / "widget.css", HERE / "widget.html"):
        shutil.copy(file, folder)
    (folder / "first.jpg").write_bytes(encode(Image.open(io.BytesIO(png(40, 30))), "JPEG"))
    (folder / "second.png").write_bytes(png(24, 16))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/widget.html"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def facts(page: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page has observed."""
    if not CHROMIUM:
        pytest.skip("Chromium is not installed")
    profile = tmp_path_factory.mktemp("profile")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=20000", "--dump-dom", page], capture_output=True, text=True, timeout=250
    )
    (found,) = re.findall(r'<pre id="facts">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    known: dict[str, Any] = json.loads(html.unescape(found))
    return known


def test_a_queued_job_has_a_caption_and_no_picture(facts: dict[str, Any]) -> None:
    queued = facts["queued"]
    assert (queued["caption"], queued["picture"], queued["drawn"], queued["disabled"]) == ("queued", None, 0, False)


def test_a_report_shows_its_picture_its_curve_and_its_iteration(facts: dict[str, Any]) -> None:
    running = facts["running"]
    assert running["picture"] == [40, 30]
    assert running["alt"] == "Picture of job ab12 after 3 iterations"
    assert (running["value"], running["max"]) == (3, 12)
    assert running["box"] == "-2 -2 204 44"
    assert running["drawn"] == pytest.approx((200**2 + 40**2) ** 0.5, abs=0.1)
    assert running["caption"] == "running <b>"  # as text, not as markup


def test_the_next_picture_replaces_the_first_and_frees_it(facts: dict[str, Any]) -> None:
    assert facts["later"]["picture"] == [24, 16]
    assert facts["firstIsFreed"] is True


def test_the_button_asks_once_to_cancel(facts: dict[str, Any]) -> None:
    assert facts["clicked"]["sent"] == [{"type": "cancel"}]
    assert facts["clicked"]["disabled"] is True


def test_after_a_failure_the_button_can_be_pressed_again(facts: dict[str, Any]) -> None:
    assert facts["failed"]["message"] == "the server at localhost cannot be reached"
    assert facts["failed"]["disabled"] is False


def test_a_widget_that_is_closed_leaves_no_handlers(facts: dict[str, Any]) -> None:
    assert facts["handlers"] == 0
