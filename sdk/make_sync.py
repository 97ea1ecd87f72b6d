"""Generates the synchronous client from the asynchronous client: `python sdk/make_sync.py [FOLDER]`.

FOLDER is the package folder to write `_sync` into. Default: sdk/gramophone.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

SDK = Path(__file__).resolve().parent
NAMES = ("client.py", "connection.py", "job.py")
# Names to replace in addition to those that unasync replaces (`async`, `await`, `__aiter__` and so on).
REPLACEMENTS = {"aio_channel": "channel"}
# Replacements in docstrings, and comments that only the asynchronous code needs.
PATTERNS = (
    ("an `async with` block", "a `with` block"),
    (r"\basync for\b", "for"),
    (r"  # noqa: ASYNC109[^\n]*", ""),
)


def make(package: Path) -> None:
    """Writes the `_sync` modules of a package folder, generated from the SDK's `_async` modules."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "_async"
        shutil.copytree(SDK / "gramophone/_async", source)
        rule = unasync.Rule("/_async/", "/_sync/", REPLACEMENTS)
        unasync.unasync_files([str(source / name) for name in NAMES], [rule])
        for name in NAMES:
            text = (Path(place) / "_sync" / name).read_text()
            for pattern, replacement in PATTERNS:
                text = re.sub(pattern, replacement, text)
            made = package / "_sync" / name
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(text)
            for command in (["check", "--fix", "--select", "I"], ["format"]):
                options = ["--quiet", "--config", str(SDK.parent / "pyproject.toml")]
                subprocess.run([sys.executable, "-m", "ruff", *command, *options, str(made)], check=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else SDK / "gramophone")
