"""The data folder of a server."""

import os
import stat
from pathlib import Path

import pytest

from gramophone_server.storage.folder import DataFolder


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these permissions")
def test_only_the_owner_can_read_the_data_folder(tmp_path: Path) -> None:
    for folder in (DataFolder(tmp_path / "jobs"), DataFolder(None)):
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        folder.close()
