"""Decoder processes: limits on time and memory, the end of unneeded processes, and fair sharing between clients."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from gramophone_server.decoding import decoders as module
from gramophone_server.decoding.decoders import Decoders
from gramophone_server.decoding.messages import Header, PictureError, PixelSpec
from gramophone_server.decoding.structure import MAX_SCANS
from tests.harness import encode, png

PIXELS = 1 << 26


_earlier: set[int] = set()
"""Process ids of decoders that tests of other modules have left idle."""


@pytest.fixture
async def decoders() -> AsyncIterator[Decoders]:
    _earlier.clear()
    _earlier.update(child.pid for child in children())
    made = Decoders(PIXELS, slots=2)
    yield made
    await made.close()
    assert not children()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "picture.png").write_bytes(png(60, 40))
    return tmp_path / "picture.png"


def children() -> list[psutil.Process]:
    """Returns the decoder processes that the test has started."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.pid not in _earlier and "gramophone_server.decoding" in " ".join(child.cmdline()):
                found.append(child)
    return found


def large_scans() -> bytes:
    """A slow JPEG: it has nearly as many scans as are allowed, and each scan covers all of its 16 million pixels."""
    data = encode(Image.new("L", (4000, 4000), 99), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * (MAX_SCANS - 10) + data[-2:]


def slow_picture(folder: Path) -> Path:
    (folder / "slow.jpg").write_bytes(large_scans())
    return folder / "slow.jpg"


async def header_of(decoders: Decoders, file: Path) -> Header:
    (found,) = await decoders.headers([file], "me")
    assert isinstance(found, Header), found
    return found


async def test_a_picture_is_decoded_and_scaled_in_a_decoder_process(decoders, picture, tmp_path):
    header = await header_of(decoders, picture)
    assert (header.width, header.height) == (60, 40)
    made = await decoders.decode(picture, header, PixelSpec(30, 20), tmp_path, "me")
    expected = Image.open(picture).resize((30, 20), Image.Resampling.BILINEAR).tobytes()
    assert (tmp_path / made.blob).read_bytes() == expected
    (child,) = children()
    assert child.memory_info().rss < 60e6


async def test_headers_reports_the_error_of_each_file(decoders, picture, tmp_path):
    (tmp_path / "text").write_bytes(b"hello")
    (tmp_path / "empty").write_bytes(b"")
    found = await decoders.headers([picture, tmp_path / "text", tmp_path / "empty"], "me")
    assert isinstance(found[0], Header)
    assert "not a picture" in str(found[1])
    assert "is empty" in str(found[2])


async def test_a_file_that_takes_too_long_to_decode_is_refused(decoders, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 0.1)
    slow = slow_picture(tmp_path)
    begun = time.monotonic()
    with pytest.raises(PictureError, match="too long for its size"):
        await decoders.decode(slow, Header(16, 16, 100 << 20, ""), PixelSpec(16, 16), tmp_path, "me")
    assert time.monotonic() - begun < 30
    assert await header_of(decoders, picture)


async def test_a_file_that_takes_more_memory_than_its_header_predicts_is_refused(decoders, tmp_path):
    data = encode(Image.new("RGB", (8000, 8000)), "PNG")
    (tmp_path / "large.png").write_bytes(data)
    with pytest.raises(PictureError, match="memory"):
        await decoders.decode(tmp_path / "large.png", Header(8, 8, 1 << 20, ""), PixelSpec(16, 16), tmp_path, "me")


async def test_a_picture_that_needs_more_than_all_decoder_memory_is_refused(tmp_path):
    decoders = Decoders(PIXELS, memory=64 << 20)
    (tmp_path / "large.png").write_bytes(encode(Image.new("RGB", (4000, 4000)), "PNG"))
    (found,) = await decoders.headers([tmp_path / "large.png"], "me")
    assert "would take 12" in str(found) and "at most 64" in str(found)
    await decoders.close()


async def test_a_picture_whose_scaling_needs_more_than_all_decoder_memory_is_refused(decoders, tmp_path):
    """The width is scaled before the height, so that a narrow picture needs 8000 x 60,000 pixels here: 1.8 GB."""
    (tmp_path / "narrow.png").write_bytes(encode(Image.new("L", (10, 60_000)), "PNG"))
    header = await header_of(decoders, tmp_path / "narrow.png")
    with pytest.raises(PictureError, match="to scale from 10x60000 to 8000x8000"):
        await decoders.decode(tmp_path / "narrow.png", header, PixelSpec(8000, 8000), tmp_path, "me")
    assert (await decoders.decode(tmp_path / "narrow.png", header, PixelSpec(100, 100), tmp_path, "me")).blob


async def test_a_large_transparent_picture_is_decoded_within_the_memory_of_its_header(decoders, tmp_path):
    image = Image.new("P", (8000, 7000), 1)
    image.putpalette([1, 2, 3] * 256)
    image.putpixel((0, 0), 0)
    file = tmp_path / "large.png"
    file.write_bytes(encode(image, transparency=bytes([0, *[255] * 255])))
    made = await decoders.decode(file, await header_of(decoders, file), PixelSpec(4000, 7000, "rgba"), tmp_path, "me")
    assert made.alpha


async def test_the_regions_of_a_map_are_found_in_a_decoder_process(decoders, tmp_path):
    pixels = np.zeros((3000, 4000, 3), np.uint8)
    pixels[:, 3000:] = (255, 0, 0)
    file = tmp_path / "map.png"
    file.write_bytes(encode(Image.fromarray(pixels)))
    found = await decoders.regions(file, await header_of(decoders, file), 400, 300, tmp_path, "me")
    assert [(region.color, region.area) for region in found.regions] == [("#000000", 0.75), ("#ff0000", 0.25)]
    assert (tmp_path / found.blob).read_bytes() == (b"\0" * 300 + b"\1" * 100) * 300
    file.write_bytes(encode(Image.effect_noise((300, 200), 100)))
    with pytest.raises(PictureError, match="not a map"):
        await decoders.regions(file, await header_of(decoders, file), 300, 200, tmp_path, "me")


async def test_a_killed_decoder_is_replaced_without_an_error(decoders, picture, tmp_path):
    header = await header_of(decoders, picture)
    (child,) = children()
    child.suspend()
    decoding = asyncio.create_task(decoders.decode(picture, header, PixelSpec(30, 20), tmp_path, "me"))
    await asyncio.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    assert (await decoding).blob


async def test_a_decoder_that_crashes_refuses_the_picture(decoders, picture, tmp_path):
    header = await header_of(decoders, picture)
    (child,) = children()
    child.suspend()
    decoding = asyncio.create_task(decoders.decode(picture, header, PixelSpec(30, 20), tmp_path, "me"))
    await asyncio.sleep(0.2)
    child.send_signal(signal.SIGSEGV)
    child.resume()
    with pytest.raises(PictureError, match="makes the decoder fail"):
        await decoding


async def test_a_cancelled_call_ends_its_decoder(decoders, tmp_path):
    slow = slow_picture(tmp_path)
    decoding = asyncio.create_task(
        decoders.decode(slow, Header(4000, 4000, 30 << 20, ""), PixelSpec(16, 16), tmp_path, "me")
    )
    await asyncio.sleep(0.5)
    (child,) = children()
    decoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await decoding
    psutil.wait_procs([child], timeout=5)
    await asyncio.sleep(0.1)
    assert not child.is_running()


async def test_an_idle_decoder_exits(monkeypatch, picture):
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.2)
    decoders = Decoders(PIXELS)
    assert await header_of(decoders, picture)
    assert len(children()) == 1
    async with asyncio.timeout(5):
        while children():  # noqa: ASYNC110 - there is no event for the end of another process
            await asyncio.sleep(0.05)
    assert await header_of(decoders, picture)
    await decoders.close()


async def test_one_client_cannot_use_all_decoders(decoders, picture, tmp_path):
    slow = slow_picture(tmp_path)
    header = Header(4000, 4000, 30 << 20, "")
    greedy = [
        asyncio.create_task(decoders.decode(slow, header, PixelSpec(16, 16), tmp_path, "greedy")) for _ in range(5)
    ]  # fmt: skip
    await asyncio.sleep(0.5)
    begun = time.monotonic()
    await decoders.headers([picture], "modest")
    assert time.monotonic() - begun < 1
    assert not any(task.done() for task in greedy)
    for task in greedy:
        task.cancel()
    await asyncio.gather(*greedy, return_exceptions=True)
