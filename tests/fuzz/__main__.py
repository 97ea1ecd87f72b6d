"""Fuzzes for some seconds a target: `python -m tests.fuzz --seconds 60 [TARGET ...]`; `make fuzz` runs this.

Needs the extra `fuzz` (atheris). What fails is written into tests/fuzz/corpus, where the tests replay it from then on.
What only reaches new code is kept in a folder for temporary files, from which the next run goes on.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from .targets import CORPUS, TARGETS, seeds


def main() -> None:
    """Runs each target in a process of its own, which a crash ends."""
    parser = argparse.ArgumentParser(description="Fuzz what reads the bytes of strangers.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; by default all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    args = parser.parse_args()
    failed = [target for target in args.targets or TARGETS if not holds(target, args.seconds)]
    if failed:
        sys.exit(f"found something in {', '.join(failed)}: see the new files in {CORPUS}")


def holds(target: str, seconds: int) -> bool:
    """Whether a target held for so long."""
    reached = Path(tempfile.gettempdir()) / "gramophone-fuzz" / target
    reached.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(target)):
        (reached / f"seed-{number}").write_bytes(data)
    command = [sys.executable, "-m", "tests.fuzz.guided", target, str(seconds), str(reached)]
    return subprocess.run(command).returncode == 0


if __name__ == "__main__":
    main()
