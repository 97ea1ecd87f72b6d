"""The data folder of a server."""

import os
import stat
from pathlib import Path

import pytest

from gramophone_server.storage.folder import DataFolder

from .stores import opened


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these permissions")
def test_only_the_owner_can_read_the_data_folder(tmp_path: Path) -> None:
    for folder in (DataFolder(tmp_path / "jobs"), DataFolder(None)):
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        folder.close()


@pytest.mark.usefixtures("needs_sqlite")
async def test_the_database_is_sealed_while_no_server_runs(tmp_path: Path) -> None:
    """So that a start after a regular end need not read the whole file."""
    seal = tmp_path / "seal.json"
    async with opened(tmp_path):
        assert not seal.exists()
    assert seal.exists()
    async with opened(tmp_path):
        assert not seal.exists()


@pytest.mark.usefixtures("needs_sqlite")
async def test_a_seal_is_valid_only_for_an_unchanged_file(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    content = (tmp_path / "seal.json").read_bytes()
    with DataFolder(tmp_path) as folder:
        assert folder.take_seal()
        assert not folder.take_seal()
        for text in (b"[1, 2, 3]", b"no JSON", b"null"):
            (tmp_path / "seal.json").write_bytes(text)
            assert not folder.take_seal()
        (tmp_path / "seal.json").write_bytes(content)
        os.utime(tmp_path / "jobs.sqlite")
        assert not folder.take_seal()
