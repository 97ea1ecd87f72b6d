"""Makes the synchronous client of the asynchronous one: `python sdk/make_sync.py [FOLDER]` (default: the SDK)."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

SDK = Path(__file__).resolve().parent
NAMES = ("client.py", "connection.py", "job.py")
# Beyond what the library knows: `async` and `await` go, `__aiter__` is `__iter__`, and the like.
REPLACEMENTS = {"aio_channel": "channel"}
# What is said, and what only asynchronous code needs.
PATTERNS = (
    ("an `async with` block", "a `with` block"),
    (r"\basync for\b", "for"),
    (r"  # noqa: ASYNC109[^\n]*", ""),
)


def make(package: Path) -> None:
    """Writes `_sync` of a package folder from the `_async` of the SDK."""
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
