"""The cost of decoding pictures in separate processes, compared with decoding in the same process."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image

from examples.gallery.seascape import seascape
from gramophone_server.decoding.decoders import Decoders
from gramophone_server.decoding.header import read_header
from gramophone_server.decoding.messages import Header, PixelSpec
from gramophone_server.decoding.pictures import decode, write_pixels

ROUNDS = 21
PIXELS = 1 << 26


def measure() -> dict:
    """Measures the time of decoding in a decoder process and in this process, and a decoder's memory."""
    return asyncio.run(_measure())


async def _measure() -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = folder / "picture.jpg"
        seascape(640).resize((4000, 3000), Image.Resampling.BICUBIC).save(picture, quality=95)
        decoders = Decoders(PIXELS)
        begun = time.perf_counter()
        await _in_decoder(decoders, picture, folder)
        first = time.perf_counter() - begun
        ratios, separate = [], []
        for _ in range(ROUNDS):
            here = time.perf_counter()
            await asyncio.to_thread(_in_process, picture, folder)
            there = time.perf_counter()
            await _in_decoder(decoders, picture, folder)
            separate.append(time.perf_counter() - there)
            ratios.append(separate[-1] / (there - here))
        resident = max(child.memory_info().rss for child in psutil.Process().children()) / 2**20
        await decoders.close()
    low, middle, high = statistics.quantiles(ratios, n=4)
    rows = [
        {
            "what": "time in a decoder process relative to decoding in the same process",
            "measured": f"{middle:.2f}x (quartiles {low:.2f}, {high:.2f})",
            "bar": "≤ 1.15x",
        },
        {
            "what": "extra time of the first picture (process start)",
            "measured": f"+{first - min(separate):.2f} s",
            "bar": "",
        },
        {"what": "resident memory of a decoder", "measured": f"{resident:.0f} MB", "bar": "≤ 60 MB"},
    ]
    how = f"A JPEG of 12 million pixels, resized to 512x384; median of {ROUNDS} rounds that alternate both ways."
    return {"title": "Decoding", "how": how, "rows": rows}


def _in_process(picture: Path, folder: Path) -> None:
    with picture.open("rb") as file:
        read_header(file, PIXELS)
        file.seek(0)
        image, _ = decode(file, PIXELS)
        write_pixels(image, 512, 384, "rgb", folder, durable=False)


async def _in_decoder(decoders: Decoders, picture: Path, folder: Path) -> None:
    (header,) = await decoders.headers([picture], "me")
    assert isinstance(header, Header)
    await decoders.decode(picture, header, PixelSpec(512, 384), folder, "me", durable=False)
