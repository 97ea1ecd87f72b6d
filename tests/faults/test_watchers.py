"""A thousand watchers of one job: readers receive its end, and streams that are not read cost little memory."""

import asyncio
import time

import psutil
import pytest

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from tests.faults.checks import check_unharmed, resident
from tests.faults.crowd import Crowd
from tests.harness import ServerProcess, events, run, style_request

# Bytes that the front may grow by with all streams open and reports buffered for each.
MOST_GROWTH = 100 << 20


@pytest.mark.slow
async def test_a_thousand_watchers_receive_the_end_of_a_job(long: bool) -> None:
    reading, not_reading = 950, 50
    with ServerProcess() as server:
        # Previews so large that a few reports fill a small window; the job ends by its time limit.
        preview = options_pb2.PreviewOptions(format=options_pb2.IMAGE_FORMAT_PNG)
        request = style_request(iterations=1_000_000, size=64, report_every=5, preview=preview)
        request.options.time_limit.seconds = 45 if long else 10
        request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
        await asyncio.to_thread(run, server, style_request())
        workers, before = server.workers(), resident(server)
        stream = events(server.style.ReconstructStyle(request))
        job_id = next(stream).job_id

        crowd = Crowd(server.address, job_id, reading=reading, not_reading=not_reading)
        begun = time.monotonic()
        await crowd.gather()
        gathered = time.monotonic() - begun
        peak = 0
        waiting = asyncio.create_task(crowd.wait())
        while not waiting.done():
            peak = max(peak, resident(server) - before)
            await asyncio.sleep(0.1)
        await waiting
        assert crowd.last == {"JOB_STATE_SUCCEEDED": reading}
        assert crowd.progress > reading  # Readers received progress while the job ran.
        assert peak < MOST_GROWTH
        # Streams that were not read so far still deliver the end of the job.
        assert await crowd.read_late() == [job_pb2.JOB_STATE_SUCCEEDED] * not_reading
        await crowd.leave()
        result = server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job.result
        print(
            f"{reading} readers and {not_reading} others connected within {gathered:.1f} s, front +{peak >> 20} MiB, "
            f"{crowd.progress} reports read, {result.iterations} iterations in this time"
        )
        check_unharmed(server, workers)
        front = psutil.Process(server.process.pid)
        assert front.num_fds() < 200  # All connections of the crowd are closed.
