"""A queue that is flooded takes exactly what it has room for, and refuses the rest with a time to come again."""

import pytest

from gramophone.v1 import job_pb2, job_service_pb2
from tests.faults.flood import flood
from tests.harness import ServerProcess, endless_request, events
from tests.marks import slow

BOUND, OVER = 64, 500


# All at once is where a bound that is checked before something is awaited gives way; in turns shows how soon a refusal
# comes while the server is not busy with refusing others.
@pytest.mark.parametrize("at_once", [16, slow(BOUND + OVER)])
def test_a_flood_is_taken_up_to_the_bound(at_once: int, long: bool) -> None:
    with ServerProcess("--max-queued", str(BOUND)) as server:
        running = events(server.style.ReconstructStyle(endless_request()))
        while not next(running).HasField("progress"):
            pass
        found = flood(server.address, BOUND + OVER, at_once)
        assert found.refused == {"RESOURCE_EXHAUSTED": OVER}
        assert len(set(found.job_ids)) == BOUND
        print(f"{at_once} at once: a refusal takes {1e3 * found.percentile(0.99):.0f} ms (99 %)")
        if long and at_once == 16:
            assert found.percentile(0.99) < 0.05

        waiting = server.jobs.ListJobs(
            job_service_pb2.ListJobsRequest(page_size=1000, states=[job_pb2.JOB_STATE_QUEUED])
        ).jobs
        assert {job.id for job in waiting} == set(found.job_ids)
        # There is room again as soon as some have gone.
        for job_id in found.job_ids:
            server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        again = events(server.style.ReconstructStyle(endless_request()))
        assert next(again).state == job_pb2.JOB_STATE_QUEUED
        assert "Traceback" not in server.read_log()
