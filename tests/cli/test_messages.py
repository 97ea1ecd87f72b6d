"""Invalid values: the error message names the option as the user wrote it, and says what to write instead."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gramophone.cli import connect, main
from gramophone_server.security.tokens import add_token
from tests.harness import ServerProcess, png

# Field names of the contract and values of enums: they mean nothing to a user of the command line.
FIELDS = re.compile(r"options\.|styles\[|(content|style)_layers|job_id|INIT_|COLOR_|RESULT_|image\.|size=|tls=|None")


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(png())
    Path("no.png").write_text("a text")


def run(*args: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, args)


VALUES = [
    ("--size 7", "--size is 7, but must be 16 to 8192"),
    ("--size x", "'--size': 'x' is not a whole number"),
    ("--size 99999999999", "'--size': 99999999999 is too large"),
    ("--size 12.5", "'--size': '12.5' is not a whole number"),
    ("--fit x", "'--fit': 'x' is not one of 'longest_side', 'square'"),
    ("--iterations 0", "--iterations is 0, but must be 1 to 1000000"),
    ("--learning-rate nan", "--learning-rate must be a finite number, not nan; write 1"),
    ("--init content", "--init is content, but a style reconstruction has no content picture"),
    ("--init no.png", "--init is not a picture"),
    ("--init-noise 2", "--init-noise is 2.0, but must be"),
    ("--seed -5", "--seed must be at least 0, not -5"),
    ("--seed 4294967296", "'--seed': 4294967296 is too large"),
    ("--seed 99999999999999999999", "'--seed': 99999999999999999999 is too large"),
    ("--scales 99", "--scales is 99, but must be 0 to 8"),
    ("--averaging 2", "--averaging is 2.0"),
    ("--plateau -1", "--plateau is -1.0"),
    ("--lbfgs-history 0", "--lbfgs-history is 0"),
    ("--tile-size 3", "--tile-size is 3"),
    ("--bit-depth 3", "'--bit-depth': '3' is not one of '8', '16'"),
    ("--tv-weight -1", "--tv-weight is -1.0"),
    ("--report-every -1", "--report-every is -1, but must be 0 to 1000000"),
    ("--time-limit -3", "--time-limit is -3 s, but must be greater than 0"),
    ("--time-limit inf", "'--time-limit': 'inf' is not a number of seconds"),
    ("--time-limit nan", "'--time-limit': 'nan' is not a number of seconds"),
    ("--model nope", "--model: there is no model 'nope'; the installed models are"),
    ("--priority 99", "--priority is 99, but must be -10 to 10"),
    ("--layers 9", "--layers must be a number from 1 to 5, or names, not 9"),
    ("--layers foo", "--layers is 'foo', but the model"),
    ("--layers conv1_1=-1", "--layers is -1.0"),
    ("--layers conv1_1=x", "'--layers': 'x' is not a number"),
    ("--layers ,", "'--layers': ',' contains no layer"),
    ("--mask a.png --mask b.png", "--mask is given 2 times, but there is 1 style"),
    ("--mask no.png", "no.png is not a picture"),
    ("--source-mask no.png", "no.png is not a picture"),
    ("--canvas-map a.png", "--source-map is missing, but --canvas-map is set"),
    ("--source-map a.png", "a.png is a map, but --canvas-map"),
    ("--canvas-map a.png --source-map a.png", "--canvas-map is not a map of regions in flat colors"),
    ("--size 7 --seed -1", "--seed must be at least 0, not -1"),
]


@pytest.mark.parametrize(("options", "words"), VALUES)
def test_invalid_values_of_style(server: ServerProcess, options: str, words: str) -> None:
    refused(run("style", "a.png", *options.split(), GRAMOPHONE_SERVER=server.address), words)


OTHER_COMMANDS = [
    ("content a.png --layer 3", "--layer must be names"),
    ("content a.png --layer conv9_1", "--layer is 'conv9_1'"),
    ("content no.png", "no.png is not a picture"),
    ("transfer a.png b.png --content-weight -1", "--content-weight is -1.0"),
    ("transfer a.png b.png --style-weight nan", "--style-weight must be a finite number, not nan"),
    ("transfer a.png b.png --content-layers foo", "--content-layers is 'foo'"),
    ("transfer a.png b.png --style-layers foo=2", "--style-layers is 'foo'"),
    ("transfer no.png b.png", "no.png is not a picture"),
    ("transfer a.png --style b.png --style no.png", "no.png is not a picture"),
    ("estimate style a.png --size 3", "--size is 3"),
    ("estimate style no.png", "no.png is not a picture"),
    ("estimate transfer a.png no.png", "no.png is not a picture"),
    ("sweep a.png --sizes 3", "--sizes is 3"),
    ("sweep a.png --sizes 224,,", "'--sizes': '' is not a whole number"),
    ("sweep a.png --sizes 99999999999", "'--sizes': 99999999999 is too large"),
    ("sweep a.png --seeds -1", "--seeds must be at least 0, not -1"),
    ("sweep a.png --layers 9", "--layers must be a number from 1 to 5"),
    ("sweep a.png --size 64", "No such option '--size'"),
    ("jobs list --limit 0", "'--limit': 0 is not in the range"),
    ("jobs list --since x", "'--since': 'x' is not a time such as 2h"),
    ("jobs show x", "JOB_ID"),
    ("jobs list --cert a.png", "'--cert': a.png is not a PEM file"),
    ("jobs list --ca a.png", "'--ca': a.png is not a PEM file"),
    ("jobs list --ca nowhere", "'--ca': File 'nowhere' does not exist"),
    ("jobs list --server= ", "the address is empty; write the server's address"),
    ("jobs list --server http://localhost:50051", "is a URL; write localhost:50051\n"),
    ("jobs list --server https://there.example/x", "is a URL; write there.example:50051 with --tls"),
    ("style a.png --server localhost", "'localhost' is not a host and a port; write localhost:50051"),
    ("jobs list --server :7", "write localhost:7"),
    ("jobs list --server localhost:99999", "write localhost:50051"),
    ("jobs list --server localhost:abc", "write localhost:50051"),
    ("jobs top --server [::1]", "write [::1]:50051"),
    ("jobs top --server ::1", "write [::1]:50051"),
]


@pytest.mark.parametrize(("command", "words"), OTHER_COMMANDS)
def test_invalid_values_of_other_commands(server: ServerProcess, command: str, words: str) -> None:
    refused(run(*command.split(), GRAMOPHONE_SERVER=server.address), words)


def test_a_token_over_an_unencrypted_connection_is_refused() -> None:
    refused(run("jobs", "list", "--token", "x", "--server", "example.org:50051"), "give --tls, or --ca")


def refused(done: Result, words: str) -> None:
    """Checks that the command failed with a message that has the words, and no field names of the contract."""
    assert done.exit_code == 2, done.stderr
    assert words in done.stderr, done.stderr
    assert not FIELDS.search(done.stderr), done.stderr


def test_an_unreachable_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "_SHORT_RETRY", 0.3)
    for args in (["jobs", "list"], ["jobs", "top"], ["style", "a.png"]):
        done = run(*args, "--server", "127.0.0.1:9")
        assert done.exit_code == 1
        assert "`gramophone serve` starts a server" in done.stderr


def test_a_server_that_requires_a_token(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    token = add_token(tokens, "ann", admin=False)
    with ServerProcess("--tokens", str(tokens)) as server:
        for args in (["jobs", "list"], ["style", "a.png"], ["jobs", "top", "--once"]):
            done = run(*args, "--server", server.address)
            assert done.exit_code == 1
            assert "give --token TOKEN, or set $GRAMOPHONE_TOKEN" in done.stderr
            assert "metadata" not in done.stderr
        done = run("jobs", "list", "--server", server.address, "--token", "gramophone_wrong")
        assert done.exit_code == 1
        assert "Give another token with --token or $GRAMOPHONE_TOKEN" in done.stderr
        assert run("jobs", "list", "--server", server.address, GRAMOPHONE_TOKEN=token).exit_code == 0


def test_tls_to_a_server_without_tls(server: ServerProcess) -> None:
    """The error is one line: gRPC's own log messages are not shown."""
    command = [sys.executable, "-m", "gramophone", "jobs", "list", "--tls", "--server", server.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: no encrypted connection") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--host http://localhost", "'http://localhost' is a URL; write the host alone, such as localhost"),
        ("--host localhost:50051", "write --host localhost --port 50051"),
        ("--host [::1]:7", "write --host [::1] --port 7"),
        ("--port 99999", "'--port': 99999 is not in the range"),
        ("--models nowhere", "'--models': Directory 'nowhere' does not exist"),
        ("--device gpu", "'--device': 'gpu' cannot be a device"),
        ("--memory 5", "'--memory': '5' is less than"),
        ("--keep x", "'--keep': 'x' is not a size; write it as 3GB"),
        ("--keep-days nan", "'--keep-days': 'nan' is not a finite number"),
    ],
)
def test_invalid_values_of_serve(options: str, words: str) -> None:
    done = run("serve", "--port", "0", *options.split())
    assert done.exit_code == 2, done.stderr
    assert words in done.stderr, done.stderr
