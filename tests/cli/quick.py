"""Runs commands in the process of the tests, which is faster than starting a new process."""

import subprocess

from click.testing import CliRunner

from gramophone.cli import main


def gramophone(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `gramophone ARGS` with additional environment variables.

    Raises:
        Exception: an exception that the command did not handle; a separate process would print a traceback.
    """
    words = [str(arg) for arg in args]
    done = CliRunner(env=environment).invoke(main, words, prog_name="gramophone")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
