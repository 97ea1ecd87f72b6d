"""Generated requests with any values that the contract's messages can hold get a typed error or a valid response."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings

from gramophone.v1 import job_service_pb2
from tests.faults.calls import METHODS, PICTURES, UPLOADED, Call, calls
from tests.faults.checks import check_end, check_error, check_unharmed
from tests.harness import ServerProcess, run, style_request


@pytest.fixture(scope="module")
def small() -> Iterator[ServerProcess]:
    """A server with limits so low that no call takes long."""
    with ServerProcess("--max-pixels", "10000", "--max-iterations", "5", "--max-queued", "4") as server:
        yield server


@pytest.mark.timeout(1800)
@pytest.mark.slow
def test_generated_calls_get_a_documented_error_or_a_valid_response(small: ServerProcess, long: bool) -> None:
    run(small, style_request())
    workers = small.workers()
    upload = job_service_pb2.UploadImageRequest(sha256=UPLOADED, data=PICTURES[0])
    small.jobs.UploadImage(iter([upload]))
    job_ids: list[str] = []
    outcomes: dict[str, int] = {}
    stubs = {"StyleTransferService": small.style, "JobService": small.jobs, "ModelService": small.models}

    # Derandomized, because a server's response depends on earlier calls. The long form draws new calls each time.
    @settings(
        max_examples=2000 if long else 120,
        deadline=None,
        database=None,
        derandomize=not long,
        suppress_health_check=list(HealthCheck),
    )
    @given(call=calls(lambda: job_ids[-3:]))
    def check_call(call: Call) -> None:
        method = getattr(stubs[call.method.containing_service.name], call.method.name)
        outcome = "OK"
        try:
            take(method, call, job_ids)
        except grpc.RpcError as error:
            request = call.requests[0] if call.requests else job_service_pb2.UploadImageRequest()
            outcome = check_error(error, request).name
        key = f"{call.method.name} {outcome}"
        outcomes[key] = outcomes.get(key, 0) + 1

    check_call()
    print(outcomes)
    called, methods = {key.split()[0] for key in outcomes}, {method.name for method in METHODS}
    # The short form may leave out some methods.
    assert called == methods if long else len(called) > len(methods) / 2
    # If fewer calls succeeded, the test would reach little beyond the first check.
    accepted = sum(count for key, count in outcomes.items() if key.endswith("OK"))
    assert accepted > sum(outcomes.values()) / 4, outcomes
    check_unharmed(small, workers)


def take(method: Any, call: Call, job_ids: list[str]) -> None:
    """Makes a call and reads its response to the end."""
    answer = method(iter(call.requests) if call.method.client_streaming else call.requests[0], timeout=30)
    if not call.method.server_streaming:
        return
    last = None
    for response in answer:
        last = response
    if last is not None and call.method.output_type.fields_by_name.get("event"):
        check_end(last.event)
        job_ids.append(last.event.job_id)
