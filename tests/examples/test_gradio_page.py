"""The page with Gradio against a real server; skipped without Gradio, which is large."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

import gramophone
from tests.harness import ServerProcess, png, wait_until

PAGE = Path(__file__).resolve().parents[2] / "examples" / "programs" / "gradio_page.py"


@pytest.fixture(scope="module")
def page(program: Callable[[str], ModuleType]) -> Any:
    pytest.importorskip("gradio", reason="gradio is not installed: pip install gradio")
    return program("gradio_page")


def picture(tmp_path: Path, seed: int) -> Any:
    path = tmp_path / f"{seed}.png"
    path.write_bytes(png(seed=seed))
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def test_the_page_streams_pictures(page: Any, tmp_path: Path) -> None:
    client = pytest.importorskip("gradio_client")
    page.page.queue().launch(prevent_thread_lock=True, quiet=True)
    try:
        caller = client.Client(page.page.local_url, verbose=False)
        work = caller.submit(picture(tmp_path, 0), picture(tmp_path, 1), 64, 40, api_name="/paint")
        last = work.result(timeout=120)
        assert len(work.outputs()) >= 2
        with Image.open(last) as image:
            assert max(image.size) == 64
    finally:
        page.page.close()


def test_stopping_cancels_the_job(page: Any, server: ServerProcess) -> None:
    painting = page.paint(Image.new("RGB", (48, 48), "red"), Image.new("RGB", (48, 48), "blue"), 64, 100_000)
    assert isinstance(next(painting), Image.Image)
    painting.close()
    with gramophone.Client(server.address) as client:
        wait_until(lambda: not list(client.jobs(states=["queued", "running"])), "the job to end")


def test_the_page_has_at_most_twenty_lines() -> None:
    assert sum(bool(line.strip()) for line in PAGE.read_text().splitlines()) <= 20
