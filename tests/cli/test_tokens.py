"""`gramophone tokens`; valid commands run in a separate process."""

import os
import subprocess
import sys
from pathlib import Path

from gramophone_server.security.caller import Caller
from gramophone_server.security.tokens import TokenFile
from tests.cli.quick import gramophone


def tokens(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gramophone", "tokens", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | environment)


def test_add_list_and_remove(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    alice = tokens("add", "alice", "--file", file).stdout
    root = tokens("add", "root", "--admin", GRAMOPHONE_TOKENS=str(file)).stdout
    known = TokenFile(file)
    # The command prints the token and nothing else, so that $(gramophone tokens add …) gives a token.
    assert known.caller(alice.removesuffix("\n")) == Caller("alice", admin=False)
    assert known.caller(root.removesuffix("\n")) == Caller("root", admin=True)
    listed = tokens("list", "--file", file).stdout
    assert listed == "alice\nroot  admin\n"
    assert tokens("remove", "alice", "--file", file).returncode == 0
    assert known.caller(alice.strip()) is None
    assert tokens("list", "--file", file).stdout == "root  admin\n"


def test_invalid_arguments_are_reported_in_sentences(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    gramophone("tokens", "add", "alice", "--file", file)
    for args, words, status in (
        (["add", "alice", "--file", file], "remove it first", 1),
        (["add", "a/b", "--file", file], "cannot be a client's name", 1),
        (["remove", "bob", "--file", file], "no token for bob", 1),
        (["list", "--file", tmp_path / "nowhere"], "there is no file", 1),
        (["list"], "--file", 2),
        (["add", "bob", "--file", "/proc/nowhere/tokens.json"], "cannot be written", 1),
    ):
        done = gramophone("tokens", *args)
        assert done.returncode == status, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_help_describes_the_commands() -> None:
    assert "Add, list and remove clients" in tokens("--help").stdout
