"""A flooded queue accepts exactly as many jobs as it has room for, and refuses the rest with a retry delay."""

import pytest

from gramophone.v1 import job_pb2, job_service_pb2
from tests.faults.flood import flood
from tests.harness import ServerProcess, endless_request, events
from tests.marks import slow

QUEUED, REFUSED = 64, 500


# Many submissions at the same time exceed a limit that is checked before an await. Few at a time show how long a
# refusal takes while the server is not busy refusing others.
@pytest.mark.parametrize("at_once", [16, slow(QUEUED + REFUSED)])
def test_a_flood_is_accepted_up_to_the_limit_of_the_queue(at_once: int, long: bool) -> None:
    with ServerProcess("--max-queued", str(QUEUED)) as server:
        running = events(server.style.ReconstructStyle(endless_request()))
        while not next(running).HasField("progress"):
            pass
        found = flood(server.address, QUEUED + REFUSED, at_once)
        assert found.refused == {"RESOURCE_EXHAUSTED": REFUSED}
        assert len(set(found.job_ids)) == QUEUED
        print(f"{at_once} at once: a refusal takes {1e3 * found.percentile(0.99):.0f} ms (99 %)")
        if long and at_once == 16:
            assert found.percentile(0.99) < 0.05

        waiting = server.jobs.ListJobs(
            job_service_pb2.ListJobsRequest(page_size=1000, states=[job_pb2.JOB_STATE_QUEUED])
        ).jobs
        assert {job.id for job in waiting} == set(found.job_ids)
        # The queue accepts jobs again as soon as some are canceled.
        for job_id in found.job_ids:
            server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        again = events(server.style.ReconstructStyle(endless_request()))
        assert next(again).state == job_pb2.JOB_STATE_QUEUED
        assert "Traceback" not in server.read_log()
