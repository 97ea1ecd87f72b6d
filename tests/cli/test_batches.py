"""Several pictures in one command: folders, clear errors, and a command that is killed and run again."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gramophone import Client
from tests.cli.quick import gramophone
from tests.harness import ServerProcess, png

QUICK = ("--size", 32, "--iterations", 20)


@pytest.fixture
def folder(tmp_path, monkeypatch, server: ServerProcess) -> Path:
    """A working directory with a folder of 12 photos, each different from those of other tests, and a style."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMOPHONE_SERVER", server.address)
    Path("photos").mkdir()
    for number in range(12):
        Path(f"photos/{number:02}.png").write_bytes(png(seed=time.monotonic_ns() % 2**32))
    Path("photos/notes.txt").write_text("not a picture")
    Path("photos/.hidden.png").write_bytes(png())
    Path("style.png").write_bytes(png(seed=99))
    return tmp_path


def jobs(server: ServerProcess) -> int:
    """Returns the number of jobs on the server."""
    with Client(server.address) as client:
        return len(list(client.jobs()))


@pytest.mark.slow
def test_a_killed_command_continues_and_paints_no_picture_twice(folder, server):
    before = jobs(server)
    words = ["transfer", "photos/", "style.png", "-o", "painted/", *map(str, QUICK)]
    code = "from gramophone.cli import main; main(prog_name='gramophone')"
    process = subprocess.Popen([sys.executable, "-c", code, *words])
    while len(list(Path(".").glob("painted/*.png"))) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    early = {path.name: path.stat().st_mtime_ns for path in Path("painted").glob("*.png")}
    assert 4 <= len(early) < 12
    done = gramophone(*words)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in Path("painted").glob("*.png")) == [f"{n:02}.png" for n in range(12)]
    assert jobs(server) == before + 12
    skipped = int(done.stderr.split(" of 12 pictures are painted already")[0].splitlines()[-1])
    # The last result may have been saved but not recorded.
    assert skipped >= len(early) - 1
    again = gramophone(*words)
    assert (again.returncode, again.stdout) == (0, "")
    assert jobs(server) == before + 12


def test_results_are_fetched_without_the_record_and_painted_again_with_other_options(folder, server):
    shutil.rmtree("photos")
    Path("photos").mkdir()
    Path("photos/a.png").write_bytes(png(seed=time.monotonic_ns() % 2**32))
    words = ["transfer", "photos", "style.png", "-o", "painted/", *QUICK]
    assert gramophone(*words).returncode == 0
    count, pixels = jobs(server), Path("painted/a.png").read_bytes()
    shutil.rmtree("painted")
    assert gramophone(*words).returncode == 0
    assert (jobs(server), Path("painted/a.png").read_bytes()) == (count, pixels)
    assert gramophone(*words, "--seed", 5).returncode == 0
    assert jobs(server) == count + 1


def test_a_picture_that_cannot_be_read_fails_alone(folder, server):
    for path in Path("photos").glob("0[2-9].png"):
        path.unlink()
    Path("photos/01.png").write_text("text")
    done = gramophone("transfer", "photos/", "style.png", "-o", "painted/", *QUICK)
    assert done.returncode == 1
    assert "painted/01.png is not painted: photos/01.png is not a picture" in done.stderr
    assert "1 of 4 pictures are not painted; the same command tries them again" in done.stderr
    assert sorted(path.name for path in Path("painted").glob("*.png")) == ["00.png", "10.png", "11.png"]


def test_an_error_of_all_pictures_is_told_once(folder):
    done = gramophone("transfer", "photos/", "style.png", "-o", "painted/", "--iterations", 0)
    assert done.returncode == 2
    assert done.stderr.count("--iterations is 0") == 1


def test_a_canceled_job_is_painted_again(folder, server):
    for path in Path("photos").glob("[01][1-9].png"):
        path.unlink()
    Path("photos/10.png").unlink()
    words = ["transfer", "photos/", "style.png", "-o", "painted/", "--size", 32, "--iterations", 500_000]
    code = "from gramophone.cli import main; main(prog_name='gramophone')"
    before = jobs(server)
    with Client(server.address) as client:
        for number in (1, 2):
            process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, words)], stderr=subprocess.PIPE, text=True
            )
            while jobs(server) < before + number or next(iter(client.jobs())).state != "running":
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert process.stderr is not None and "the jobs are canceled" in process.stderr.read()
            process.stderr.close()
            client.job(next(iter(client.jobs())).id).cancel()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["transfer", "photos", "style.png", "-o", "photos/"], "among the pictures to paint; name another folder"),
        (["transfer", "photos", "style.png", "-o", "out.png"], "12 pictures cannot all be written to out.png"),
        (["transfer", "style.png", "photos"], "the style photos is a folder; name a picture"),
        (["transfer", "photos"], "a style is missing: gramophone transfer photos STYLE"),
        (["transfer", "photos", "style.png", "style.png"], "which of the 3 pictures are styles?"),
        (["transfer", "painted", "style.png"], "painted is a folder without pictures"),
        (["content", "photos"], "12 pictures cannot all be written to out.png"),
        (["style", "photos"], "photos is a folder, not a picture"),
    ],
    ids=str,
)
def test_what_is_unclear_is_refused(folder, args, words):
    Path("painted").mkdir()
    done = gramophone(*args)
    assert done.returncode == 2
    assert words in done.stderr


def test_content_takes_a_folder(folder):
    for path in Path("photos").glob("[01][2-9].png"):
        path.unlink()
    done = gramophone("content", "photos", "-o", "painted/{stem}-again.png", *QUICK)
    assert done.returncode == 0, done.stderr
    names = [f"{stem}-again.png" for stem in ("00", "01", "10", "11")]
    assert sorted(path.name for path in Path("painted").glob("*.png")) == names
    assert sorted(json.loads(Path("painted/.gramophone.json").read_text())["results"]) == names
