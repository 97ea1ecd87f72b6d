"""`gramophone health`, for the health probes of container engines and process managers."""

import os

import click
import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from gramophone.channel import channel_options
from gramophone.cli.connect import Server, running_server_option
from gramophone.cli.console import fail, say
from gramophone.cli.sentences import errors_as_sentences
from gramophone.credentials import Credentials

from ..observability.readiness import REASON

_DEFAULT = "localhost:50051"


@click.command()
@running_server_option
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, metavar="SECONDS",
    help="Time for the server to respond.",
)  # fmt: skip
def health(server: Server, timeout: float) -> None:
    """Check whether a server serves.

    Prints "serving" and exits with status 0, or prints the reason why not and exits with status 1. Needs no token.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    address = server.address or _DEFAULT
    with errors_as_sentences():
        credentials = Credentials(**server.credentials).loaded(address)
        with credentials.channel(address, channel_options()) as channel:
            reason = _reason(channel, timeout)
    if reason is not None:
        fail(f"the server at {address} {reason}", 1)
    say("serving")


def _reason(channel: grpc.Channel, timeout: float) -> str | None:
    """Returns why the server does not serve; None if it does."""
    try:
        answer, call = HealthStub(channel).Check.with_call(health_pb2.HealthCheckRequest(), timeout=timeout)
    except grpc.RpcError as error:
        return f"cannot be reached: {error.details() or error.code().name}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    reasons = dict(call.trailing_metadata()).get(REASON)
    return f"is not serving: {reasons}" if reasons else "is not serving: it is starting or stopping"
