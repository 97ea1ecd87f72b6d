"""The command `gramophone completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .console import say


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes a shell complete commands, options and files.

    \b
    bash:  eval "$(gramophone completion bash)"    in ~/.bashrc
    zsh:   eval "$(gramophone completion zsh)"     in ~/.zshrc
    fish:  gramophone completion fish > ~/.config/fish/completions/gramophone.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    command = click.get_current_context().find_root().command
    say(kind(command, {}, "gramophone", "_GRAMOPHONE_COMPLETE").source())
