"""Commands with unusual standard streams: closed pipes, a full disk, small or dumb terminals, no terminal."""

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
    """Runs a bash script in which `gramophone` is the command under test."""
    function = f'gramophone() {{ "{sys.executable}" -m gramophone "$@"; }}; set -o pipefail; '
    return subprocess.run(
        ["bash", "-c", function + script], capture_output=True, text=True, timeout=120, env=os.environ | environment
    )


PIPED_COMMANDS = [
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


@pytest.mark.parametrize("command", PIPED_COMMANDS)
def test_a_closed_pipe_gives_no_error_message(flaky: FlakyServer, picture: Path, command: str) -> None:
    words = command.replace("PICTURE", str(picture)).replace("OUT", str(picture.with_name("out.png")))
    done = shell(f"gramophone {words} 2> '{picture}.err' | exec 0<&-", GRAMOPHONE_SERVER=flaky.address)
    errors = Path(f"{picture}.err").read_text()
    assert done.returncode in (0, 141), errors
    for line in errors.splitlines():
        assert line.startswith(("job ", "models that you add", "-: ")), errors


def test_head_gets_the_first_lines(flaky: FlakyServer) -> None:
    done = shell("gramophone jobs list --limit 3000 | head -n 2", GRAMOPHONE_SERVER=flaky.address)
    assert (len(done.stdout.splitlines()), done.stderr, done.returncode) == (2, "", 141)


@pytest.mark.parametrize("command", ["jobs list", "jobs top --once", "estimate style PICTURE", "models list", "--help"])
@pytest.mark.parametrize(("into", "words"), [("> /dev/full", "No space left"), (">&-", "Bad file descriptor")])
def test_an_error_when_writing_output_is_reported(
    flaky: FlakyServer, picture: Path, command: str, into: str, words: str
) -> None:
    words_of = command.replace("PICTURE", str(picture))
    done = shell(f"gramophone {words_of} {into}", GRAMOPHONE_SERVER=flaky.address)
    assert done.returncode == 1
    assert f"Error: standard output cannot be written: {words}" in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "0<&-", "<&- >&- 2>&-", "> /dev/full 2> /dev/full"])
def test_a_job_with_closed_standard_streams(flaky: FlakyServer, picture: Path, closed: str) -> None:
    """The job still runs, and messages for a closed stream do not end up in the picture file."""
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
def test_file_names_that_the_output_encoding_cannot_represent(
    flaky: FlakyServer, tmp_path: Path, environment: dict[str, str]
) -> None:
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
def test_arguments_that_are_not_valid_text_are_refused(
    flaky: FlakyServer, picture: Path, args: list[str | bytes]
) -> None:
    command = [sys.executable, "-m", "gramophone", "style", str(picture), *args, "--server", flaky.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "bytes that are not valid UTF-8 text" in done.stderr


@pytest.mark.parametrize(
    ("size", "terminal"), [((24, 80), "xterm"), ((5, 20), "dumb"), ((1, 1), "xterm"), ((0, 0), "")], ids=str
)
def test_painting_in_small_and_dumb_terminals(
    flaky: FlakyServer, picture: Path, size: tuple[int, int], terminal: str
) -> None:
    out = picture.with_name("out.png")
    with Terminal("style", picture, "-o", out, "--server", flaky.address, size=size, TERM=terminal) as shown:
        assert shown.end() == 0
        assert "1x1" in shown.shown


def test_top_prints_no_control_sequences_in_a_dumb_terminal(flaky: FlakyServer) -> None:
    with Terminal("jobs", "top", "--server", flaky.address, TERM="dumb") as shown:
        assert shown.end() == 0
        assert "\x1b" not in shown.shown


def test_commands_work_without_a_terminal(flaky: FlakyServer, picture: Path) -> None:
    """The command runs as from cron: no terminal, no input, and almost no environment variables."""
    out = picture.with_name("out.png")
    done = subprocess.run(
        [sys.executable, "-m", "gramophone", "style", picture, "-o", out, "--server", flaky.address],
        env={name: os.environ[name] for name in ("PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: 1x1")


def test_pictures_from_standard_input_and_to_standard_output(flaky: FlakyServer, picture: Path) -> None:
    out = picture.with_name("piped.png")
    done = shell(f"gramophone style - -o - < {picture} > {out}", GRAMOPHONE_SERVER=flaky.address)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "-: 1x1" in done.stderr
    done = shell(f"gramophone style <(cat {picture}) -o {out}", GRAMOPHONE_SERVER=flaky.address)
    assert done.returncode == 0, done.stderr
