"""Fuzzes each target for some seconds: `python -m tests.fuzz --seconds 60 [TARGET ...]`; `make fuzz` runs this.

It needs the extra `fuzz` (atheris). It writes inputs that fail into tests/fuzz/corpus, which the tests replay. It keeps
inputs that only reach new code in a folder for temporary files, from which the next run continues.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from .targets import CORPUS, TARGETS, seeds


def main() -> None:
    """Fuzzes each target in a separate process, because a crash ends the process."""
    parser = argparse.ArgumentParser(description="Fuzz the code that reads untrusted bytes.")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"one or more of {', '.join(TARGETS)}; by default all"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    args = parser.parse_args()
    failed = [target for target in args.targets or TARGETS if not passes(target, args.seconds)]
    if failed:
        sys.exit(f"failures in {', '.join(failed)}: see the new files in {CORPUS}")


def passes(target: str, seconds: int) -> bool:
    """Whether fuzzing a target for `seconds` finds no failure."""
    reached = Path(tempfile.gettempdir()) / "gramophone-fuzz" / target
    reached.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(target)):
        (reached / f"seed-{number}").write_bytes(data)
    command = [sys.executable, "-m", "tests.fuzz.guided", target, str(seconds), str(reached)]
    return subprocess.run(command).returncode == 0


if __name__ == "__main__":
    main()
