"""Shell completion and environment variables in the help."""

import pytest

from tests.cli.quick import gramophone


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_names_the_command(shell):
    done = gramophone("completion", shell)
    assert done.returncode == 0
    assert "_GRAMOPHONE_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("gramophone tra", "plain,transfer"),
        ("gramophone transfer --optim", "plain,--optimizer"),
        ("gramophone transfer --optimizer ", "plain,adam"),
        ("gramophone transfer pho", "file,pho"),
        ("gramophone completion ", "plain,fish"),
    ],
)
def test_bash_gets_commands_options_values_and_files(typed, expected):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - (typed[-1] != " "))}
    done = gramophone(_GRAMOPHONE_COMPLETE="bash_complete", **words)
    assert expected in done.stdout.splitlines()


def test_the_help_names_the_variables():
    text = gramophone("transfer", "--help").stdout
    assert "env var: GRAMOPHONE_SERVER" in " ".join(text.split())
    assert "env var: GRAMOPHONE_TOKEN" in " ".join(text.split())
    assert "GRAMOPHONE_KEEP" in gramophone("--help").stdout
