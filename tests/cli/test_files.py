"""Wrong files and arguments: the command names them in an error message, and submits no job."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from gramophone.cli import main
from tests.cli import test_commands
from tests.cli.quick import gramophone
from tests.sdk.flaky_server import RESULT, FlakyServer


@pytest.fixture(scope="module")
def flaky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlakyServer]:
    with FlakyServer(tmp_path_factory.mktemp("flaky") / "server") as server:
        yield server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flaky: FlakyServer) -> Path:
    """A working directory with pictures, a folder, an empty file, a named pipe and links."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMOPHONE_SERVER", flaky.address)
    for name in ("a.png", "b.png", "c.png", "night.png", "-dash.png", "two\nlines.png", "x/a.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(RESULT)
    Path("frames").mkdir()
    Path("empty.png").touch()
    os.mkfifo("pipe")
    Path("link.png").symlink_to("a.png")
    os.link("a.png", "hard.png")
    return tmp_path


def submissions(flaky: FlakyServer) -> int:
    """The number of jobs that clients have submitted to the server."""
    return sum(len(flaky.calls(method)) for method in ("ReconstructStyle", "ReconstructContent", "TransferStyle"))


PICTURES = [
    (
        "frames",
        "a folder, not a picture; name a file in it, such as frames/photo.png|a folder without pictures",
    ),
    ("nowhere.png", "there is no file nowhere.png"),
    ("frames/*.png", "no file matches frames/*.png"),
    ("empty.png", "empty.png is empty"),
    ("", "there is no file ''|'' is a folder"),
    ("a.png/b.png", "a.png/b.png cannot be read: Not a directory"),
    ("x" * 300, "cannot be read: File name too long"),
    ("/dev/null", "/dev/null is empty"),
    ("/dev/zero", "/dev/zero has more than 128 MiB"),
    ("-", "standard input is empty"),
    ("no\nfile\x1b[2J.png", r"there is no file 'no\nfile\x1b[2J.png'"),
]


@pytest.mark.parametrize(("name", "words"), PICTURES)
@pytest.mark.parametrize(
    ("args", "argument"),
    [
        (["style", "NAME"], "PICTURES"),
        (["content", "NAME"], "PICTURE"),
        (["transfer", "NAME", "b.png"], "CONTENT"),
        (["transfer", "a.png", "--style", "NAME"], "--style"),
        (["transfer", "a.png", "b.png", "--source-mask", "NAME"], "--source-mask"),
        (["style", "a.png", "--init", "NAME"], "--init"),
        (["sweep", "NAME"], "PICTURE"),
        (["estimate", "style", "NAME"], "PICTURES"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_file_that_is_not_a_picture_is_refused(
    flaky: FlakyServer, args: list[str], argument: str, name: str, words: str
) -> None:
    if name == "-" and "--source-mask" in args:
        pytest.skip("- stands for no mask")
    if args != ["style", "NAME"] and name == "/dev/zero":
        pytest.skip("slow: tested with one command only")
    before = submissions(flaky)
    done = run(args, name)
    assert done.exit_code == 2, done.stderr
    assert argument in done.stderr
    assert any(part in done.stderr for part in words.split("|")), done.stderr
    assert "Traceback" not in done.stderr and "Errno" not in done.stderr
    assert submissions(flaky) == before


def run(args: list[str], name: str) -> Result:
    """Runs a command in this process, with `name` for NAME."""
    return CliRunner().invoke(main, [name if arg == "NAME" else arg for arg in args])


OUTPUTS = [
    ("frames", "frames is a folder; name the file in it, such as frames/out.png"),
    ("a.png/out.png", "a.png is not a folder"),
    ("a.png", "a.png is an input picture and would be overwritten"),
    ("./x/../a.png", "would be overwritten"),
    ("link.png", "would be overwritten"),
    ("hard.png", "would be overwritten"),
    ("out.xyz", "cannot be written as .xyz; use .png"),
    ("out", "cannot be written as a file without a suffix; use .png"),
    ("x" * 252 + ".png", "File name too long"),
    ("/proc/out.png", "/proc/out.png cannot be written"),
    ("/dev/null", "/dev/null is not a regular file"),
    ("pipe", "pipe is not a regular file"),
    ("", "folder"),
]


@pytest.mark.parametrize(("name", "words"), OUTPUTS)
@pytest.mark.parametrize("args", [["style"], ["content"], ["transfer", "night.png"], ["sweep"]], ids=str)
def test_an_output_that_cannot_be_written_is_refused(
    flaky: FlakyServer, args: list[str], name: str, words: str
) -> None:
    before = submissions(flaky)
    done = run([args[0], "a.png", *args[1:], "-o", "NAME"], name)
    assert done.exit_code == 2, done.stderr
    assert words in done.stderr and "--output" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert submissions(flaky) == before
    assert Path("a.png").read_bytes() == RESULT
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_missing_folders_of_the_output_are_created() -> None:
    assert gramophone("style", "a.png", "-o", "new/folder/out.png").returncode == 0
    assert Image.open("new/folder/out.png").size == (1, 1)
    assert not list(Path("new/folder").glob(".*"))


@pytest.mark.parametrize("name", ["./-dash.png", "two\nlines.png"])
def test_unusual_file_names_are_accepted(name: str) -> None:
    done = gramophone("style", name, "-o", "odd\n.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(r"'odd\n.png': 1x1")
    assert Path("odd\n.png").is_file()


def test_a_file_name_with_a_leading_dash_needs_two_dashes_before() -> None:
    assert gramophone("style", "-o", "out.png", "--", "-dash.png").returncode == 0
    # The hint uses sys.argv, so that the command needs a separate process.
    done = test_commands.gramophone("style", "-dash.png")
    assert done.returncode == 2
    assert "write ./-dash.png" in done.stderr


def test_options_may_be_before_or_after_arguments() -> None:
    for args in (["style", "a.png", "-o", "o.png"], ["style", "-o", "o.png", "a.png"]):
        assert gramophone(*args).returncode == 0


class TestTransfer:
    """Contents, styles and outputs of `gramophone transfer`."""

    @pytest.mark.parametrize(
        "args", [["a.png", "b.png"], ["a.png", "--style", "b.png"], ["-s", "b.png", "a.png"]], ids=str
    )
    def test_one_content_and_one_style_are_accepted(self, args: list[str]) -> None:
        done = gramophone("transfer", *args, "-o", "out.png")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("out.png: 1x1")

    @pytest.mark.parametrize("command", [["transfer"], ["estimate", "transfer"]], ids=str)
    def test_three_pictures_without_an_option_are_refused(self, flaky: FlakyServer, command: list[str]) -> None:
        before = submissions(flaky)
        done = gramophone(*command, "a.png", "b.png", "night.png")
        assert done.returncode == 2
        words = " ".join(command)
        assert f"gramophone {words} a.png --style b.png --style night.png" in done.stderr
        assert f"gramophone {words} a.png b.png --style night.png -o painted/" in done.stderr
        assert submissions(flaky) == before

    def test_a_missing_style_is_reported(self) -> None:
        done = gramophone("transfer", "a.png")
        assert done.returncode == 2
        assert "a style is missing: gramophone transfer a.png STYLE" in done.stderr

    @pytest.mark.parametrize(
        ("output", "made"),
        [
            ("painted/", ["painted/a.png", "painted/b.png", "painted/c.png"]),
            ("frames", ["frames/a.png", "frames/b.png", "frames/c.png"]),
            ("new/{stem}-night.jpg", ["new/a-night.jpg", "new/b-night.jpg", "new/c-night.jpg"]),
        ],
    )
    def test_several_contents_make_several_outputs(self, output: str, made: list[str]) -> None:
        done = gramophone(
            "transfer", "a.png", "b.png", "c.png", "--style", "night.png", "-o", output, "--previews", "p"
        )
        assert done.returncode == 0, done.stderr
        assert sorted(line.partition(":")[0] for line in done.stdout.splitlines()) == made
        assert all(Image.open(path).size == (1, 1) for path in made)

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["a.png", "b.png", "-s", "night.png"], "2 pictures cannot all be written to out.png"),
            (["a.png", "b.png", "-s", "night.png", "-o", "one.png"], "2 pictures cannot all be written to one.png"),
            (["a.png", "b.png", "-s", "night.png", "-o", "-"], "2 pictures cannot all be written to -"),
            (
                ["a.png", "x/a.png", "-s", "night.png", "-o", "painted/"],
                "several pictures would be written to painted/a.png",
            ),
            (["a.png", "a.png", "-s", "night.png", "-o", "painted/"], "several pictures would be written to"),
            (["a.png", "b.png", "-s", "night.png", "-o", "./"], "would be overwritten"),
            (["b.png", "c.png", "-s", "a.png", "-o", "x/../{stem}.png"], "would be overwritten"),
            (["b.png", "c.png", "-s", "a.png", "-o", "x/{stem}.xyz"], ".xyz"),
        ],
        ids=str,
    )
    def test_outputs_that_would_overwrite_a_file_are_refused(
        self, flaky: FlakyServer, args: list[str], words: str
    ) -> None:
        before = submissions(flaky)
        done = gramophone("transfer", *args)
        assert done.returncode == 2
        assert words in done.stderr
        assert submissions(flaky) == before
        assert all(Path(name).read_bytes() == RESULT for name in ("a.png", "b.png", "c.png", "x/a.png"))

    def test_the_output_may_be_a_folder(self) -> None:
        assert gramophone("transfer", "a.png", "b.png", "-o", "painted/").returncode == 0
        assert Path("painted/a.png").exists()

    def test_several_contents_detached(self, flaky: FlakyServer) -> None:
        done = gramophone("transfer", "a.png", "b.png", "-s", "night.png", "-o", "painted/", "--detach")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.split()) == 2
        assert done.stderr.count("gramophone jobs watch job-") == 2
        assert not Path("painted").exists()


class TestIds:
    """Commands accept the first characters of a job id."""

    @pytest.fixture(autouse=True)
    def jobs(self, flaky: FlakyServer) -> Iterator[None]:
        names = ["0653aa01", "0653aa02", "0653ab"]
        for name in names:
            (flaky.folder / "jobs" / name).touch()
        yield
        for name in names:
            (flaky.folder / "jobs" / name).unlink(missing_ok=True)

    @pytest.mark.parametrize(
        "args", [["show"], ["watch"], ["watch", "-o", "w.png"], ["cancel"], ["download", "-o", "d.png"]]
    )
    def test_a_unique_prefix_is_accepted(self, flaky: FlakyServer, args: list[str]) -> None:
        for beginning in ("0653aa01", "0653aa01"[:8], "0653ab", "0653ab"[:6]):
            done = gramophone("jobs", args[0], beginning, *args[1:])
            assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        "args",
        [["show"], ["watch"], ["cancel"], ["download", "-o", "d.png"], ["delete"], ["delete", "0653ab"]],
        ids=str,
    )
    def test_an_ambiguous_prefix_is_refused(self, flaky: FlakyServer, args: list[str]) -> None:
        done = gramophone("jobs", args[0], *args[1:], "0653aa")
        assert done.returncode == 2
        assert "2 jobs have ids that begin with 0653aa" in done.stderr
        assert "  0653aa01  style" in done.stderr and "  0653aa02  style" in done.stderr
        assert (flaky.folder / "jobs" / "0653ab").exists()

    @pytest.mark.parametrize("given", ["", " ", "ffff", "0653aa011", "no job"])
    def test_an_unknown_prefix_is_refused(self, given: str) -> None:
        done = gramophone("jobs", "show", given)
        assert done.returncode == 2
        assert f"no job with the id {given!r}" in done.stderr

    def test_delete_by_prefix(self, flaky: FlakyServer) -> None:
        assert gramophone("jobs", "delete", "0653ab", "0653aa01", "0653aa01").returncode == 0
        assert {"0653aa01", "0653ab"}.isdisjoint(flaky.jobs())
