"""Pictures in terminals: which protocol is used, what is written, and that nothing is written elsewhere."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gramophone.cli.terminal_pictures import escape_sequence, protocol_of
from tests.cli.terminals import Terminal
from tests.harness import ServerProcess, png

COMMAND = ("style", "style.png", "--size", 32, "--iterations", 10, "--quiet")
KITTY, ITERM, SIXEL, QUESTION = "\x1b_G", "\x1b]1337;File=", "\x1bPq", "\x1b[c"


@pytest.fixture
def folder(tmp_path, monkeypatch, server: ServerProcess) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMOPHONE_SERVER", server.address)
    for name in ("KITTY_WINDOW_ID", "TERM_PROGRAM", "LC_TERMINAL", "TMUX"):
        monkeypatch.delenv(name, raising=False)
    Path("style.png").write_bytes(png())
    return tmp_path


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-256color", "TMUX": "x", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_variables_name_the_protocol(environment, protocol):
    assert protocol_of(environment) == protocol


def picture() -> Image.Image:
    """Returns a picture of 13x20 pixels in 4 colors."""
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [51, 102, 255]], np.uint8)
    return Image.fromarray(colors[np.random.default_rng(1).integers(0, 4, (20, 13))]).convert("RGBA")


def pixels(text: str) -> bytes:
    """Returns the pixels of a PNG in base64."""
    return Image.open(io.BytesIO(base64.b64decode(text))).tobytes()


def test_kitty_gets_the_png_in_pieces():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 4), dtype=np.uint8))
    pieces = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", escape_sequence(noise, "kitty"))
    assert len(pieces) > 2 and all(len(data) <= 4096 for _, data in pieces)
    assert pieces[0][0] == "a=T,f=100,q=2,m=1"
    assert [keys for keys, _ in pieces[1:]] == ["m=1"] * (len(pieces) - 2) + ["m=0"]
    assert pixels("".join(data for _, data in pieces)) == noise.tobytes()


def test_iterm_gets_the_png():
    head, _, data = escape_sequence(picture(), "iterm").rstrip("\a").partition(":")
    assert head.startswith(ITERM) and "width=13px;height=20px" in head
    assert pixels(data) == picture().tobytes()


def test_sixels_have_the_pixels():
    text = escape_sequence(picture(), "sixel")
    assert text.startswith(SIXEL) and text.endswith("\x1b\\")
    found = np.full((24, 13, 3), -1)
    palette: dict[str, list[int]] = {}
    column = top = 0
    color = ""
    for token in re.findall(r'"[\d;]+|#\d+(?:;\d+){4}|#\d+|!\d+.|[?-~]|\$|-', text[3:-2]):
        if token[0] == "#":
            color, *levels = token[1:].split(";")
            palette |= {color: [round(int(level) * 255 / 100) for level in levels[1:]]} if levels else {}
        elif token in "$-":
            column, top = 0, top + 6 * (token == "-")
        elif token[0] != '"':
            length = int(token[1:-1]) if token[0] == "!" else 1
            for bit in range(6):
                if (ord(token[-1]) - 63) >> bit & 1:
                    found[top + bit, column : column + length] = palette[color]
            column += length
    assert np.abs(found[:20] - np.asarray(picture().convert("RGB"), int)).max() <= 3
    assert (found[20:] == -1).all()


@pytest.mark.parametrize(
    ("environment", "sign"),
    [({"TERM": "xterm-kitty"}, KITTY), ({"TERM": "xterm", "TERM_PROGRAM": "iTerm.app"}, ITERM)],
    ids=str,
)
def test_a_result_is_shown_unless_it_is_not_wanted(folder, environment, sign):
    with Terminal(*COMMAND, **environment) as terminal:
        assert terminal.end() == 0
        assert sign in terminal.shown
    with Terminal(*COMMAND, "--no-show", **environment) as terminal:
        assert terminal.end() == 0
        assert sign not in terminal.shown


def test_a_terminal_that_answers_that_it_has_sixels_gets_them(folder):
    with Terminal(*COMMAND, TERM="xterm-256color") as terminal:
        terminal.wait_for(QUESTION)
        terminal.press("\x1b[?62;4;22c")
        assert terminal.end() == 0
        assert SIXEL in terminal.shown


def test_a_terminal_without_sixels_or_without_an_answer_gets_none(folder):
    with Terminal(*COMMAND, TERM="xterm-256color") as terminal:
        terminal.wait_for(QUESTION)
        terminal.press("\x1b[?62;22c")
        assert terminal.end() == 0
        assert SIXEL not in terminal.shown
    with Terminal(*COMMAND, TERM="xterm-256color") as terminal:
        assert terminal.end() == 0
        assert SIXEL not in terminal.shown


def test_nothing_is_written_to_a_file(folder):
    with Path("log").open("w") as log, Terminal(*COMMAND, stdout=log.fileno(), TERM="xterm-kitty") as terminal:
        assert terminal.end() == 0
        assert KITTY not in terminal.shown and QUESTION not in terminal.shown
    assert Path("log").read_text().startswith("out.png: 32x32") and KITTY not in Path("log").read_text()
