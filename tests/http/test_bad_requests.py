"""Each invalid request gets the same status and the same fields by gRPC, Connect, gRPC-Web and plain JSON."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.api.test_bad_requests import CASES, call, violations
from tests.http import web

_PATHS = {
    pb.ReconstructStyleRequest: ("ReconstructStyle", "/jobs/style"),
    pb.ReconstructContentRequest: ("ReconstructContent", "/jobs/content"),
    pb.TransferStyleRequest: ("TransferStyle", "/jobs/transfer"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_invalid_request_gets_the_same_status_and_fields_by_each_protocol(server, case):
    request, code, field, _ = CASES[case]
    with pytest.raises(grpc.RpcError) as caught:
        call(server, request)
    expected = code.name.lower(), violations(caught.value)
    assert field in expected[1]
    method, submit = _PATHS[type(request)]
    path = f"/gramophone.v1.StyleTransferService/{method}"

    for codec in ("proto", "json"):
        messages, end = web.connect_stream(server.url, path, request, codec)
        assert not messages
        assert web.error_of(end["error"]) == expected

    messages, trailers = web.grpc_web(server.url, path, request)
    assert not messages
    assert of_status(trailers) == (code.value[0], expected[1])

    answer = web.post_json(server.url, submit, request)
    assert answer.status == {"invalid_argument": 400, "not_found": 404}[expected[0]]
    assert answer.error() == expected


def of_status(trailers: web.Headers) -> tuple[int, dict[str, str]]:
    status = web.status_of(trailers)
    assert str(status.code) == trailers["grpc-status"]
    found: dict[str, str] = {}
    for detail in status.details:
        wrong: Any = error_details_pb2.BadRequest()
        if detail.Unpack(wrong):
            found |= {v.field: v.description for v in wrong.field_violations}
    return status.code, found
