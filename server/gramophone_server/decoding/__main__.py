"""`python -m gramophone_server.decoding`: how the front starts a decoder process."""

import os
import sys

from .process import DecoderProcess


def main() -> None:
    """Decodes what standard input asks for, until it closes."""
    process = DecoderProcess(sys.stdin.buffer, sys.stdout.buffer)
    # The C libraries of picture formats write their complaints here.
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    process.run()


if __name__ == "__main__":
    main()
