"""`gramophone jobs` with a server that is killed and restarted during the commands and keeps its jobs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

from tests.cli.quick import gramophone
from tests.sdk.flaky_server import RESULT, FlakyServer


@pytest.fixture
def flaky(tmp_path) -> Iterator[FlakyServer]:
    with FlakyServer(tmp_path / "flaky") as server:
        for name in ("one", "two"):
            (server.folder / "jobs" / name).touch()
        yield server


def test_download_continues_when_the_server_dies(flaky, tmp_path):
    flaky.script("DownloadResult die 3")
    for name, is_as_sent in (("out.png", True), ("out.jpg", False)):
        output = tmp_path / name
        done = gramophone("jobs", "download", "one", "-o", output, "--server", flaky.address)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{output}: {output.stat().st_size} bytes\n"
        assert (output.read_bytes() == RESULT) == is_as_sent
        assert Image.open(output).size == (1, 1)


def test_delete_removes_jobs_and_refuses_unknown_ones(flaky):
    flaky.script("DeleteJob die_done 0")
    done = gramophone("jobs", "delete", "one", "two", GRAMOPHONE_SERVER=flaky.address)
    assert done.returncode == 0, done.stderr
    assert flaky.jobs() == []
    done = gramophone("jobs", "delete", "one", "--server", flaky.address)
    assert done.returncode == 2
    assert "there is no job with the id 'one'" in done.stderr


def test_filters_of_jobs_list(flaky):
    args = ["--kind", "style", "--kind", "content", "--model", "m", "--owner", "ann", "--state", "queued"]
    done = gramophone("jobs", "list", *args, "--since", "2h", "--oldest-first", "--server", flaky.address)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["one", "two"]
    (call,) = flaky.calls("ListJobs")
    for part in (
        "JOB_KIND_STYLE",
        "JOB_KIND_CONTENT",
        'model: "m"',
        'owner: "ann"',
        "JOB_STATE_QUEUED",
        "OLDEST_FIRST",
    ):
        assert part in call
    seconds = int(call.partition("seconds: ")[2].split()[0])
    ago = datetime.now(UTC) - datetime.fromtimestamp(seconds, UTC)
    assert timedelta(hours=2) <= ago < timedelta(hours=2, minutes=5)


@pytest.mark.parametrize("moment", ["2026-01-31", "2026-01-31T18:30", "90s", "3d"])
def test_since_accepts_times_and_durations(flaky, moment):
    assert gramophone("jobs", "list", "--since", moment, "--server", flaky.address).returncode == 0
    assert "created_after" in flaky.calls("ListJobs")[0]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["jobs", "list", "--since", "yesterday"], "'yesterday' is not a time such as 2h"),
        (["jobs", "list", "--since", "9999999999d"], "is not a time"),
        (["jobs", "list", "--kind", "video"], "video"),
        (["jobs", "download", "one"], "--output"),
    ],
)
def test_invalid_arguments_are_refused(flaky, args, words):
    done = gramophone(*args, GRAMOPHONE_SERVER=flaky.address)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_continues_when_its_server_restarts(flaky, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(RESULT)
    flaky.script("UploadImage die 1", "ReconstructStyle die_done 0", "ReconstructStyle die 5", "WatchJob die 2")
    done = gramophone("style", picture, "--priority", "4", "-o", tmp_path / "out.png", "--server", flaky.address)
    assert done.returncode == 0, done.stderr
    assert "out.png: 1x1" in done.stdout
    assert flaky.starts == 5
    assert len(flaky.jobs()) == 3
    assert {call.split()[1] for call in flaky.calls("ReconstructStyle")} == {"4"}
