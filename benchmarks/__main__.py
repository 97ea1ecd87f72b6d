"""Runs benchmarks and writes RESULTS.md and results.json beside this file: `python -m benchmarks [--avx2] [NAME ...]`.

The results of other kinds of CPUs stay. With --avx2, the measured programs use no instruction set above AVX2, like on
CPUs that have no other.
"""

import json
import os
import sys
from pathlib import Path

from gramophone_server.scheduling.link import ENVIRONMENT

from . import (
    convolutions,
    decode,
    devices,
    field,
    first_preview,
    front,
    load,
    losses,
    many_jobs,
    memory,
    on_ray,
    page,
    precision,
    scaling,
    service,
    shared,
    step,
    tiles,
    two_fronts,
)
from .inputs import UnavailableError
from .machine import AVX2_ONLY, TITLES, description, kind

FOLDER = Path(__file__).parent
BENCHMARKS = {
    "field-steps": field.measure_steps,
    "field-loss": field.measure_loss,
    "scaling": scaling.measure,
    "tiles": tiles.measure,
    "devices": devices.measure,
    "convolutions": convolutions.measure,
    "precision": precision.measure,
    "losses": losses.measure,
    "memory": memory.measure,
    "large": memory.measure_large,
    "step": step.measure,
    "front": front.measure,
    "page": page.measure,
    "decode": decode.measure,
    "service": service.measure,
    "preview": first_preview.measure,
    "load": load.measure,
    "shared": shared.measure,
    "cluster": two_fronts.measure,
    "ray": on_ray.measure,
    "jobs": many_jobs.measure,
}


def main(names: list[str]) -> None:
    """Runs the named benchmarks, or all, and updates the results after each one."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"unknown benchmark {', '.join(sorted(unknown))}; the benchmarks are {', '.join(BENCHMARKS)}")
    path = FOLDER / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    ours = results.setdefault(kind(), {})
    for name in names or BENCHMARKS:
        print(f"measuring {name} …", flush=True)
        try:
            ours[name] = BENCHMARKS[name]()
        except UnavailableError as error:
            print(f"skipped: {error}", flush=True)
            continue
        ours["machine"] = description()
        path.write_text(json.dumps(results, indent=1) + "\n")
        (FOLDER / "RESULTS.md").write_text(render(results))
    print(render(results))


def render(results: dict[str, dict]) -> str:
    """Returns the results of each kind of CPU as Markdown tables."""
    lines = ["# Results", "", "Made by `make bench`. Medians; compare ratios within one table, not seconds."]
    for name, title in TITLES.items():
        if name in results:
            lines += ["", f"## {title}", "", *_sections(results[name])]
    return "\n".join(lines) + "\n"


def _sections(results: dict) -> list[str]:
    """Returns the lines of the results of one CPU."""
    machine = results["machine"]
    lines = [f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['torch']}."]
    for name in BENCHMARKS:
        if name in results:
            rows = results[name]["rows"]
            lines += ["", f"### {results[name]['title']}", "", results[name]["how"], ""]
            lines += ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
            lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    return lines


def environment(names: list[str]) -> dict[str, str]:
    """Returns the variables that the benchmarks need: libraries read them when the process starts."""
    return {**ENVIRONMENT, **(AVX2_ONLY if "--avx2" in names else {})}


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{__doc__}\nThe benchmarks are {', '.join(BENCHMARKS)}.")
        sys.exit()
    needed = environment(sys.argv[1:])
    if not needed.keys() <= os.environ.keys():
        command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
        os.execve(sys.executable, command, {**needed, **os.environ})
    main([name for name in sys.argv[1:] if name != "--avx2"])
