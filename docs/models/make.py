"""Paint the comparison of the models: `python docs/models/make.py`.

Runs the same four jobs with every installed model. The inputs are the pictures that examples/pictures.py draws.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

import gramophone
from gramophone.contact_sheet import contact_sheet

HERE = Path(__file__).parent
SIZE, ITERATIONS = 192, 120
MODELS = ("vgg19-random", "vgg19-slim", "vgg19-caffe")


def main() -> None:
    """Draw the inputs, start a server, and paint a row with each model."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, HERE.parents[1] / "examples/pictures.py", folder, "640"], check=True)
        seascape, night, harbour = (Path(folder, f"{name}.png") for name in ("seascape", "night", "harbour"))
        rows = [[(Image.open(path), path.stem) for path in (night, seascape, harbour)]]
        with gramophone.EmbeddedServer() as server, gramophone.Client(server.address) as client:
            there = [model.name for model in client.models()]
            for model in (name for name in MODELS if name in there):
                jobs = {
                    "style": lambda m: client.style(night, size=SIZE, iterations=ITERATIONS, model=m),
                    "style ": lambda m: client.style(seascape, size=SIZE, iterations=ITERATIONS, model=m),
                    "content, conv4_2": lambda m: client.content(harbour, size=SIZE, iterations=ITERATIONS, model=m),
                    "transfer": lambda m: client.transfer(harbour, night, size=SIZE, iterations=ITERATIONS, model=m),
                }
                row = []
                for name, submit in jobs.items():
                    begun = time.monotonic()
                    image = submit(model).result().image
                    row.append((image, f"{model}: {name}"))
                    print(f"{model}: {name}, {time.monotonic() - begun:.1f} s", flush=True)
                rows.append(row)
    contact_sheet(rows, cell=SIZE).save(HERE / "compare.jpg", quality=82, optimize=True)


if __name__ == "__main__":
    main()
