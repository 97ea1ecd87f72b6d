"""The demo, `make demo`: `python examples/demo.py FOLDER`.

Draws three pictures, starts a server on a free port of this machine, and submits a style reconstruction, a content
reconstruction and a style transfer over gRPC, like any other client.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from pictures import draw
from PIL import Image

import gramophone
from gramophone.contact_sheet import contact_sheet

Submit = Callable[[], gramophone.Job]


def paint(name: str, what: str, submit: Submit, folder: Path) -> Image.Image:
    """Run one job until it ends, print its progress, and save its picture as `name`.png in `folder`."""
    print(f"\n{what}")
    started, shown = time.monotonic(), 0.0
    job = submit()
    for frame in job:
        if time.monotonic() - shown > 2.0 or frame.iteration == frame.iterations:
            shown = time.monotonic()
            print(f"  {frame.iteration:4d} of {frame.iterations}   loss {frame.loss:.3e}", flush=True)
    result = job.result()
    (folder / f"{name}.png").write_bytes(result.data)
    print(f"  {name}.png: loss {result.loss:.3e} with {result.model}, {time.monotonic() - started:.0f} s")
    return result.image


def main(folder: Path) -> None:
    """Draw the inputs, run the jobs, and save a contact sheet of all pictures."""
    started = time.monotonic()
    print("Drawing a seascape, a night and a harbour …")
    seascape, night, harbour = draw(folder / "inputs", size=640).values()
    print("Starting a server …", flush=True)
    with gramophone.EmbeddedServer() as server, gramophone.Client(server.address) as client:
        print(f"  address: {server.address}\n  web page, until the demo ends: {server.url}")
        jobs: dict[str, tuple[str, Submit]] = {
            "style": (
                "Style: a texture of the night, from noise",
                lambda: client.style(night, size=256, iterations=250),
            ),
            "content": (
                "Content: the harbour, reconstructed from conv4_2, from noise",
                lambda: client.content(harbour, layer="conv4_2", size=256, iterations=200),
            ),
            "transfer": (
                "Transfer: the harbour in the style of the night",
                lambda: client.transfer(harbour, night, size=320, iterations=200),
            ),
        }
        made = {name: paint(name, what, submit, folder) for name, (what, submit) in jobs.items()}
        inputs = [(Image.open(path), path.stem) for path in (seascape, night, harbour)]
        outputs = [(image, name) for name, image in made.items()]
        contact_sheet([inputs, outputs], cell=320).save(folder / "contact_sheet.png")
        print(f"\nDone in {time.monotonic() - started:.0f} s. The pictures are in {folder}/")
        for path in sorted(folder.rglob("*.png")):
            print(f"  {path}")
        show_page(server.url)


def show_page(url: str) -> None:
    """Say where the web page is; on a terminal, keep the server until Enter."""
    if sys.stdin.isatty():
        input(f"\nThe page with these jobs is at {url}; Enter stops the server: ")
    print("\nTo paint your own pictures in the browser: .venv/bin/gramophone studio")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
