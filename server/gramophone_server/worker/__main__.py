"""The entry point of a worker process; the front starts it as `python -m gramophone_server.worker --fd NUMBER`."""

import argparse
from multiprocessing.connection import Connection

from ..logs import configure
from ..messages.pipe import WorkerConfig


def main() -> None:
    """Runs a worker on the pipe with the given file descriptor, until the pipe closes.

    The first message on the pipe is the configuration. Environment variables that torch reads at its import are set by
    the front.
    """
    parser = argparse.ArgumentParser(description="A Gramophone worker process; the server starts it.")
    parser.add_argument("--fd", type=int, required=True)
    connection = Connection(parser.parse_args().fd)
    try:
        config: WorkerConfig = connection.recv()
    except (EOFError, OSError):
        return  # The front has closed the pipe.
    configure(config.observability.log_format, config.observability.log_level)
    # This import takes seconds, because of torch. If the front closes the pipe meanwhile, the worker notices it later.
    from .process import WorkerProcess

    WorkerProcess(connection, config).run()


if __name__ == "__main__":
    main()
