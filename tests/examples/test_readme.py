"""Runs the README's examples, with another address and smaller pictures."""

import re
from pathlib import Path

import pytest
from PIL import Image

import gramophone
from tests.harness import ServerProcess, png

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()


def test_the_python_examples_run(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, batch = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace("localhost:50051", server.address)
    code = re.sub(r"size=\d+, iterations=\d+", "size=32, iterations=3", code)
    code = re.sub(r"(layers=3|layer=\"conv4_2\")\)", r"\1, size=32, iterations=3)", code)
    (tmp_path / "harbour.jpg").write_bytes(png(40, 32, seed=1))
    (tmp_path / "night.jpg").write_bytes(png(32, 40, seed=2))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    with Image.open("out.png") as out:
        assert max(out.size) == 32
    texture, ghost = names["texture"], names["ghost"]
    assert isinstance(texture, gramophone.Result)
    assert isinstance(ghost, gramophone.Result)
    assert texture.image.size == (32, 32)
    assert ghost.iterations == 3
    seen: list[tuple[str, object]] = []
    with gramophone.Client(server.address) as client:
        names = {"client": client, "photos": ["harbour.jpg", "night.jpg"]}
        names["print"] = lambda *shown: seen.append(shown)
        exec(compile(batch.replace("size=512", "size=32, iterations=3"), "README.md", "exec"), names)
    assert sorted(str(photo) for photo, _ in seen) == ["harbour.jpg", "night.jpg"]
    assert all(isinstance(loss, float) for _, loss in seen)


def test_every_link_names_a_file() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (REPOSITORY / link).exists(), link


def test_the_picture_takes_less_than_300_kb() -> None:
    (picture,) = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert (REPOSITORY / picture).stat().st_size < 300_000


def test_every_command_and_option_exists() -> None:
    from click.testing import CliRunner

    from gramophone.cli import main

    commands = re.findall(r"^    gramophone (.+)$", README, re.MULTILINE)
    commands += re.findall(r"`gramophone ([^`]+)`", README)
    assert len(commands) >= 5
    for command in commands:
        words = command.split()
        options = [word for word in words if word.startswith("-") and word != "--help"]
        names = words[:2] if words[0] == "models" else words[:1]
        shown = CliRunner().invoke(main, ["--help"] if "--help" in words else [*names, "--help"])
        assert shown.exit_code == 0, command
        for option in options:
            assert re.search(rf"{re.escape(option)}\b", shown.output), (command, option)


def test_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = re.findall(r"`make ([a-z]+)", README) + re.findall(r"^    make ([a-z]+)", README, re.MULTILINE)
    assert {"demo", "test"} < set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
