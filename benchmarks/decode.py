"""What it costs that pictures are decoded in processes of their own, beside decoding in the process that asks."""

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
    return asyncio.run(_measure())


async def _measure() -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = folder / "picture.jpg"
        seascape(640).resize((4000, 3000), Image.Resampling.BICUBIC).save(picture, quality=95)
        decoders = Decoders(PIXELS)
        begun = time.perf_counter()
        await _apart(decoders, picture, folder)
        first = time.perf_counter() - begun
        ratios, apart = [], []
        for _ in range(ROUNDS):
            here = time.perf_counter()
            await asyncio.to_thread(_here, picture, folder)
            there = time.perf_counter()
            await _apart(decoders, picture, folder)
            apart.append(time.perf_counter() - there)
            ratios.append(apart[-1] / (there - here))
        resident = max(child.memory_info().rss for child in psutil.Process().children()) / 2**20
        await decoders.close()
    low, middle, high = statistics.quantiles(ratios, n=4)
    rows = [
        {
            "what": "through a decoder process, beside decoding in the same process",
            "measured": f"{middle:.2f}x (quartiles {low:.2f}, {high:.2f})",
            "bar": "≤ 1.15x",
        },
        {"what": "the first picture, which starts the process", "measured": f"+{first - min(apart):.2f} s", "bar": ""},
        {"what": "resident memory of a decoder", "measured": f"{resident:.0f} MB", "bar": "≤ 60 MB"},
    ]
    how = f"A JPEG of 12 million pixels to 512x384, {ROUNDS} times in turns; median."
    return {"title": "Decoding", "how": how, "rows": rows}


def _here(picture: Path, folder: Path) -> None:
    with picture.open("rb") as file:
        read_header(file, PIXELS)
        file.seek(0)
        image, _ = decode(file, PIXELS)
        write_pixels(image, 512, 384, "rgb", folder, durable=False)


async def _apart(decoders: Decoders, picture: Path, folder: Path) -> None:
    (header,) = await decoders.headers([picture], "me")
    assert isinstance(header, Header)
    await decoders.decode(picture, header, PixelSpec(512, 384), folder, "me", durable=False)
