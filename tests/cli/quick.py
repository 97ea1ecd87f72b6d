"""Runs commands within the process of the tests, which takes less time than to start a process."""

import subprocess

from click.testing import CliRunner

from gramophone.cli import main


def gramophone(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `gramophone ARGS` with more environment variables.

    Raises:
        Exception: what the command raised and did not handle; in a process it would be a traceback.
    """
    words = [str(arg) for arg in args]
    done = CliRunner(env=environment).invoke(main, words, prog_name="gramophone")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
