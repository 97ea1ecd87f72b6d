"""`python -m gramophone_server.worker`: how the front starts a worker process."""

import argparse
from multiprocessing.connection import Connection
from pathlib import Path

from ..logs import configure
from ..messages.pipe import WorkerConfig
from .process import WorkerProcess


def main() -> None:
    """Runs a worker on the file descriptor it was given, until that closes."""
    parser = argparse.ArgumentParser(description="A Gramophone worker; started by the server.")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--memory", type=int)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--checkpoint-every", type=float, default=10.0)
    parser.add_argument("--tensorboard", type=Path)
    parser.add_argument("--log-format", choices=["text", "json"], default="text")
    parser.add_argument("--log-level", default="warning")
    args = parser.parse_args()
    configure(args.log_format, args.log_level)
    config = WorkerConfig(
        device=args.device, threads=args.threads, models=args.models, memory=args.memory,
        checkpoint_every=args.checkpoint_every, tensorboard=args.tensorboard,
        log_format=args.log_format, log_level=args.log_level,
    )  # fmt: skip
    WorkerProcess(Connection(args.fd), config).run()


if __name__ == "__main__":
    main()
