"""The folder of a server's jobs."""

import os
import stat
from pathlib import Path

import pytest

from gramophone_server.storage.folder import DataFolder


@pytest.mark.skipif(os.name != "posix", reason="there are no such permissions")
def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    for folder in (DataFolder(tmp_path / "jobs"), DataFolder(None)):
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        folder.close()
