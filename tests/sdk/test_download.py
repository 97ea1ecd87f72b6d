"""Downloads of results in pieces, over connections that break."""

import io
from typing import Any

import pytest

import gramophone
from tests.sdk.flaky_server import LARGE, PIECE, RESULT


@pytest.fixture
def job(flaky, connect) -> Any:
    finished = connect(flaky.address).style(b"picture")
    finished.result()
    return finished


def test_a_result_is_downloaded_to_bytes_a_path_or_a_file(job, tmp_path):
    assert job.download() == RESULT
    path = tmp_path / "folder" / "out.png"
    assert job.download(path) is None
    assert path.read_bytes() == RESULT
    job.download(str(path))
    assert [file.name for file in path.parent.iterdir()] == ["out.png"]
    file = io.BytesIO()
    job.download(file)
    assert file.getvalue() == RESULT


def test_a_download_may_start_at_an_offset(job, tmp_path):
    assert job.download(offset=1_000_000) == RESULT[1_000_000:]
    assert job.download(offset=len(RESULT)) == b""
    job.download(tmp_path / "rest", offset=5)
    assert (tmp_path / "rest").read_bytes() == RESULT[5:]
    with pytest.raises(ValueError, match="at least 0"):
        job.download(offset=-1)


def test_a_download_continues_where_it_broke(flaky, job, tmp_path):
    flaky.script("DownloadResult die 3", "DownloadResult die 0", "DownloadResult end 2", "DownloadResult end 0")
    job.download(tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == RESULT
    assert [int(call) for call in flaky.calls("DownloadResult")] == [0, *[3 * PIECE] * 2, *[5 * PIECE] * 2]


def test_a_large_result_is_fetched_when_the_job_ends(flaky, connect):
    flaky.script("DownloadResult die 3", "DownloadResult end 2")
    job = connect(flaky.address).style(b"picture", request_id=LARGE)
    assert flaky.calls("DownloadResult") == []
    frames = list(job)
    assert frames
    fetched = flaky.calls("DownloadResult")
    assert [int(call) for call in fetched] == [0, 3 * PIECE, 5 * PIECE]
    assert job.result().data == RESULT
    assert list(job)[-1].iteration == frames[-1].iteration
    assert flaky.calls("DownloadResult") == fetched


def test_a_large_result_that_is_damaged_is_an_error_and_is_fetched_again(flaky, connect):
    flaky.script("DownloadResult damage 0")
    job = connect(flaky.address).style(b"picture", request_id=LARGE)
    with pytest.raises(gramophone.ServerError, match="SHA-256"):
        job.result()
    assert job.result(timeout=60).data == RESULT


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (["DownloadResult damage 0"], "SHA-256"),
        (["DownloadResult end 3", "DownloadResult change 0"], "has changed"),
    ],
)
def test_a_damaged_download_is_an_error_and_keeps_the_old_file(flaky, job, tmp_path, script, reason):
    path = tmp_path / "out.png"
    path.write_bytes(b"before")
    flaky.script(*script)
    with pytest.raises(gramophone.ServerError, match=reason) as caught:
        job.download(path)
    assert caught.value.code == "DATA_LOSS"
    assert path.read_bytes() == b"before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["flaky", "out.png"]


def test_a_download_of_a_missing_result_is_an_error(flaky, job):
    flaky.script("DownloadResult abort FAILED_PRECONDITION")
    with pytest.raises(gramophone.ServerError, match="FAILED_PRECONDITION"):
        job.download()
    job.delete()
    with pytest.raises(gramophone.NotFoundError):
        job.download()


def test_a_download_from_a_dead_server_is_an_error_and_leaves_no_file(flaky, connect, tmp_path):
    job = connect(flaky.address, retry_for=0.5).style(b"picture")
    flaky.leave()
    with pytest.raises(gramophone.UnavailableError):
        job.download(tmp_path / "out.png")
    assert [file.name for file in tmp_path.iterdir()] == ["flaky"]
