"""`python -m gramophone_server.settings FILE` writes the reference page of the settings."""

import sys
from pathlib import Path

from .reference import reference

if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(reference(), encoding="utf-8")
