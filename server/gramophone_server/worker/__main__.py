"""`python -m gramophone_server.worker --fd NUMBER`: how the front starts a worker process."""

import argparse
from multiprocessing.connection import Connection

from ..logs import configure
from ..messages.pipe import WorkerConfig


def main() -> None:
    """Runs a worker on the pipe whose file descriptor it is given, until that closes.

    The first message is its configuration. What torch reads at its import, the front has put into the environment.
    """
    parser = argparse.ArgumentParser(description="A Gramophone worker; started by the server.")
    parser.add_argument("--fd", type=int, required=True)
    connection = Connection(parser.parse_args().fd)
    try:
        config: WorkerConfig = connection.recv()
    except (EOFError, OSError):
        return  # The front has gone.
    configure(config.observability.log_format, config.observability.log_level)
    # Takes seconds, for torch; a front that has gone meanwhile is noticed at its end.
    from .process import WorkerProcess

    WorkerProcess(connection, config).run()


if __name__ == "__main__":
    main()
