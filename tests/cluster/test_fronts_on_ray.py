"""Two servers on one database, with workers on three Ray nodes: the same bytes, and no job lost whatever is killed."""

import contextlib
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

import gramophone
from tests.faults.clusters import ends
from tests.faults.recovery import ONE_THREAD
from tests.harness import ServerProcess, wait_until

from .fronts import KINDS, Parts, two_fronts
from .paintings import Painted, Painting, paint, paint_all, various

pytestmark = [pytest.mark.slow, pytest.mark.service]

JOBS, KILLS = 40, 10
# Another value of this variable than its printed one gives other moments, and kills other parts in another order.
SEED = "GRAMOPHONE_CHAOS_SEED"
# Seconds for jobs to end after the last kill.
PATIENCE = 300


def undisturbed(paintings: list[Painting]) -> list[bytes]:
    """Returns the pictures of a single local worker."""
    with ServerProcess(*ONE_THREAD) as server, gramophone.Client(server.address) as client:
        return [paint(client, one).data for one in paintings]


@contextlib.contextmanager
def painting(parts: Parts, paintings: list[Painting]) -> Iterator[list[Future[Painted]]]:
    """Submits jobs at both servers in turn, with a thread for each that follows it."""
    with (
        gramophone.Client(parts.fronts[0].server.address) as one,
        gramophone.Client(parts.fronts[1].server.address) as other,
        ThreadPoolExecutor(len(paintings)) as threads,
    ):
        yield paint_all((one, other), paintings, threads)


@pytest.mark.timeout(900)
def test_forty_mixed_jobs_make_the_same_bytes_as_on_one_local_worker(ray_nodes, postgres, tmp_path):
    paintings = various(JOBS, iterations=24)
    expected = undisturbed(paintings)
    with two_fronts(tmp_path, postgres, ray_nodes) as parts:
        with painting(parts, paintings) as threads:
            painted = [one.result(PATIENCE) for one in threads]
        logs = [front.server.read_log() for front in parts.fronts]
    assert [one.data for one in painted] == expected
    assert ends(postgres.url) == {one.job_id: 1 for one in painted}
    assert all(one.frames == sorted(one.frames) for one in painted)
    assert all("succeeded" in log for log in logs), "one server has run all jobs"
    assert not any("Traceback" in log for log in logs)


@pytest.mark.timeout(3600)
def test_no_job_is_lost_or_ends_twice_whatever_is_killed(ray_nodes, postgres, tmp_path, long):
    seed = int(os.environ.get(SEED, random.randrange(1000)))
    print(f"{SEED}={seed}")
    times = 4 if long else 1
    paintings = various(JOBS * times, iterations=300)
    expected = undisturbed(paintings)
    with two_fronts(tmp_path, postgres, ray_nodes) as parts:
        with painting(parts, paintings) as threads:
            kill_at_random_moments(parts, threads, KILLS * times, random.Random(seed))
            painted = [one.result(PATIENCE) for one in threads]
        log = parts.log()
    assert [one.data for one in painted] == expected
    assert ends(postgres.url) == {one.job_id: 1 for one in painted}
    resumed = ray_nodes.worker_logs().count("resumes at iteration")
    print(f"{resumed} times a job continued from a checkpoint")
    assert resumed
    assert "Traceback" not in log


def kill_at_random_moments(parts: Parts, jobs: list[Future[Painted]], kills: int, rng: random.Random) -> None:
    """Kills parts of all kinds while the jobs run."""
    kinds = [*KINDS * (kills // KILLS), *rng.choices(KINDS[:-1], k=kills - len(KINDS) * (kills // KILLS))]
    rng.shuffle(kinds)
    # The moments are numbers of ended jobs, so that jobs run at each, on a fast machine and on a slow one.
    moments = sorted(rng.randrange(len(jobs) * 3 // 4) for _ in kinds)
    for moment, kind in zip(moments, kinds, strict=True):
        wait_until(partial(_have_ended, jobs, moment), f"{moment} ended jobs", PATIENCE)
        time.sleep(rng.uniform(0.0, 2.0))
        running = len(jobs) - _ended(jobs)
        assert running, "all jobs had ended before the last kill"
        begun = time.monotonic()
        parts.kill(kind, rng)
        print(f"killed a {kind} with {running} jobs left; started again after {time.monotonic() - begun:.1f} s")


def _have_ended(jobs: list[Future[Painted]], number: int) -> bool:
    return _ended(jobs) >= number


def _ended(jobs: list[Future[Painted]]) -> int:
    """Returns how many jobs have ended; raises the error of one whose client has had an error."""
    return len([job.result() for job in jobs if job.done()])
