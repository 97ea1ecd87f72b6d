"""The command line and the Python client have the same options."""

import dataclasses

import click
import pytest

from gramophone import Options, Style
from gramophone.cli.main import main
from gramophone.cli.styles import FIELDS
from gramophone.options import OPTIONS
from tests.cli.test_commands import gramophone

# Parameters of the commands themselves: input and output files, the server, what is printed.
OF_THE_COMMAND = {
    "help", "output", "quality", "previews", "show", "detach", "server", "quiet", "pictures", "picture", "styles",
}  # fmt: skip
OF_CONNECTING = {"token", "tls", "ca", "cert", "key", "insecure", "insecure_token"}
OF_THE_KIND = {
    "style": {"layers"},
    "content": {"layers"},
    "transfer": {"content_layers", "style_layers", "content_weight", "style_weight"},
}


def parameters(*names: str) -> set[str]:
    command: click.Command = main
    for name in names:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return {str(parameter.name) for parameter in command.params}


@pytest.mark.parametrize("kind", ["style", "content", "transfer"])
def test_commands_and_python_have_the_same_options(kind):
    found = parameters(kind) - OF_THE_COMMAND - OF_CONNECTING
    styles = set() if kind == "content" else set(FIELDS)
    assert found - styles == set(Options.__annotations__) | OF_THE_KIND[kind]


def test_commands_and_python_have_the_same_fields_of_a_style():
    assert set(FIELDS.values()) == {field.name for field in dataclasses.fields(Style)} - {"image"}


def test_an_estimate_takes_the_options_of_all_kinds():
    submission = {option.name for option in OPTIONS if option.path.startswith("submission.")}
    of_kinds = set().union(*OF_THE_KIND.values())
    found = parameters("estimate") - OF_THE_COMMAND - OF_CONNECTING - {"kind"}
    assert found == (set(Options.__annotations__) - submission) | of_kinds | set(FIELDS)


def test_help_shows_each_option_with_its_default():
    shown = " ".join(gramophone("style", "--help").stdout.split())
    for option in OPTIONS:
        assert f"--{option.name.replace('_', '-')} " in shown
        if option.default:
            assert f"default: {option.default}]" in shown, option.name
    for group in {option.group for option in OPTIONS}:
        assert f"{group}: --" in shown
