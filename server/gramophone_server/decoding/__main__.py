"""`python -m gramophone_server.decoding` runs a decoder process; the front process starts it."""

import os
import sys

from .process import DecoderProcess


def main() -> None:
    """Answers the requests of standard input until it closes."""
    process = DecoderProcess(sys.stdin.buffer, sys.stdout.buffer)
    # Discard the messages that C libraries of picture formats write to standard error.
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    process.run()


if __name__ == "__main__":
    main()
