"""Commands run in a separate process against a real server, some of them in a terminal."""

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from PIL import Image

from gramophone import read_recipe
from gramophone.v1 import job_service_pb2
from tests.cli import quick
from tests.harness import png, wait_until

SMALL = ["--size", "32", "--iterations", "6", "--report-every", "2"]


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    return path


def gramophone(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gramophone", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)


def test_all_three_kinds_of_jobs(server, picture, tmp_path):
    for args in (["style", picture], ["content", picture, "--layer", "conv2_1"], ["transfer", picture, picture]):
        output = tmp_path / f"{args[0]}.png"
        done = gramophone(*args, *SMALL, "-o", output, "--server", server.address)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{output}: 32x32, loss ")
        assert "model vgg19-slim" in done.stdout
        assert Image.open(output).text["gramophone"]  # type: ignore[attr-defined]


def test_without_a_server_one_is_started_for_the_command(picture, tmp_path):
    output = tmp_path / "out.jpg"
    done = gramophone("style", picture, *SMALL, "--layers", "conv1_1=1,conv2_1=0.5", "-o", output)
    assert done.returncode == 0, done.stderr
    assert Image.open(output).format == "JPEG"


def test_previews_are_saved(server, picture, tmp_path):
    folder = tmp_path / "previews"
    args = ["style", picture, "--size", "32", "--iterations", "40", "-o", tmp_path / "out.png", "--previews", folder]
    assert gramophone(*args, GRAMOPHONE_SERVER=server.address).returncode == 0
    assert list(folder.glob("*.jpg"))


@pytest.mark.parametrize(
    ("args", "words", "status"),
    [
        (["style", "PICTURE", "--size", "7"], ["--size is 7", "16 to 8192"], 2),
        (["style", "nowhere.png"], ["no file nowhere.png"], 2),
        (["style", "PICTURE", "--model", "vgg99"], ["vgg99", "models pull"], 2),
        (["content", "PICTURE", "--layer", "conv9_1"], ["--layer is", "conv9_1"], 2),
        (["style", "PICTURE", "--layers", "9"], ["1 to 5"], 2),
        (["style", "PICTURE", "--layers", "conv1_1=x"], ["not a number"], 2),
        (["style", "PICTURE", *SMALL, "-o", "out.xyz"], [".xyz", "use .png"], 2),
        (["style", "PICTURE", "--optimizer", "sgd"], ["sgd"], 2),
        (["jobs", "show", "nobody"], ["JOB_ID", "no job with the id 'nobody'"], 2),
    ],
)
def test_invalid_arguments_are_reported_in_sentences(server, picture, args, words, status):
    args = [str(picture) if arg == "PICTURE" else arg for arg in args]
    done = quick.gramophone(*args, GRAMOPHONE_SERVER=server.address)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_an_unreachable_server_is_reported(picture):
    done = gramophone("style", picture, "--server", "127.0.0.1:9")
    assert done.returncode == 1
    assert "127.0.0.1:9 cannot be reached" in done.stderr


def test_jobs_list_show_and_watch(server, picture, tmp_path):
    gramophone("style", picture, *SMALL, "-o", tmp_path / "a.png", "--server", server.address)
    listed = gramophone("jobs", "list", "--server", server.address).stdout
    job_id = listed.split()[0]
    shown = gramophone("jobs", "show", job_id, "--server", server.address).stdout
    assert "succeeded" in shown
    assert "style gram conv1_1" in shown
    done = gramophone("jobs", "watch", job_id, "-o", tmp_path / "b.png", "--server", server.address)
    assert done.returncode == 0
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()


def test_ctrl_c_cancels_the_job(server, picture, tmp_path):
    args = ["style", picture, "--size", "32", "--iterations", "1000000", "-o", tmp_path / "out.png"]
    command = [sys.executable, "-m", "gramophone", *map(str, args), "--server", server.address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def newest():
        return server.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=1)).jobs[0]

    wait_until(lambda: newest().HasField("progress") and newest().progress.iterations == 1_000_000, "a running job")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "canceled" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out.png").exists()


def test_the_progress_bar_in_a_terminal(server, picture, tmp_path):
    """The progress bar shows the loss, the speed and the iterations done, in a pseudo-terminal."""
    args = ["style", picture, "--size", "32", "--iterations", "100", "-o", tmp_path / "out.png"]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "gramophone", *map(str, args), "--server", server.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end has closed
                break
        assert process.wait(60) == 0
    os.close(ours)
    text = shown.decode()
    assert "loss=" in text
    assert "it/s" in text
    assert "100/100" in text


def test_sweep_makes_a_contact_sheet_and_all_pictures(server, picture, tmp_path):
    sheet = tmp_path / "sheet.png"
    args = ["--layers", "1,2", "--seeds", "0,1", "--sizes", "32", "--iterations", "4"]
    done = gramophone("sweep", picture, *args, "-o", sheet, "--server", server.address)
    assert done.returncode == 0, done.stderr
    assert Image.open(sheet).width > 2 * 256
    made = sorted((tmp_path / "sheet").glob("*.png"))
    assert [path.name for path in made] == [
        f"{count}-layers_32-px_seed-{seed}.png" for count in (1, 2) for seed in (0, 1)
    ]
    recipes = [read_recipe(path) for path in made]
    assert [(recipe["seed"], recipe["reproducible"]) for recipe in recipes] == [(0, False), (1, False)] * 2


def test_a_reproducible_sweep_makes_the_bytes_of_single_jobs(server, picture, tmp_path):
    args = ["--seeds", "3", "--iterations", "4", "--server", server.address]
    done = gramophone(
        "sweep", picture, *args, "--layers", "2", "--sizes", "32", "--reproducible", "-o", tmp_path / "s.png"
    )
    assert done.returncode == 0, done.stderr
    done = gramophone("style", picture, *args[2:], "--seed", "3", "--layers", "2", "--size", "32", "-o",
                      tmp_path / "one.png")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s" / "2-layers_32-px_seed-3.png").read_bytes() == (tmp_path / "one.png").read_bytes()


def test_help_names_all_commands():
    text = gramophone("--help").stdout
    for command in ("serve", "style", "content", "transfer", "sweep", "jobs", "models", "export", "tokens"):
        assert f"\n  {command} " in text


def test_models_list_verify_import_and_pull(tmp_path):
    listed = gramophone("models", "list", "--models", tmp_path)
    assert "vgg19-random" in listed.stdout
    assert "vgg19-slim" in listed.stdout
    assert quick.gramophone("models", "verify", "--models", tmp_path).stdout == "vgg19-random: good\nvgg19-slim: good\n"
    for args, words in (
        (["import", tmp_path / "nothing.pth", "--name", "vgg19-caffe"], "there is no file"),
        (["import", tmp_path / "nothing.pth", "--name", "mine"], "--preprocessing"),
        (["pull", "vgg19", "--url", "http://127.0.0.1:9/vgg19-dcbb9e9d.pth"], "models import"),
        (["pull", "vgg19-caffe"], "no download address"),
        (["verify", "nobody"], "nobody"),
    ):
        done = quick.gramophone("models", *args, "--models", tmp_path)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
