"""Draw the example pictures as PNG files: `python examples/pictures.py FOLDER [SIZE [SEED]]`."""

import sys
from pathlib import Path

from gallery import PAINTERS


def draw(folder: Path, size: int = 640, seed: int = 0) -> dict[str, Path]:
    """Draw every picture, `size` pixels wide, into `folder`, creating it if needed; return the path of each by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.png" for name in PAINTERS}
    for name, path in paths.items():
        PAINTERS[name](size, seed).save(path)
    return paths


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    for written in draw(Path(sys.argv[1]), *map(int, sys.argv[2:])).values():
        print(written)
