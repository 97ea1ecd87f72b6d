"""Simulates 1 to 1,000 workers on one PostgreSQL: `python -m benchmarks.simulate [TABLE ...]`.

Writes the tables of docs/scaling.md, or the named ones. The costs of transactions are measured first, on a PostgreSQL
server that the program starts. The times of steps are those of results.json.
"""

import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .machine import description
from .simulation import database, network
from .simulation.cluster import Cluster, Outcome, Transactions, simulate

PAGE = Path(__file__).parents[1] / "docs/scaling.md"
RESULTS = Path(__file__).with_name("results.json")
COSTS = Path(__file__).with_name("transactions.json")

# Share of the jobs of each side in pixels. Their iterations are between FEWEST and MOST.
MIX = {224: 0.6, 512: 0.3, 1024: 0.1}
FEWEST, MOST = 100, 300
# How many times as fast as the measured CPU the workers are; all but 1 are assumptions.
SPEEDS = (1, 50)
WORKERS_PER_FRONT = 8
PROCESSORS = 4
"""Processors of the simulated database server."""
SIZES, LOADS = (1, 10, 100, 1000), (0.5, 0.9)
# Observed jobs of each row; before them, some jobs run unobserved. Both last at least some mean running times.
JOBS, TIMES, WARM_UP_JOBS = 3_000, 8, 500
# Workers of a cluster that is far from saturation.
FEW = 16
# A queue that grows by more than this share of the arrivals is overloaded.
OVERLOADED = 0.05

Row = dict[str, Any]


def step_seconds() -> dict[int, float]:
    """Returns the measured seconds of a step for each side."""
    ours = json.loads(RESULTS.read_text())["amx"]
    steps = {row["size"]: row["s/step"] for row in ours["field-steps"]["rows"] if row["program"] == "gramophone"}
    steps |= {row["what"]: row["seconds"] for row in ours["scaling"]["rows"]}
    return {side: float(steps[f"{side}x{side}"]) for side in (*MIX, 1024)}


def running_time(speed: float) -> tuple[float, Callable[[random.Random], float]]:
    """Returns the mean running time of a job in seconds, and a function that draws one."""
    steps = step_seconds()
    mean = sum(share * steps[side] for side, share in MIX.items()) * (FEWEST + MOST) / 2 / speed

    def draw(rng: random.Random) -> float:
        (side,) = rng.choices(list(MIX), list(MIX.values()))
        return steps[side] * rng.uniform(FEWEST, MOST) / speed

    return mean, draw


def cluster(workers: int, load: float, speed: float, needs: Transactions, **changed: Any) -> Cluster:
    """Returns the cluster of a row, whose workers are busy for a share of the time."""
    mean, draw = running_time(speed)
    fields: Row = {
        "transactions": needs, "processors": PROCESSORS, "workers_per_front": WORKERS_PER_FRONT,
        "watched": 1 - WORKERS_PER_FRONT / max(workers, WORKERS_PER_FRONT),
    }  # fmt: skip
    return Cluster(workers, load * workers / mean, draw, **(fields | changed))


def observed(simulated: Cluster, speed: float, times: float = TIMES) -> Outcome:
    """Returns the outcome of a cluster after a warm-up; both last at least `times` mean running times."""
    mean, _ = running_time(speed)
    least = times * mean
    warm_up = max(least, WARM_UP_JOBS / simulated.arrivals)
    return simulate(simulated, max(least, JOBS / simulated.arrivals), warm_up=warm_up)


def waits(needs: Transactions) -> Iterator[Row]:
    """Yields the rows of the table of waits."""
    for speed in SPEEDS:
        for workers in SIZES:
            for load in LOADS:
                made = cluster(workers, load, speed, needs)
                found = observed(made, speed)
                overloaded = found.growth > OVERLOADED * made.arrivals
                yield {
                    "speed": f"{speed}", "workers": f"{workers:,}", "load": f"{load:.0%}",
                    "jobs/s": f"{made.arrivals:.3g}",
                    "mean wait": "grows" if overloaded else seconds(found.mean_wait),
                    "95 % wait at most": "grows" if overloaded else seconds(found.quantile(0.95)),
                    "workers busy": f"{found.running:.0%}", "events/s": f"{found.events:.3g}",
                    "database busy": f"{found.database:.1%}", "queue locked": f"{found.locked:.1%}",
                }  # fmt: skip


def saturation(needs: Transactions) -> Iterator[Row]:
    """Yields the rows of the table of saturation, each confirmed by a simulation below and above it."""
    for speed in SPEEDS:
        for per_front in (1, WORKERS_PER_FRONT):
            few = observed(cluster(FEW, 0.9, speed, needs, workers_per_front=per_front, watched=1.0), speed)
            busiest, share = max(
                ("processors", few.database), ("lock of the queue", few.locked), key=lambda item: item[1]
            )
            limit = int(FEW / share)
            states = []
            # A front for each of thousands of workers takes too long to simulate.
            for part in (0.8, 1.25) if per_front > 1 else ():
                size = int(part * limit)
                made = cluster(size, 0.9, speed, needs, workers_per_front=per_front, watched=1.0)
                found = observed(made, speed, times=1.5)
                states.append(f"{size:,} workers: {'grows' if found.growth > OVERLOADED * made.arrivals else 'stays'}")
            yield {
                "speed": f"{speed}", "workers per front": per_front, "busiest": busiest,
                "saturated at": f"{limit:,} workers, {0.9 * limit / running_time(speed)[0]:,.0f} jobs/s",
                "queue in the simulation": "; ".join(states) or "not simulated",
            }  # fmt: skip


def traffic(needs: Transactions) -> Iterator[Row]:
    """Yields the rows of the table of network traffic."""
    network_of = network.vgg19()
    pixel = step_seconds()[1024] / 1024**2
    for side in (1024, 4096, 16384):
        for rows in (2, 4):
            sent = network.traffic(network_of, side, rows)
            extra = network.extra_work(network_of, side, rows)
            alone = pixel * side**2
            both = sent.statistics + sent.gradient, sent.statistics + sent.halos
            yield {
                "canvas": f"{side}x{side}", "machines": rows**2, "Gram matrices": megabytes(sent.statistics),
                "whole gradient": megabytes(sent.gradient), "halos": megabytes(sent.halos),
                "1 Gbit/s": " or ".join(seconds(8 * sum_of / 1e9) for sum_of in both),
                "10 Gbit/s": " or ".join(seconds(8 * sum_of / 1e10) for sum_of in both),
                "computing": seconds(alone * extra / rows**2), "on one machine": seconds(alone),
            }  # fmt: skip


def transactions(needs: Transactions) -> Iterator[Row]:
    """Yields the rows of the table of transactions, from the last measurement."""
    measured = json.loads(COSTS.read_text())
    for name, computing in measured["computing"].items():
        yield {
            "transaction": name, "computing of the database": milliseconds(computing),
            "begin to end": milliseconds(measured["begin_to_end"][name]),
        }  # fmt: skip


def seconds(value: float) -> str:
    """Returns a time with its unit."""
    return f"{_three(value)} s" if value >= 0.1 else milliseconds(value)


def milliseconds(value: float) -> str:
    """Returns a short time with its unit."""
    return f"{1000 * value:.2g} ms"


def megabytes(value: float) -> str:
    """Returns a number of bytes with its unit."""
    return f"{_three(value / 1e6)} MB"


def _three(value: float) -> str:
    """Returns a number with three digits, or all digits of a larger one."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


TABLES: dict[str, Callable[[Transactions], Iterator[Row]]] = {
    "transactions": transactions, "waits": waits, "saturation": saturation, "traffic": traffic,
}  # fmt: skip


def table(rows: list[Row]) -> str:
    """Returns rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)


def caption(name: str) -> str:
    """Returns where the numbers of a table were measured."""
    costs, ours = json.loads(COSTS.read_text()), json.loads(RESULTS.read_text())["amx"]["machine"]
    return {
        "transactions": f"{costs['machine']}, PostgreSQL {costs['postgresql']}:\n\n",
        "waits": f"Steps measured on: {ours['cpu']}, {ours['cores']} cores, with matrix units.\n\n",
    }.get(name, "")


def write(page: str, name: str, text: str) -> str:
    """Returns the page with the text between the marks of this name.

    Raises:
        ValueError: the page has no such marks.
    """
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    changed, count = marks.subn(lambda match: f"{match[1]}{text}\n{match[2]}", page)
    if count != 1:
        raise ValueError(f"{PAGE.name} needs <!-- {name} --> and <!-- end --> once")
    return changed


def main(names: list[str]) -> None:
    """Measures the transactions if they are asked for, and writes the named tables, or all."""
    if unknown := set(names) - set(TABLES):
        sys.exit(f"unknown table {', '.join(sorted(unknown))}; the tables are {', '.join(TABLES)}")
    chosen = names or list(TABLES)
    if "transactions" in chosen:
        print("measuring transactions …", flush=True)
        COSTS.write_text(json.dumps(database.measure() | {"machine": description()["cpu"]}, indent=1) + "\n")
    needs = database.costs(json.loads(COSTS.read_text()))
    for name in chosen:
        print(f"simulating {name} …" if name in ("waits", "saturation") else f"writing {name} …", flush=True)
        text = caption(name) + table(list(TABLES[name](needs)))
        PAGE.write_text(write(PAGE.read_text(), name, text))
        print(text, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
