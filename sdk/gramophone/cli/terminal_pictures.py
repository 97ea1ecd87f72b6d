"""Pictures in terminals that can show them: by the protocols of kitty and iTerm2, or as sixels."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import os
import select
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import click

from .console import say

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

Protocol = Literal["kitty", "iterm", "sixel"]

show_option = click.option(
    "--show/--no-show",
    default=True,
    help="Show the result in a terminal that can show pictures (kitty, iTerm2, sixel).  [default: show]",
)

# Longest side in pixels of a shown picture.
_SIDE = 480
# Maximum characters of a piece in kitty's protocol.
_PIECE = 4096
# Seconds to wait for a terminal's answer.
_ANSWER = 0.3
# The number of sixels in a terminal's answer to a request for its attributes.
_SIXELS = "4"
# Colors of a sixel picture.
_COLORS = 255


def show(data: bytes) -> None:
    """Shows a picture file on standard output if that is a terminal that can show pictures.

    Args:
        data: the picture's file; one that Pillow cannot open is not shown.
    """
    protocol = _protocol_here()
    if protocol is None:
        return
    from PIL import Image

    with contextlib.suppress(OSError, ValueError), Image.open(io.BytesIO(data)) as image:
        image.thumbnail((_SIDE, _SIDE))
        say(escape_sequence(image.convert("RGBA"), protocol))


def protocol_of(environment: Mapping[str, str]) -> Protocol | None:
    """Returns the protocol that a terminal's variables name; None if they name none.

    A multiplexer such as tmux keeps the variables of the terminal around it, but does not pass its protocol on.
    """
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if _is_multiplexed(environment):
        return None
    if "KITTY_WINDOW_ID" in environment or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    return None


def escape_sequence(image: Image.Image, protocol: Protocol) -> str:
    """Returns the characters that show an RGBA picture at the cursor."""
    match protocol:
        case "kitty":
            return _kitty(_png(image))
        case "iterm":
            data = _png(image)
            size = f"size={len(data)};width={image.width}px;height={image.height}px"
            return f"\x1b]1337;File=inline=1;{size}:{base64.b64encode(data).decode()}\a"
        case "sixel":
            return _sixel(image)


def _protocol_here() -> Protocol | None:
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    return protocol_of(os.environ) or ("sixel" if _SIXELS in _attributes() else None)


def _is_multiplexed(environment: Mapping[str, str]) -> bool:
    return "TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux"))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _kitty(data: bytes) -> str:
    """See https://sw.kovidgoyal.net/kitty/graphics-protocol/: PNG (f=100), transmitted and shown (a=T) in pieces."""
    text = base64.b64encode(data).decode()
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    last = len(pieces) - 1
    return "".join(
        f"\x1b_G{'' if number else 'a=T,f=100,q=2,'}m={int(number < last)};{piece}\x1b\\"
        for number, piece in enumerate(pieces)
    )


def _sixel(image: Image.Image) -> str:
    """Returns a picture over white as sixels: bands of six rows, each with a run of characters for each of its colors.

    See DEC's VT330/VT340 Programmer Reference Manual, volume 2, chapter 14.
    """
    import numpy as np

    from ..images import on_white

    indexed = on_white(image).convert("RGB").quantize(_COLORS)
    palette = np.array(indexed.getpalette()).reshape(-1, 3) * 100 // 255
    pixels = np.asarray(indexed)
    head = "".join(f"#{i};2;{r};{g};{b}" for i, (r, g, b) in enumerate(palette.tolist()))
    bands = (pixels[top : top + 6] for top in range(0, len(pixels), 6))
    return f'\x1bPq"1;1;{image.width};{image.height}{head}{"-".join(map(_band, bands))}\x1b\\'


def _band(pixels: np.ndarray[Any, Any]) -> str:
    """Returns one band of at most six rows, an array (rows, width) of color numbers."""
    import numpy as np

    weights = 1 << np.arange(len(pixels))[:, None]
    colors = np.unique(pixels).tolist()
    return "$".join(f"#{color}{_runs(((pixels == color) * weights).sum(0).tolist())}" for color in colors)


def _runs(values: list[int]) -> str:
    """Returns the characters of sixel values, with runs of equal ones shortened."""
    lengths = ((chr(63 + value), len(list(run))) for value, run in itertools.groupby(values))
    return "".join(f"!{length}{character}" if length > 3 else character * length for character, length in lengths)


def _attributes() -> list[str]:
    """Returns a terminal's answer to a request for its primary attributes; empty if it does not answer at once."""
    try:
        with _raw_terminal() as descriptor:
            # Keys that wait to be read are not for this command.
            if select.select([descriptor], [], [], 0)[0]:
                return []
            os.write(descriptor, b"\x1b[c")
            answer = b""
            while not answer.endswith(b"c") and select.select([descriptor], [], [], _ANSWER)[0]:
                answer += os.read(descriptor, 64)
    except (ImportError, OSError):
        return []
    start, end = answer.find(b"\x1b[?"), answer.rfind(b"c")
    return answer[start + 3 : end].decode(errors="replace").split(";") if 0 <= start < end else []


@contextlib.contextmanager
def _raw_terminal() -> Iterator[int]:
    """Opens the controlling terminal without echo and line buffering; raises ImportError on Windows."""
    import termios
    import tty

    descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    try:
        before = termios.tcgetattr(descriptor)
        try:
            tty.setcbreak(descriptor, termios.TCSANOW)
            yield descriptor
        finally:
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
    except termios.error as error:
        raise OSError from error
    finally:
        os.close(descriptor)
