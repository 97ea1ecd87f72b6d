"""Standard streams of every kind: pipes that close, disks that are full, terminals that are small, dumb or none."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminals import Terminal
from tests.cli.test_commands import gramophone
from tests.sdk.flaky_server import RESULT, FlakyServer


@pytest.fixture(scope="module")
def flaky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlakyServer]:
    with FlakyServer(tmp_path_factory.mktemp("flaky") / "server") as server:
        for i in range(3000):
            (server.folder / "jobs" / f"{i:030x}").touch()
        yield server


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(RESULT)
    return path


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script of bash, in which `gramophone` is this one's."""
    function = f'gramophone() {{ "{sys.executable}" -m gramophone "$@"; }}; set -o pipefail; '
    return subprocess.run(
        ["bash", "-c", function + script], capture_output=True, text=True, timeout=120, env=os.environ | environment
    )


READERS_THAT_LEAVE = [
    "jobs list --limit 3000",
    "jobs top --once",
    "jobs show 000000000000000000000000000001",
    "estimate style PICTURE",
    "style PICTURE -o OUT",
    "style PICTURE -o -",
    "jobs download 000000000000000000000000000001 -o -",
    "models list",
    "--help",
    "jobs list --help",
]


@pytest.mark.parametrize("command", READERS_THAT_LEAVE)
def test_a_closed_pipe_is_quiet(flaky: FlakyServer, picture: Path, command: str) -> None:
    words = command.replace("PICTURE", str(picture)).replace("OUT", str(picture.with_name("out.png")))
    done = shell(f"gramophone {words} 2> '{picture}.err' | exec 0<&-", GRAMOPHONE_SERVER=flaky.address)
    errors = Path(f"{picture}.err").read_text()
    assert done.returncode in (0, 141), errors
    for line in errors.splitlines():
        assert line.startswith(("job ", "models that you add", "-: ")), errors


def test_head_gets_its_lines(flaky: FlakyServer) -> None:
    done = shell("gramophone jobs list --limit 3000 | head -n 2", GRAMOPHONE_SERVER=flaky.address)
    assert (len(done.stdout.splitlines()), done.stderr, done.returncode) == (2, "", 141)


@pytest.mark.parametrize("command", ["jobs list", "jobs top --once", "estimate style PICTURE", "models list", "--help"])
@pytest.mark.parametrize(("into", "words"), [("> /dev/full", "No space left"), (">&-", "Bad file descriptor")])
def test_output_that_cannot_be_written_is_told(
    flaky: FlakyServer, picture: Path, command: str, into: str, words: str
) -> None:
    words_of = command.replace("PICTURE", str(picture))
    done = shell(f"gramophone {words_of} {into}", GRAMOPHONE_SERVER=flaky.address)
    assert done.returncode == 1
    assert f"Error: standard output cannot be written: {words}" in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "0<&-", "<&- >&- 2>&-", "> /dev/full 2> /dev/full"])
def test_streams_that_are_closed(flaky: FlakyServer, picture: Path, closed: str) -> None:
    """The picture is painted all the same, and nothing is written into it by mistake."""
    out = picture.with_name("out.png")
    done = shell(f"gramophone style {picture} -o {out} {closed}", GRAMOPHONE_SERVER=flaky.address)
    assert done.returncode == (1 if "&- >" in closed or "full" in closed else 0), done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}],
    ids=str,
)
def test_characters_that_the_output_lacks(flaky: FlakyServer, tmp_path: Path, environment: dict[str, str]) -> None:
    name = tmp_path / "grün\udcff\n.png"
    name.write_bytes(RESULT)
    out = tmp_path / "ö.png"
    done = subprocess.run(
        [sys.executable, "-m", "gramophone", "style", str(name), "-o", str(out), "--server", flaky.address],
        capture_output=True, timeout=60, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"1x1" in done.stdout
    again = gramophone("style", tmp_path / "\udcff.png", "--server", flaky.address, **environment)
    assert again.returncode == 2
    assert "there is no file '" in again.stderr and "Traceback" not in again.stderr


@pytest.mark.parametrize("args", [["--model", b"\xff"], ["--layers", b"\xff"]], ids=str)
def test_arguments_that_are_no_text(flaky: FlakyServer, picture: Path, args: list[str | bytes]) -> None:
    command = [sys.executable, "-m", "gramophone", "style", str(picture), *args, "--server", flaky.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "bytes that are no text" in done.stderr


@pytest.mark.parametrize(
    ("size", "terminal"), [((24, 80), "xterm"), ((5, 20), "dumb"), ((1, 1), "xterm"), ((0, 0), "")], ids=str
)
def test_terminals(flaky: FlakyServer, picture: Path, size: tuple[int, int], terminal: str) -> None:
    out = picture.with_name("out.png")
    with Terminal("style", picture, "-o", out, "--server", flaky.address, size=size, TERM=terminal) as shown:
        assert shown.end() == 0
        assert "1x1" in shown.shown


def test_top_in_a_dumb_terminal(flaky: FlakyServer) -> None:
    with Terminal("jobs", "top", "--server", flaky.address, TERM="dumb") as shown:
        assert shown.end() == 0
        assert "\x1b" not in shown.shown


def test_without_a_terminal(flaky: FlakyServer, picture: Path) -> None:
    """As from cron: no terminal, no input, hardly any environment."""
    out = picture.with_name("out.png")
    done = subprocess.run(
        [sys.executable, "-m", "gramophone", "style", picture, "-o", out, "--server", flaky.address],
        env={name: os.environ[name] for name in ("PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: 1x1")


def test_pictures_go_through_pipes(flaky: FlakyServer, picture: Path) -> None:
    out = picture.with_name("piped.png")
    done = shell(f"gramophone style - -o - < {picture} > {out}", GRAMOPHONE_SERVER=flaky.address)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "-: 1x1" in done.stderr
    done = shell(f"gramophone style <(cat {picture}) -o {out}", GRAMOPHONE_SERVER=flaky.address)
    assert done.returncode == 0, done.stderr
