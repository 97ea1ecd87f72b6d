"""Runs the Python of docs/programs.md in order, with smaller pictures."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import gramophone
from gramophone import aio
from tests.harness import ServerProcess, png

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "programs.md").read_text()


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    """The code, with sizes for tests."""
    found = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    return [re.sub("size=512|layers=3", r"\g<0>, iterations=3", code).replace("size=512", "size=32") for code in found]


def test_the_examples_run(
    blocks: list[str], server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show, progress, pictures, textures, *functions = blocks
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gramophone.Job, "show", lambda job: None)  # tested in notebooks
    for seed, name in enumerate(("harbour.jpg", "night.jpg", "seascape.jpg")):
        (tmp_path / name).write_bytes(png(40, 32, seed))
    (tmp_path / "painted").mkdir()
    with gramophone.Client(server.address) as client:
        names: dict[str, Any] = {"client": client, "photos": ["harbour.jpg", "seascape.jpg"], "gramophone": gramophone}
        for code in (show, progress, pictures, textures):
            exec(compile(code, "programs.md", "exec"), names)
        assert names["result"].iterations == names["frame"].iteration == 3
        assert [outcome.result().iterations for outcome in names["outcomes"]] == [3, 3]
        for number in range(2):
            with Image.open(f"painted/{number}.png") as image:
                assert max(image.size) == 32
    assert len(functions) == 2


async def test_the_relay_yields_the_frames_after_an_event(blocks: list[str], server: ServerProcess) -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks[4], "programs.md", "exec"), names)
    async with aio.Client(server.address) as client:
        job = await client.style(png(), size=32, iterations=20, report_every=5)
        await job.result()
        known = [pair async for pair in names["frames_after"](client, job.id, 0)]
        assert [iteration for _, iteration in known][-1] == 20
        rest = [pair async for pair in names["frames_after"](client, job.id, known[0][0])]
        assert rest == known[1:]


def test_a_task_that_finds_no_room_is_sent_back(blocks: list[str]) -> None:
    names: dict[str, Any] = {"gramophone": gramophone}
    exec(compile(blocks[5], "programs.md", "exec"), names)

    class Retry(Exception):
        pass

    def full(*_: Any, **options: Any) -> None:
        assert options == {"request_id": "task-1"}
        raise gramophone.OverloadedError("full", 2.5)

    def retry(exc: Exception, countdown: float) -> Exception:
        assert isinstance(exc, gramophone.OverloadedError) and countdown == 2.5
        return Retry()

    with pytest.raises(Retry):
        names["submit"](
            SimpleNamespace(transfer=full), SimpleNamespace(retry=retry, request=SimpleNamespace(id="task-1")), 1, 2
        )


def test_every_link_names_a_file() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]
    assert len(links) >= 5
    for link in links:
        assert (REPOSITORY / "docs" / link).exists(), link
