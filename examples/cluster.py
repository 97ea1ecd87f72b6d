"""A Ray cluster on this machine, `make cluster`: `python examples/cluster.py FOLDER`.

Starts three Ray nodes as on three machines, and a server whose workers run on two of them, paints four pictures through
it, and stops everything that it has started.
"""

import sys
import tempfile
import time
from pathlib import Path

from pictures import draw
from ray_nodes import free_port, head, node, own_address

import gramophone


def paint(address: str, folder: Path) -> None:
    """Paints four pictures on the nodes."""
    workers = ("--executor", "ray", "--ray-address", address, "--device", "cpu", "--threads", "1")
    _, night, harbour = draw(folder / "inputs", size=320).values()
    with gramophone.EmbeddedServer(*workers) as server, gramophone.Client(server.address) as client:
        jobs = [client.transfer(harbour, night, size=96, iterations=40, init="noise", seed=seed) for seed in range(4)]
        for seed, job in enumerate(jobs):
            path = folder / f"{seed}.png"
            path.write_bytes(job.result().data)
            print(f"  {path}", flush=True)


def main(folder: Path) -> None:
    """Starts the nodes and the server, paints, and stops the nodes."""
    begun, port = time.monotonic(), free_port()
    with tempfile.TemporaryDirectory(prefix="ray-") as temporary:
        logs = Path(temporary)
        print("Starting three Ray nodes …", flush=True)
        with head(logs, port), node(logs, port, "node-1"), node(logs, port, "node-2"):
            print(f"Painting on two of them, after {time.monotonic() - begun:.0f} s …", flush=True)
            paint(f"{own_address()}:{port}", folder)
    print(f"Done in {time.monotonic() - begun:.0f} s; the server and the nodes are stopped.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
