"""Runs every benchmark and writes RESULTS.md and results.json beside this file: `python -m benchmarks [NAME ...]`."""

import json
import os
import platform
import sys
from pathlib import Path

import torch

from gramophone_server.scheduling.executor import ENVIRONMENT

from . import decode, field, front, load, losses, memory, precision, scaling, service, shared, step
from .inputs import UnavailableError

FOLDER = Path(__file__).parent
BENCHMARKS = {
    "field-steps": field.measure_steps,
    "field-loss": field.measure_loss,
    "scaling": scaling.measure,
    "precision": precision.measure,
    "losses": losses.measure,
    "memory": memory.measure,
    "large": memory.measure_large,
    "step": step.measure,
    "front": front.measure,
    "decode": decode.measure,
    "service": service.measure,
    "load": load.measure,
    "shared": shared.measure,
}


def main(names: list[str]) -> None:
    """Runs the named benchmarks, or all, and updates the results after each one."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"unknown benchmark {', '.join(sorted(unknown))}; the benchmarks are {', '.join(BENCHMARKS)}")
    path = FOLDER / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in names or BENCHMARKS:
        print(f"measuring {name} …", flush=True)
        try:
            results[name] = BENCHMARKS[name]()
        except UnavailableError as error:
            print(f"skipped: {error}", flush=True)
            continue
        results["machine"] = {
            "cores": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
        path.write_text(json.dumps(results, indent=1) + "\n")
        (FOLDER / "RESULTS.md").write_text(render(results))
    print(render(results))


def render(results: dict) -> str:
    """Returns the results as Markdown tables."""
    machine = results["machine"]
    lines = [
        "# Results",
        "",
        f"Made by `make bench` on {machine['cores']} CPU cores, Python {machine['python']}, torch {machine['torch']}. "
        "Medians; compare ratios, not seconds.",
    ]
    for name in BENCHMARKS:
        if name in results:
            rows = results[name]["rows"]
            lines += ["", f"## {results[name]['title']}", "", results[name]["how"], ""]
            lines += ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
            lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if not ENVIRONMENT.keys() <= os.environ.keys():
        # Restart with the environment of a worker: libraries read it when the process starts.
        command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
        os.execve(sys.executable, command, {**ENVIRONMENT, **os.environ})
    main(sys.argv[1:])
